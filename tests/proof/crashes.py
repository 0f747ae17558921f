"""One scenario with everything in it, and a daemon that dies at a given point of it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from metta_jobs.daemon import control
from metta_jobs.daemon.lock import holder
from metta_jobs.manager import JobManager
from metta_jobs.paths import StateDir
from metta_jobs.policy import RetryPolicy
from metta_jobs.states import JobState
from tests.processes import until
from tests.proof.checker import broken, witness

GROUP = "g"


def tally(root: Path, path: Path) -> list[str]:
    """The crash points that a daemon passes which is never killed, in order."""
    play(root, path.with_name("witness"), fatal=0, tally_path=path)
    return [line.split(" ", 1)[1] for line in path.read_text().splitlines()]


def play(root: Path, log: Path, *, fatal: int, tally_path: Path) -> tuple[list[str], bool]:
    """Play the scenario with a daemon that dies at its `fatal`-th crash point.

    Return the promises that do not hold, and whether it came to that point: how many there are varies a little.
    """
    os.environ["METTA_CPUS"] = "2"
    with JobManager(root) as manager:
        crashing = subprocess.Popen(
            [sys.executable, "-m", "tests.proof.crashing_daemon", str(root), str(fatal), str(tally_path)]
        )
        until(lambda: crashing.poll() is not None or holder(root / "daemon.lock") is not None, "the daemon")
        try:
            _scenario(manager, log)
        finally:
            control.stop(StateDir(root))
            crashing.wait(30)
        return broken(root, log) + _expected(manager), crashing.returncode == -9


def _scenario(manager: JobManager, log: Path) -> None:
    again = RetryPolicy(max_attempts=2, backoff_s=0)
    manager.submit(
        [
            witness("victim", log, 600, grace_s=0.2),
            *(witness(f"quick{i}", log) for i in range(6)),
            witness("slow", log, 0.3),
            *(witness(f"later{i}", log) for i in range(4)),
            witness("a", log),
            witness("b", log, depends_on=("a",)),
            witness("fails", log, code=3, retry=again),
            witness("judged", log, acceptance="reward >= 5"),
            witness("never", log, depends_on=("fails",)),
            witness("rescue", log, depends_on=("afternotok:fails",)),
            witness("anyway", log, depends_on=("afterany:never", "b")),
        ],
        group=GROUP,
    )
    until(lambda: manager.job(1).state is JobState.RUNNING or manager.start_daemon() is None, "the victim's start")
    manager.kill([1])
    _wait(manager)
    manager.retry([f"{GROUP}/fails"])
    _wait(manager)


def _wait(manager: JobManager) -> None:
    """Wait for the group; a daemon that has died is followed by another at once."""

    def over() -> bool:
        if manager.daemon() is None:
            manager.start_daemon()
        return not manager.groups()[0].counts.unfinished

    until(over, "the end of the group")


def _expected(manager: JobManager) -> list[str]:
    """How each job must have ended, whatever was killed."""
    ends = {job.name: job for job in manager.group(GROUP).jobs}
    wrong = []
    for name, job in ends.items():
        state = {"victim": "killed", "fails": "failed", "judged": "failed", "never": "skipped"}.get(name, "succeeded")
        if job.state.value != state:
            wrong.append(f"{name} is {job.state.value} ({job.reason}), not {state}")
    if ends["fails"].attempt != 4:
        wrong.append(f"fails has had {ends['fails'].attempt} attempts, not 2 of its policy and 2 after the retry")
    return wrong
