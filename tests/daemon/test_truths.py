"""What a new user found untrue or out of sight, and is no more."""

from __future__ import annotations

from pathlib import Path

import pytest

from metta_jobs.errors import InvalidInput
from metta_jobs.job import JobConfig
from metta_jobs.manager import JobManager
from metta_jobs.policy import GroupConfig
from metta_jobs.states import JobState
from tests.processes import until


def test_a_job_waits_for_a_secret_that_the_daemon_was_not_told(
    manager: JobManager, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HFT", "tok-123")
    manager.submit([JobConfig(name="first", command=("sleep", "600"), cpus=4, grace_s=0.1)], group="g")
    script = f'test "$HFT" = tok-123 && touch {tmp_path}/had'
    manager.submit([JobConfig(name="needs", command=("sh", "-c", script), secrets=("HFT",))], group="g")
    manager.stop_daemon()
    monkeypatch.delenv("HFT")
    manager.start_daemon()
    manager.kill([1])
    until(lambda: "needs the secret HFT" in (manager.job(2).reason or ""), "the reason")
    assert manager.job(2).state is JobState.LAUNCHING
    manager.stop_daemon()
    monkeypatch.setenv("HFT", "tok-123")
    manager.start_daemon()
    assert manager.wait([2], timeout_s=60)[0].state is JobState.SUCCEEDED
    assert (tmp_path / "had").exists()


def test_what_a_command_leaves_running_is_told(manager: JobManager) -> None:
    manager.submit([JobConfig(name="a", command=("sh", "-c", "sleep 600 & sleep 600 & exit 0"))], group="g")
    assert manager.wait([1], timeout_s=60)[0].state is JobState.SUCCEEDED
    notes = [event.reason for event in manager.events([1]) if event.kind == "note"]
    assert notes == ["its command ended and left 2 processes running: ended, too"]


def test_nothing_is_put_into_a_group_that_was_stopped(manager: JobManager) -> None:
    manager.submit([JobConfig(name="f", command=("false",))], group="g", options=GroupConfig(max_failures=1))
    manager.wait(["g"], timeout_s=60)
    with pytest.raises(InvalidInput, match=r"stopped after 1 failure \(max_failures=1\)"):
        manager.submit([JobConfig(name="later", command=("true",))], group="g")
    manager.edit_group("g", ["max_failures=2"])
    manager.submit([JobConfig(name="later", command=("true",))], group="g")
    with pytest.raises(InvalidInput, match="max_failures=1 would stop the group at once"):
        manager.edit_group("g", ["max_failures=1"])
    assert manager.wait(["g"], timeout_s=60)[1].state is JobState.SUCCEEDED


def test_a_job_without_cpus_is_not_named_for_those_in_use(manager: JobManager) -> None:
    manager.submit(
        [
            JobConfig(name="zero", command=("sleep", "600"), cpus=0, grace_s=0.1),
            JobConfig(name="four", command=("sleep", "600"), cpus=4, grace_s=0.1),
            JobConfig(name="waits", command=("true",)),
        ],
        group="g",
    )
    until(lambda: manager.job(3).reason == "no free CPU slot (4 of 4 in use by 2)", "the reason")
