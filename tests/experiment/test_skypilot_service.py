"""An experiment elsewhere: what SkyPilot is asked to run, and what the service says of it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from metta_jobs.daemon.house import House
from metta_jobs.errors import InvalidInput
from metta_jobs.executors.sky.executor import SkyExecutor
from metta_jobs.experiment import (
    BaseExperimentConfig,
    SingleJobExperiment,
    SkypilotJobConfig,
    TrainingJobConfig,
    TrainingRunConfig,
    get_skypilot_service,
)
from metta_jobs.experiment.preview import preview
from metta_jobs.job import JobConfig
from metta_jobs.manager import JobManager, checks, facade, preflight
from metta_jobs.manager import sky as foreground
from metta_jobs.states import JobState
from metta_jobs.testing import ManualClock, make_house
from tests.executors.seam_fake import FakeSky
from tests.executors.sky_rounds import pass_time


@pytest.fixture
def sky() -> FakeSky:
    return FakeSky()


@pytest.fixture
def house(tmp_path: Path, sky: FakeSky, monkeypatch: pytest.MonkeyPatch) -> House:
    """A queue whose daemon is ours to turn, in a project with some code."""
    project = tmp_path / "project"
    project.mkdir()
    (project / "pyproject.toml").write_text("")
    (project / "train.py").write_text("")
    monkeypatch.chdir(project)
    made = make_house(tmp_path / "state")
    assert isinstance(made.clock, ManualClock)
    made.executors = {**made.executors, "skypilot": SkyExecutor(made.state_dir, sky, made.clock)}  # type: ignore[arg-type]
    monkeypatch.setenv("METTA_JOB_STATE", str(tmp_path / "state"))
    for module in (foreground, preflight, checks):
        monkeypatch.setattr(module, "find_python", lambda setting: "python")
    monkeypatch.setattr(foreground, "SkyClient", lambda python, log: sky)
    monkeypatch.setattr(sky, "close", lambda: None)
    monkeypatch.setattr(sky, "_check", lambda: {"healthy": True, "enabled": ["kubernetes", "gcp"]}, raising=False)
    monkeypatch.setattr(facade.control, "ensure", lambda state_dir: None)
    return made


class Train(SingleJobExperiment[BaseExperimentConfig]):
    """A Hydra program on a machine elsewhere."""

    program = ("python", "train.py")


def config(**fields: Any) -> BaseExperimentConfig:
    return BaseExperimentConfig(**{"name": "g", "infra": "gcp", "gpus": 4, "nodes": 2, "notebook": False, **fields})


def test_the_node_finds_the_file_where_its_command_says(house: House, sky: FakeSky) -> None:
    (run,) = Train(config()).runs()
    group = Train(config()).launch()
    pass_time(house, 10)
    task = sky.jobs[sky.named("-1-1")]["task"]
    assert task["file_mounts"] == {"/tmp/metta_train_config.yaml": str(run.yaml_path)}
    command = (sys.executable, "train.py", "--config-path", "/tmp", "--config-name", "metta_train_config")
    assert group.jobs[0].command == command
    assert task["num_nodes"] == 2 and task["resources"]["accelerators"] == {"8GB+": 4}
    assert task["envs"]["METTA_TRAIN_CONFIG_ID"]
    assert "learning_rate" not in str(task)
    assert [job.name for job in group.jobs] == ["train"]


def test_running_jobs_one_job_and_its_end(house: House, sky: FakeSky) -> None:
    Train(config()).launch()
    pass_time(house, 10)
    sky.set(sky.named("-1-1"), "RUNNING")
    pass_time(house, 10)
    with get_skypilot_service() as asked:
        (job,) = asked.get_running_jobs()
        assert job.id == asked.get_job(1).id == 1
        assert job.remote is not None and job.remote.managed_id == sky.named("-1-1")
        assert [doomed.id for doomed in asked.cancel([1])] == [1]
        pass_time(house, 10)
        sky.set(sky.named("-1-1"), "CANCELLED")
        pass_time(house, 10)
        assert asked.get_job(1).state is JobState.KILLED
        assert asked.get_running_jobs() == []


def test_jobs_are_looked_at_before_they_are_launched(house: House) -> None:
    with JobManager() as manager:
        asked = get_skypilot_service(manager)
        job, _ = TrainingJobConfig(skypilot=SkypilotJobConfig(infra="k8s")).job("a", ("true",), Path.cwd())
        assert all(finding.ok for finding in asked.preflight([job]))
        assert [one.name for one in asked.launch([job], "mine").jobs] == ["a"]
        elsewhere = job.model_copy(update={"remote": SkypilotJobConfig(infra="aws")})
        with pytest.raises(InvalidInput, match="aws is not enabled"):
            asked.launch([elsewhere], "other")
        with pytest.raises(InvalidInput, match="'b' is not remote"):
            asked.launch([JobConfig(name="b", command=("true",))], "other")
        assert [group.name for group in manager.groups()] == ["mine"]


def test_a_preview_says_what_it_costs(house: House) -> None:
    said = "\n".join(preview(Train(config(max_runtime_hours=10))))
    assert "gcp, 2 nodes of 4 GPUs, spot, at most 10 h, snapshot of the working tree" in said
    assert "Price: $3.00 an hour for all of them together, at most $30.00 in all" in said
    assert "cannot be launched" not in said


def test_a_price_that_skypilot_has_not_is_not_known(
    house: House, sky: FakeSky, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sky, "_price", lambda resources: {"hourly_usd": None})
    said = "\n".join(preview(Train(config(infra="k8s"))))
    assert "Price: not known. SkyPilot has none for this infra" in said


def test_the_file_of_a_training_is_the_same_wherever_it_runs(house: House) -> None:
    training = TrainingRunConfig(seed=4)
    paths = {
        TrainingJobConfig(skypilot=where, training=training).job("a", ("true",), Path.cwd())[1]
        for where in (SkypilotJobConfig(infra="gcp"), SkypilotJobConfig(remote=False, gpus=0))
    }
    assert len(paths) == 1
