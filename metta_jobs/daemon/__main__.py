"""`python -m metta_jobs.daemon STATE_DIR`: the daemon as a process of its own."""

from __future__ import annotations

import sys
from pathlib import Path

from metta_jobs.daemon.service import log_to, run
from metta_jobs.errors import MettaError
from metta_jobs.paths import StateDir


def main() -> int:
    """Run until stopped; 2 with a sentence on stderr when that cannot be."""
    root = Path(sys.argv[1])
    try:
        log_to(StateDir(root).daemon_log)
        run(root)
    except (MettaError, OSError) as error:
        print(error, file=sys.stderr)  # noqa: T201
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
