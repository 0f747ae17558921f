"""A group is killed while one job is pending, one starting and one running, among jobs of somebody else's."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from metta_jobs.job import Dependency, JobConfig
from metta_jobs.manager import JobManager
from metta_jobs.remote import RemoteConfig
from metta_jobs.states import JobState
from tests.bed.bed import Bed
from tests.processes import metta, until
from tests.skypilot.asker import PATIENCE_S, Asker

pytestmark = [pytest.mark.skypilot, pytest.mark.timeout(1500), pytest.mark.xdist_group("skypilot-2")]

OTHER = "0ddba11c"  # SkyPilot knows people by eight hexadecimal digits
#: A partition that is not there: SkyPilot keeps trying, which costs nothing.
NOWHERE = "slurm/bed/closed"
LIVE = {"PENDING", "SUBMITTED", "STARTING", "RUNNING"}


class Person:
    """Somebody who uses the same API server."""

    def __init__(self, bed: Bed, user: str | None) -> None:
        self._bed, self._user = bed, {} if user is None else {"SKYPILOT_USER_ID": user, "SKYPILOT_USER": "somebody"}

    def does(self, *words: str) -> Any:
        """What as_user.py answers."""
        script = Path(__file__).with_name("as_user.py")
        done = subprocess.run(
            [self._bed.python, "-I", str(script), *words],
            env={**os.environ, **self._user},
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return json.loads(done.stdout.splitlines()[-1])

    def statuses(self) -> dict[int, str]:
        """The status of everybody's jobs, by managed id."""
        return {managed_id: status for managed_id, _, status, _ in self.does("queue")}


@pytest.fixture
def somebody(bed: Bed) -> Iterator[Person]:
    """Another user, whose jobs are cancelled afterwards."""
    person = Person(bed, OTHER)
    yield person
    left = [str(job) for job, _, status, user in person.does("queue") if user == OTHER and status in LIVE]
    if left:
        person.does("cancel", *left)


def test_kill_of_a_group_and_of_orphans_among_the_jobs_of_somebody_else(
    manager: JobManager, asker: Asker, bed: Bed, somebody: Person, name_start: str, project: Path
) -> None:
    remote = RemoteConfig(infra="slurm", gpus=0, cpus=0.5, workdir=None)

    def sleeps(name: str, *parents: str) -> JobConfig:
        after = tuple(Dependency.parse(parent) for parent in parents)
        return JobConfig(name=name, command=("sleep", "3600"), remote=remote, depends_on=after)

    manager.submit([sleeps("running"), sleeps("pending", "running")], group="g")
    # The same name as a job of ours, and that of a job of another project; and one that ours has forgotten.
    same, other = f"{name_start}1-1-running", "metta-0123abcd-1-1-running"
    theirs = {*somebody.does("launch", "slurm", same), *somebody.does("launch", NOWHERE, other)}
    (forgotten,) = Person(bed, None).does("launch", NOWHERE, f"{name_start}999-1-forgotten")
    listed = metta("job", "list", "--remote-orphans", "--json", cwd=project)
    assert [orphan["managed_id"] for orphan in json.loads(listed.stdout)["orphans"]] == [forgotten], listed.stderr

    until(lambda: manager.job(1).state is JobState.RUNNING, "the start of the first", PATIENCE_S)
    manager.submit([sleeps("starting")], group="g")

    def starting() -> bool:
        records = asker.records(f"{name_start}3-")
        return bool(records) and records[0]["status"] == "STARTING"

    until(starting, "the start of the second", PATIENCE_S)
    assert [job.state for job in manager.jobs(["g"])] == [JobState.RUNNING, JobState.PENDING, JobState.LAUNCHING]

    manager.kill(["g"])
    cancelled = metta("job", "list", "--remote-orphans", "--cancel", "--json", cwd=project)
    assert [orphan["managed_id"] for orphan in json.loads(cancelled.stdout)["orphans"]] == [forgotten], cancelled.stderr
    jobs = manager.wait(["g"], timeout_s=PATIENCE_S)
    assert {job.name: job.state for job in jobs} == dict.fromkeys(("running", "pending", "starting"), JobState.KILLED)
    until(lambda: not asker.records(name_start, skip_finished=True), "the end of all that is ours", PATIENCE_S)
    statuses = somebody.statuses()
    assert {statuses[job] for job in theirs} <= LIVE
    assert statuses[forgotten] == "CANCELLED"

    def left() -> list[str]:
        """What Slurm still has of ours: the names of clusters end with their owner's hash."""
        names = bed.slurm("squeue", "-h", "-o", "%j").split()
        return [name for name in names if name.startswith(name_start) and OTHER not in name]

    until(lambda: not left(), "the end of all that is ours in Slurm", PATIENCE_S)
