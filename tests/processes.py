"""What tests ask of processes and of time."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from metta_jobs.daemon.lock import holder
from metta_jobs.executors import journal, processes
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


@dataclass
class Runner:
    """What a runner's journal tells."""

    pid: int
    start: str
    journal: Path
    taken: list[tuple[int, int]]
    ended: list[tuple[int, int]]


def runners(root: Path) -> list[Runner]:
    """The runners of a state folder, by their journals; those that have not begun to write are left out."""
    found = []
    for path in sorted((root / "runners").glob("*.journal")):
        lines: list[dict[str, Any]] = journal.read(str(path)) or []
        if lines and lines[0]["is"] == "born":
            keys = {
                what: [tuple(line["key"]) for line in lines if line["is"] == what and "key" in line]
                for what in ("taken", "ended")
            }
            found.append(Runner(lines[0]["pid"], lines[0]["start"], path, keys["taken"], keys["ended"]))
    return found


def runner_of(root: Path, job: int, attempt: int = 1) -> Runner:
    """The runner that has taken an attempt."""
    return until(lambda: next((r for r in runners(root) if (job, attempt) in r.taken), None), "its runner")


def members_of(root: Path, job: int, attempt: int = 1) -> list[int]:
    """The live processes of an attempt that carry its token, or descend from its runner; without the runner."""
    runner = runner_of(root, job, attempt)
    found = processes.members(runner.pid, runner.start, StateDir(root).token(job, attempt))
    return [pid for pid in found if pid != runner.pid]


def processes_of(root: Path) -> list[int]:
    """All live processes of all attempts of a state folder."""
    return [pid for pid in psutil.pids() if processes.belongs_to(pid, str(root)) and processes.start_mark(pid)]


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
