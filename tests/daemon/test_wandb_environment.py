"""What W&B's client is told in a job's environment, here and elsewhere."""

from __future__ import annotations

from pathlib import Path

import pytest

from metta_jobs.daemon import launch
from metta_jobs.paths import StateDir
from metta_jobs.remote import RemoteConfig
from metta_jobs.store.queue import LiveAttempt


def attempt(number: int, **env: str) -> LiveAttempt:
    return LiveAttempt(
        key=(7, number),
        group="lr",
        name="a=1",
        executor="skypilot",
        remote=RemoteConfig(env={"FROM": "remote"}).model_dump(mode="json"),
        lane="",
        boot="",
        gpus=(),
        command=("python", "train.py"),
        cwd=None,
        env=env,
        timeout_s=None,
        queue_timeout_s=None,
        grace_s=15,
        max_log_mb=None,
        retry=None,
        tries=0,
        environment="",
        secrets=(),
        named_secrets=(),
    )


@pytest.fixture
def queue(tmp_path: Path) -> StateDir:
    return StateDir(tmp_path)


def elsewhere(queue: StateDir, one: LiveAttempt, submitted: dict[str, str], secrets: dict[str, str]) -> dict[str, str]:
    assert one.remote is not None
    return dict(launch._elsewhere(one, one.remote, queue, submitted, secrets).environment)


def test_every_attempt_is_the_same_run_here_and_elsewhere(queue: StateDir) -> None:
    first, second = attempt(1), attempt(2)
    here = [launch.build_environment(one, queue, {"WANDB_TAGS": "t"}) for one in (first, second)]
    there = [elsewhere(queue, one, {"WANDB_TAGS": "t", "HOME": "/home/me"}, {}) for one in (first, second)]
    for environment in (*here, *there):
        assert environment["WANDB_RUN_ID"] == f"lr-a-1-7-{queue.mark}"
        assert (environment["WANDB_RUN_GROUP"], environment["WANDB_NAME"]) == ("lr", "a=1")
        assert (environment["WANDB_RESUME"], environment["WANDB_MODE"]) == ("allow", "offline")
        assert environment["WANDB_TAGS"] == "t"
        assert "WANDB_SERVICE" not in environment
    assert [environment["METTA_ATTEMPT"] for environment in there] == ["1", "2"]
    assert here[0]["WANDB_DIR"] != here[1]["WANDB_DIR"]
    assert "WANDB_DIR" not in there[0], "the node says where"
    assert "HOME" not in there[0]


def test_elsewhere_a_key_that_is_sent_decides_the_mode(queue: StateDir) -> None:
    assert elsewhere(queue, attempt(1), {}, {"WANDB_API_KEY": "k"})["WANDB_MODE"] == "online"
    assert elsewhere(queue, attempt(1), {"WANDB_MODE": "disabled"}, {"WANDB_API_KEY": "k"})["WANDB_MODE"] == "disabled"


def test_what_the_configuration_names_is_kept_but_never_the_folder(queue: StateDir) -> None:
    own = {"WANDB_RUN_ID": "mine", "WANDB_RUN_GROUP": "g2", "WANDB_DIR": "/elsewhere"}
    here, there = launch.build_environment(attempt(1, **own), queue, {}), elsewhere(queue, attempt(1, **own), {}, {})
    for environment in (here, there):
        assert (environment["WANDB_RUN_ID"], environment["WANDB_RUN_GROUP"]) == ("mine", "g2")
        assert environment["WANDB_NAME"] == "a=1"
    assert here["WANDB_DIR"] == str(queue.root / "jobs/7/1")


def test_queues_have_marks_of_their_own(tmp_path: Path) -> None:
    for name in "ab":
        (tmp_path / name).mkdir()
    assert StateDir(tmp_path / "a").mark == StateDir(tmp_path / "a").mark != StateDir(tmp_path / "b").mark
