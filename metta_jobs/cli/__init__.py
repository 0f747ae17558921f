"""The command line: parse, call the manager, render. No logic."""

from __future__ import annotations

import sys


def main() -> None:
    """The entry point `metta`."""
    from metta_jobs.cli.quick import quick

    act = quick(sys.argv[1:])
    if act is not None:
        from metta_jobs.cli.guard import guarded

        guarded(act, debug=False)
    from metta_jobs.cli.app import run

    run()
