"""get_wandb_service(): jobs of the queue first, then what only W&B knows."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest

from metta_jobs.errors import InvalidInput, UnknownName
from metta_jobs.experiment import WandbService, get_wandb_service
from metta_jobs.job import JobConfig
from metta_jobs.manager import JobManager
from tests.metrics.wandb_server import Run, Server

TRAIN = """
import os
with open(os.environ["METTA_JOB_DIR"] + "/progress.csv", "w") as file:
    print("global_step,rollout/ep_rew_mean,time/fps\\n100,1.5,900\\n200,2.5,950", file=file)
"""


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    with Server() as server:
        for name, value in server.environment().items():
            monkeypatch.setenv(name, value)
        yield server
        assert server.unknown == []


@pytest.fixture
def offline(manager: JobManager) -> Iterator[WandbService]:
    with get_wandb_service("toy", state_dir=manager.state_dir) as service:
        assert not service.online
        yield service


def train(manager: JobManager) -> None:
    env = {"WANDB_TAGS": "research,short"}
    good = JobConfig(name="good", command=(sys.executable, "-c", TRAIN), env=env)
    bad = JobConfig(name="bad", command=("false",))
    manager.submit([good, bad], group="g")
    manager.wait(["g"], timeout_s=60)


def test_jobs_of_the_queue_need_no_w_and_b(manager: JobManager, offline: WandbService) -> None:
    train(manager)
    found = offline.find_training_jobs(order="created_at")
    assert [(run.name, run.state, run.source) for run in found] == [
        ("good", "succeeded", "local"),
        ("bad", "failed", "local"),
    ]
    good, bad = found
    assert good.tags == ("research", "short")
    assert [run.name for run in offline.find_training_jobs(tags=["short", "other"])] == ["good"]
    assert offline.find_training_jobs(state="failed", author=bad.author) == [bad]
    assert offline.find_training_jobs(author="nobody-of-this-name") == []
    assert offline.find_training_jobs(group="later") == []
    assert offline.find_training_jobs(created_after="2999-01-01") == []
    assert offline.find_training_jobs(created_before=datetime(2001, 1, 1, tzinfo=UTC)) == []
    assert [run.name for run in offline.find_training_jobs(order="name", limit=1)] == ["bad"]
    series = offline.get_run_metrics("g/good")
    assert (series["overview/reward"].values, series["overview/sps"].steps) == ([1.5, 2.5], [100.0, 200.0])
    assert offline.get_run_progress(good).reward == 2.5
    assert offline.get_run_summary(good.job_id or 0)["time/fps"] == 950
    assert offline.get_run(good.run_id) == good
    assert offline.get_run_config("g/bad") == {}
    assert len(offline.get_run_metrics(bad)["overview/reward"]) == 0
    assert offline.get_run_statuses(["g/good", bad]) == {"g/good": "succeeded", "bad": "failed"}


def test_what_cannot_be_asked_is_refused_with_the_nearest(manager: JobManager, offline: WandbService) -> None:
    train(manager)
    with pytest.raises(UnknownName, match=r"Did you mean 'g/good'\? W&B was not asked, for there is no login"):
        offline.get_run("g/goood")
    with pytest.raises(InvalidInput, match=r"Did you mean 'succeeded'\?"):
        offline.find_training_jobs(state="succeded")
    with pytest.raises(InvalidInput, match="created_at, name, state"):
        offline.find_training_jobs(order="reward")
    with pytest.raises(InvalidInput, match="2026-01-31"):
        offline.find_training_jobs(created_after="yesterday")
    with pytest.raises(InvalidInput, match="at least one"):
        offline.find_training_jobs(limit=0)


def test_runs_that_only_w_and_b_knows_come_too(manager: JobManager, server: Server) -> None:
    train(manager)
    with get_wandb_service("toy", state_dir=manager.state_dir) as service:
        good = service.get_run("g/good")
        for number, (name, state) in enumerate([(good.run_id, "finished"), ("far", "crashed"), ("old", "running")]):
            run = Run("toy", name, name, "g" if number < 2 else "h", ["research"], {"lr": {"value": 1}}, state=state)
            run.rows = [{"_step": i, "overview/reward": float(i)} for i in range(10)]
            run.summary, run.created = {"overview/reward": 9.0, "_step": 9}, 1.6e9 + number
            server.add(run)
        found = service.find_training_jobs(group="g")
        assert [(run.name, run.source) for run in found] == [("bad", "local"), ("good", "local"), ("far", "wandb")]
        assert server.count("Runs") == 1
        (far,) = service.find_training_jobs(state="lost")
        assert (far.name, far.author, far.stale) == ("far", "ann", None)
        assert far.url and far.url.endswith("/team/toy/runs/far")
        assert service.get_run_metrics(far)["overview/reward"].values == [float(i) for i in range(10)]
        assert service.get_run_config("team/toy/far") == {"lr": 1}
        assert service.get_run_statuses([far, "old", "g/good"]) == {
            "far": "lost",
            "old": "running",
            "g/good": "succeeded",
        }
        assert service.find_training_jobs(author="ann", created_before="2020-09-13T12:26:40") == []
        server.fault = lambda name: (503, 0.0)
        assert service.get_run_metrics("g/good")["overview/reward"].values == [1.5, 2.5], "read from the disk"
