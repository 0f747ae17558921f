"""The daemon, a runner, a submitter and a migration are killed at every point in turn."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from metta_jobs.job import JobConfig
from metta_jobs.manager import JobManager
from metta_jobs.states import JobState
from tests.conftest import clean_up
from tests.processes import until
from tests.proof.checker import broken, witness
from tests.proof.crashes import play, tally

PARTS = 10


@pytest.fixture(scope="session")
def points(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    folder = tmp_path_factory.mktemp("points")
    return tally(folder / "job_state", folder / "tally")


@pytest.mark.parametrize("part", range(PARTS))
def test_a_daemon_killed_at_any_point_loses_nothing_and_runs_nothing_twice(
    points: list[str], tmp_path: Path, part: int
) -> None:
    assert {"before commit", "after order run", "before order drop", "after order stop"} <= set(points)
    died = []
    for fatal in range(part + 1, len(points) + 1, PARTS):
        root = tmp_path / str(fatal) / "job_state"
        root.parent.mkdir()
        try:
            wrong, dead = play(root, root.parent / "witness", fatal=fatal, tally_path=root.parent / "tally")
        finally:
            clean_up(root)
        assert wrong == [], f"killed at point {fatal}, {points[fatal - 1]}"
        died.append(dead)
    # On a busy machine rounds fall together, and some of the last points are not come to.
    assert sum(died) > 0.5 * len(died)


@pytest.mark.parametrize("fatal", range(1, 13))
def test_a_runner_killed_at_any_point_leaves_the_truth(tmp_path: Path, state_dir: Path, fatal: int) -> None:
    daemon = subprocess.Popen(
        [sys.executable, "-m", "tests.proof.crashing_runner", "daemon", str(state_dir), str(fatal)],
        env={**os.environ, "METTA_CPUS": "2"},
    )
    log = tmp_path / "witness"
    with JobManager(state_dir) as manager:
        until(lambda: manager.daemon() is not None, "the daemon")
        jobs = [witness(f"quick{i}", log) for i in range(5)]
        jobs += [witness("slow", log, 0.2), witness("last", log, depends_on=("afterany:slow",))]
        manager.submit(jobs, group="g")
        ended = manager.wait(["g"], timeout_s=60)
        manager.stop_daemon()
    daemon.wait(30)
    # Killed between the end of a command and the record of it, nobody can know how it ended.
    wrong = [line for line in broken(state_dir, log) if "is told to be lost" not in line]
    assert wrong == []
    states = {(job.state, job.reason) for job in ended if job.state is not JobState.SUCCEEDED}
    assert {state for state, _ in states} <= {JobState.LOST}, states


_SUBMIT = """
import os, signal, sys
from metta_jobs import JobConfig, JobManager
from metta_jobs.store import engine
passed = 0
def point():
    global passed
    passed += 1
    if passed == int(sys.argv[2]):
        os.kill(os.getpid(), signal.SIGKILL)
original = engine.Store._connect
class Connection:
    def __init__(self, real): self._real = real
    def execute(self, statement, *rest):
        point()
        result = self._real.execute(statement, *rest)
        point()
        return result
    def executemany(self, statement, *rest):
        point()
        result = self._real.executemany(statement, *rest)
        point()
        return result
    def __getattr__(self, name): return getattr(self._real, name)
def connect(self):
    if self._connection is None:
        self._connection = Connection(original(self))
    return self._connection
engine.Store._connect = connect
manager = JobManager(sys.argv[1])
jobs = [JobConfig(name="a", command=("true",)), JobConfig(name="b", command=("true",), depends_on=("a",))]
manager.submit(jobs, group="g")
print("returned", passed)
"""


def test_a_submitter_killed_at_any_statement_has_stored_all_or_nothing(state_dir: Path, tmp_path: Path) -> None:
    with JobManager(state_dir) as manager:
        manager.submit([JobConfig(name="first", command=("true",))], group="warm")  # the daemon runs
        whole, nothing = 0, 0
        for fatal in [*range(1, 40, 3), 1000]:
            done = subprocess.run(
                [sys.executable, "-c", _SUBMIT, str(state_dir), str(fatal)], capture_output=True, text=True, check=False
            )
            groups = {group.name: group for group in manager.groups()}
            if "returned" in done.stdout:
                assert groups["g"].counts.total == 2
            if "g" in groups:
                assert groups["g"].counts.total == 2
                whole += 1
                assert {job.state for job in manager.wait(["g"], timeout_s=30)} == {JobState.SUCCEEDED}
                break
            nothing += 1
        assert whole == 1 and nothing > 3
    assert [line for line in broken(state_dir, tmp_path / "none") if "never ended by itself" not in line] == []
