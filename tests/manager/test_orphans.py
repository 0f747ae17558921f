"""Managed jobs that nobody looks after: found by `metta job list --remote-orphans`, cancelled or taken back."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from metta_jobs.cli.app import app
from metta_jobs.daemon.house import House
from metta_jobs.executors.sky.executor import SkyExecutor
from metta_jobs.job import JobConfig, RemoteConfig
from metta_jobs.manager import facade
from metta_jobs.manager import sky as foreground
from metta_jobs.states import JobState
from metta_jobs.testing import ManualClock, add, make_house, views
from tests.executors.seam_fake import FakeSky
from tests.executors.sky_rounds import kill, pass_time


@pytest.fixture
def sky() -> FakeSky:
    return FakeSky()


@pytest.fixture
def house(tmp_path: Path, sky: FakeSky, monkeypatch: pytest.MonkeyPatch) -> House:
    """A queue whose daemon is ours to turn, and a command line that asks the same SkyPilot."""
    made = make_house(tmp_path)
    assert isinstance(made.clock, ManualClock)
    made.executors = {**made.executors, "skypilot": SkyExecutor(made.state_dir, sky, made.clock)}  # type: ignore[arg-type]
    monkeypatch.setenv("METTA_JOB_STATE", str(tmp_path))
    monkeypatch.setattr(foreground, "find_python", lambda setting: "python")
    monkeypatch.setattr(foreground, "SkyClient", lambda python, log: sky)
    monkeypatch.setattr(sky, "close", lambda: None)
    monkeypatch.setattr(facade.control, "ensure", lambda state_dir: None)
    monkeypatch.setattr(facade.JobManager, "_settled", lambda self, ids: pass_time(made, 1))
    return made


def lost_and_found(house: House, sky: FakeSky, name: str = "a") -> tuple[int, int]:
    """A job that ended as LOST while its managed job was out of sight: (job, managed job)."""
    (job,) = add(house, JobConfig(name=name, command=("train",), remote=RemoteConfig(infra="k8s")), group=name)
    pass_time(house, 10)
    managed = sky.named(f"-{job}-1")
    sky.set(managed, "RUNNING")
    pass_time(house, 10)
    sky.hidden.add(managed)
    pass_time(house, 300, 5)
    assert views(house, job)[0].state is JobState.LOST
    sky.hidden.clear()
    return job, managed


def orphans(*options: str) -> tuple[int, dict[str, Any], str]:
    done = CliRunner().invoke(app, ["job", "list", "--remote-orphans", "--json", *options])
    return done.exit_code, json.loads(done.stdout), done.stderr


def test_what_a_job_owns_is_no_orphan(house: House, sky: FakeSky) -> None:
    add(house, JobConfig(name="a", command=("train",), remote=RemoteConfig(infra="k8s")))
    pass_time(house, 10)
    assert len(sky.jobs) == 1
    sky.jobs[8] = {"job_id": 8, "job_name": "metta-00000000-1-1-a", "status": "RUNNING"}  # of another project
    assert orphans("--cancel") == (0, {"orphans": [], "cancelled": True, "adopted": []}, "")
    assert sky.cancelled == []


def test_an_orphan_is_named_and_cancelled(house: House, sky: FakeSky) -> None:
    job, managed = lost_and_found(house, sky)
    code, found, _ = orphans()
    assert code == 0
    assert [(one["managed_id"], one["job_id"], one["status"]) for one in found["orphans"]] == [
        (managed, job, "RUNNING")
    ]
    orphans("--cancel")
    assert sky.cancelled == [managed]


def test_an_orphan_is_taken_back_and_ends_as_its_job(house: House, sky: FakeSky) -> None:
    job, managed = lost_and_found(house, sky)
    code, found, told = orphans("--adopt")
    assert (code, found["adopted"]) == (0, [managed])
    assert f"Managed job {managed} is job {job} (a/a) again." in told
    pass_time(house, 10)
    (view,) = views(house, job)
    assert (view.state, view.attempt) == (JobState.RUNNING, 2)
    assert view.remote is not None and view.remote.managed_id == managed
    assert orphans()[1]["orphans"] == []
    sky.end(managed, 3)
    pass_time(house, 70)
    (view,) = views(house, job)
    assert (view.state, view.exit_code) == (JobState.FAILED, 3)  # its evidence was read: the mark was known
    assert len(sky.launches) == 1


def test_a_retry_after_that_is_launched_anew(house: House, sky: FakeSky) -> None:
    job, managed = lost_and_found(house, sky)
    orphans("--adopt")
    sky.end(managed, 3)
    pass_time(house, 70)
    with facade.JobManager() as manager:
        manager.retry([job])
    pass_time(house, 10)
    assert len(sky.launches) == 2
    assert views(house, job)[0].attempt == 3


def test_what_cannot_be_taken_back_is_told(house: House, sky: FakeSky) -> None:
    job, _ = lost_and_found(house, sky)
    name = sky.jobs[1]["job_name"]
    sky.jobs[7] = {"job_id": 7, "job_name": name.replace(f"-{job}-1", "-99-1"), "status": "RUNNING"}
    with facade.JobManager() as manager:
        manager.retry([job])
    pass_time(house, 10)
    code, found, told = orphans("--adopt")
    assert (code, found["adopted"]) == (1, [])
    assert "there is no job 99 here. --cancel ends it." in told
    assert f"its job {job} (a/a) is launching." in told
    kill(house, job)
