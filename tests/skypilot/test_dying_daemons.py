"""The daemon is killed ten times on the way of three launches: SkyPilot has each job once, and none is lost."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from metta_jobs.job import JobConfig
from metta_jobs.manager import JobManager
from metta_jobs.remote import RemoteConfig
from metta_jobs.states import JobState
from tests.processes import until
from tests.skypilot.asker import PATIENCE_S, Asker

pytestmark = [pytest.mark.skypilot, pytest.mark.timeout(1500), pytest.mark.xdist_group("skypilot-1")]

#: Each job, and where the daemons die that follow each other on the way of its launch.
POINTS = {
    "early": ("before ledger", "after ledger", "after asked", "sent", "before id", "after id"),
    "answered": ("before request", "before id"),
    "noted": ("after request", "after id"),
}


def test_daemons_that_die_at_each_point_of_a_launch(
    manager: JobManager, asker: Asker, name_start: str, tmp_path: Path
) -> None:
    traces = tmp_path / "traces"
    for name, points in POINTS.items():
        for point in points:
            with _crashing(manager, point):
                if point == points[0]:
                    manager.submit([_traced(name, traces)], group="g")
    manager.start_daemon()
    jobs = manager.wait(["g"], timeout_s=PATIENCE_S)
    assert {job.name: (job.state, job.attempt) for job in jobs} == dict.fromkeys(POINTS, (JobState.SUCCEEDED, 1))
    assert Counter(traces.read_text().split()) == dict.fromkeys(POINTS, 1)
    records = Counter((record["job_name"], record["status"]) for record in asker.records(name_start))
    assert records == {(f"{name_start}{job.id}-1-{job.name}", "SUCCEEDED"): 1 for job in jobs}


def _traced(name: str, traces: Path) -> JobConfig:
    """A job that leaves a line here: the node is this machine."""
    return JobConfig(
        name=name,
        command=("sh", "-c", 'echo "$0" >> "$1"', name, str(traces)),
        remote=RemoteConfig(infra="slurm", gpus=0, cpus=0.5, workdir=None),
    )


@contextmanager
def _crashing(manager: JobManager, point: str) -> Iterator[None]:
    """A daemon for the block, and then until it has died at this point."""
    command = [sys.executable, "-m", "tests.skypilot.crashing_daemon", str(manager.state_dir), point]
    daemon = subprocess.Popen(command, cwd=Path(__file__).parents[2])
    try:
        until(lambda: manager.daemon() is not None or daemon.poll() is not None, "the daemon")
        yield
        assert daemon.wait(PATIENCE_S) == -signal.SIGKILL, f"it never came to the point {point!r}"
    finally:
        daemon.kill()
        daemon.wait()
