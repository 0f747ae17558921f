"""A program for a terminal: the monitor of a group whose jobs end when a file appears."""

import sys
from pathlib import Path

from display_cases import make_group, make_job

from metta_jobs.display.monitor import monitor
from metta_jobs.display.snapshot import MonitorState
from metta_jobs.errors import StoreError
from metta_jobs.states import JobState


def main(folder: Path, refresh: float) -> None:
    (folder / "output.log").write_text("before\x1b[2J\x07 the log\n")

    def fetch() -> MonitorState:
        if (folder / "fails").exists():
            raise StoreError("The database is busy.")
        state = JobState.SUCCEEDED if (folder / "finish").exists() else JobState.RUNNING
        jobs = [make_job(n, f"job{n}", state, folder=folder) for n in range(1, 40)]
        return MonitorState(make_group(jobs, "watched"))

    print("ENDED", monitor(fetch, refresh=refresh, once="--once" in sys.argv), flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), float(sys.argv[2]))
