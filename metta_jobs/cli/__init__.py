"""The command line: parse, call the manager, render. No logic."""

from __future__ import annotations


def main() -> None:
    """The entry point `metta`."""
    from metta_jobs.cli.app import run

    run()
