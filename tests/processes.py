"""What tests ask of processes and of time."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from metta_jobs.daemon.lock import holder
from metta_jobs.paths import StateDir

PATIENCE_S = 60.0


def until(condition: Callable[[], Any], what: str = "the condition", patience_s: float = PATIENCE_S) -> Any:
    """Wait until `condition()` is true and return its value; fail the test when it never is."""
    deadline = time.monotonic() + patience_s
    while not (value := condition()):
        assert time.monotonic() < deadline, f"waited {patience_s:.0f} s in vain for {what}"
        time.sleep(0.01)
    return value


def kill_daemon(root: Path) -> int | None:
    """SIGKILL the daemon of a state folder and wait until it is gone; return its pid, None when none ran."""
    found = holder(root / "daemon.lock")
    if found is None:
        return None
    os.kill(found.pid, signal.SIGKILL)

    def gone() -> bool:
        now = holder(root / "daemon.lock")
        return now is None or now.pid != found.pid

    until(gone, "the daemon's death")
    return found.pid


def attempt_records(root: Path) -> Iterator[dict[str, Any]]:
    """The pid.json of every attempt that has a readable one, with the attempt's token."""
    for path in root.glob("jobs/*/*/pid.json"):
        attempt, job = path.parent.name, path.parent.parent.name
        try:
            yield json.loads(path.read_text()) | {"token": StateDir(root).token(int(job), int(attempt))}
        except (ValueError, TypeError):
            continue


def metta(
    *arguments: str | Path, cwd: Path | None = None, input: str = "", timeout: float = 120, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run the program as a person would, and return how it ended."""
    return subprocess.run(
        [sys.executable, "-m", "metta_jobs", *map(str, arguments)],
        cwd=cwd,
        input=input,
        capture_output=True,
        text=True,
        timeout=timeout,
        env={**os.environ, "COLUMNS": "120", **environment},
        check=False,
    )
