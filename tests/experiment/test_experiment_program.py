"""An experiment of one's own as a program: flags, preview, launch, and what the job then trains with."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from metta_jobs.errors import AlreadyExists, InvalidInput, UnknownName
from metta_jobs.experiment import (
    BaseExperimentConfig,
    Experiment,
    SingleJobExperiment,
    SkypilotJobConfig,
    TrainingJobConfig,
    TrainingRunConfig,
    get_skypilot_service,
    launch_multiple_training_runs,
    launch_training,
)
from metta_jobs.experiment.notebook import notebook_command, notebook_job
from metta_jobs.manager import JobManager
from tests.conftest import clean_up

RECIPE = '''
"""A recipe that notes what it was told."""
import json, os
from pathlib import Path

from metta_jobs import Tool
from metta_jobs.experiment import TrainingRunConfig

class Train(Tool):
    config: TrainingRunConfig

    def run(self) -> int:
        told = {"config": self.config.model_dump(mode="json"), "tags": os.environ.get("WANDB_TAGS")}
        told["group"] = os.environ.get("WANDB_RUN_GROUP")
        Path(os.environ["METTA_JOB_DIR"], "told.json").write_text(json.dumps(told))
        return 0

def from_config(config: TrainingRunConfig) -> Train:
    """Train."""
    if config.curriculum == "bad":
        raise ValueError("no such curriculum")
    return Train(config=config)
'''
PROGRAM = '''
"""An experiment of two trainings."""
from pydantic import BaseModel, Field
from metta_jobs.experiment import BaseExperimentConfig, Experiment, PPOConfig, TrainerConfig, runner

class Extra(BaseModel):
    depth: int = 2

class Config(BaseExperimentConfig):
    gpus: int | None = 0
    remote: bool = False
    notebook: bool = False
    entropies: tuple[float, ...] = Field(default=(0.0, 1e-4), description="One training each.")
    extra: Extra = Extra()

class Toy(Experiment[Config]):
    """Two entropies."""
    module = "toy.from_config"

    def launch_training_runs(self):
        for entropy in self.config.entropies:
            trainer = TrainerConfig(ppo=PPOConfig(ent_coef=entropy))
            agent = {"depth": self.config.extra.depth}
            config = self.config.job_config(trainer=trainer, agent_config=agent)
            self.launch_training_run_from_config(f"ent={entropy:g}", config)

app = runner(Toy, Config)
if __name__ == "__main__":
    app()
'''
HERE = SkypilotJobConfig(remote=False, gpus=0)


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, own_recipes: None) -> Iterator[Path]:
    """A project with a recipe and an experiment's program, and room for two jobs."""
    monkeypatch.setenv("METTA_CPUS", "2")
    (tmp_path / "pyproject.toml").write_text("")
    (tmp_path / "recipes").mkdir()
    (tmp_path / "recipes" / "toy.py").write_text(RECIPE)
    (tmp_path / "recipes" / "toy_experiment.py").write_text(PROGRAM)
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    clean_up(tmp_path / "job_state")


def toy(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the experiment's program as a person would."""
    command = [sys.executable, "recipes/toy_experiment.py", *arguments]
    environment = {**os.environ, "COLUMNS": "200"}
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=120, env=environment)


def test_it_shows_what_it_would_launch_and_submits_nothing(project: Path) -> None:
    done = toy("mine", "--wandb-tags", "research", "ablation", "--extra.depth", "3", "--seeds", "1", "2")
    assert done.returncode == 0, done.stderr
    for words in ("mine: 4 jobs", "ent=0.s1", "this machine, 1 CPU", '  - "ablation"', "depth: 3", "ent_coef: 0.0\n"):
        assert words in done.stdout
    assert "ent=0.0001.s2 (job_state/configs/" in done.stdout
    assert "seed=2, trainer.ppo.ent_coef=0.0001" in done.stdout
    assert "recipes/toy_experiment.py mine --wandb-tags research ablation --extra.depth 3 --seeds 1 2 --launch" in (
        done.stdout
    )
    with JobManager() as manager:
        assert manager.groups() == []
    (command,) = [line.strip() for line in done.stdout.splitlines() if "metta_jobs.experiment" in line]
    tried = subprocess.run(command.split(), check=False, env={**os.environ, "METTA_JOB_DIR": str(project)})
    assert tried.returncode == 0
    assert json.loads((project / "told.json").read_text())["config"]["agent_config"] == {"depth": 3}


def test_launched_jobs_train_with_exactly_what_was_shown(project: Path) -> None:
    done = toy("mine", "--launch", "--wandb-tags", "research,ablation", "--seed", "7", "--max-runtime-hours", "1")
    assert done.returncode == 0, done.stderr
    assert "Launched mine: jobs 1 2." in done.stdout
    with JobManager() as manager:
        jobs = manager.wait(["mine"], timeout_s=60)
        assert [(job.name, job.state.value) for job in jobs] == [("ent=0", "succeeded"), ("ent=0.0001", "succeeded")]
        assert jobs[0].timeout_s == 3600
    for job, entropy in zip(jobs, (0.0, 1e-4), strict=True):
        told = json.loads((job.folder / "told.json").read_text())  # type: ignore[operator]
        assert told["config"]["trainer"]["ppo"]["ent_coef"] == entropy
        assert (told["tags"], told["group"], told["config"]["seed"]) == ("research,ablation", "mine", 7)
        path = Path(job.command[-3]) / f"{job.name}.yaml"
        assert TrainingRunConfig.from_yaml_file(path).model_dump(mode="json") == told["config"]
    again = toy("mine", "--launch")
    assert (again.returncode, "There is a group 'mine' already" in again.stderr) == (2, True)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--gpu", "1"], "No such option: --gpu"),
        (["--seeds", "x"], "seeds=x:"),
        (["--entropies", "0.1", "-1"], "greater than or equal to 0"),
        (["--entropies", "0.1", "0.1"], "The run 'ent=0.1' is named twice"),
        (["--nodes", "2"], "this machine is one"),
        (["--remote", "--launch"], "say --no-remote"),
        (["--job-ids", "9", "--launch"], "say one of them"),
        (["--seed", "1", "--seeds", "1", "2"], "seed=1, and seeds name several"),
        (["--job-ids", "9"], "there is no job 9"),
        (["a b", "--launch"], "cannot be a name"),
        (["--extra.depth", "deep"], "extra.depth=deep"),
    ],
)
def test_what_cannot_be_is_told_in_a_sentence(project: Path, arguments: list[str], says: str) -> None:
    (project / "job_state").mkdir()
    done = toy(*arguments)
    assert done.returncode == 2, done.stdout
    assert says.lower() in " ".join(done.stderr.split()).lower()
    assert "Traceback" not in done.stderr


def test_a_price_that_is_not_known_is_said(project: Path) -> None:
    done = toy("mine", "--remote", "--infra", "k8s")
    assert done.returncode == 0
    assert "kubernetes, 1 node, spot" in done.stdout
    assert "Price: not known. SkyPilot is not installed." in done.stdout
    assert "It cannot be launched as it is:" in done.stdout


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        ("--gpus 4 --gpu-type A100 --nodes 2 --spot --no-launch", "kubernetes, 2 nodes of 4 A100, spot"),
        ("--gpus 1 --no-spot --skip-git-check", "kubernetes, 1 node of 1 GPU, on demand"),
    ],
)
def test_the_machines_are_flags(project: Path, flags: str, says: str) -> None:
    done = toy("mine", "--remote", "--infra", "k8s", *flags.split())
    assert done.returncode == 0, done.stderr
    assert says in done.stdout
    assert flags.replace(" --no-launch", "") + " --launch" in done.stdout


def test_every_field_is_a_flag(project: Path) -> None:
    shown = toy("--help").stdout
    for field in BaseExperimentConfig.model_fields:
        assert field == "name" or f"--{field.replace('_', '-')}" in shown
    assert "--entropies" in shown and "--extra.depth" in shown and "(default: 0.0,0.0001)" in shown


def test_the_notebook_is_asked_for_as_a_person_would(project: Path) -> None:
    assert notebook_command("g", ["monitor", "replays"], open_it=True)[1:] == [
        *("-m", "metta_jobs", "notebook", "g", "--sections", "monitor,replays", "--open")
    ]
    assert notebook_command([3, 5])[3:] == ["notebook", "--job-ids", "3", "5"]
    job = notebook_job("g", [], Path(), ["analysis"], ())
    assert job.command[1:] == ("-m", "metta_jobs.notebook", "g", "--sections", "setup,analysis")
    with pytest.raises(UnknownName, match="Did you mean 'monitor'"):
        notebook_job("g", [], Path(), ["monitr"], ())
    assert "no section 'monitr'. Did you mean 'monitor'?" in toy("--sections", "monitr").stderr


def test_a_training_launched_from_python(project: Path) -> None:
    with JobManager() as manager:
        training = TrainingRunConfig(wandb_group="theirs")
        job = launch_training("solo", training, module="toy.from_config", skypilot=HERE, manager=manager)
        assert (job.group, job.name) == ("solo", "solo")
        (job,) = manager.wait([job.id], timeout_s=60)
        told = json.loads((job.folder / "told.json").read_text())  # type: ignore[operator]
        assert told["group"] == "theirs"
        with pytest.raises(AlreadyExists):
            launch_training("solo", module="toy.from_config", skypilot=HERE, manager=manager)
        with pytest.raises(InvalidInput, match="runs on this machine"):
            get_skypilot_service(manager).get_job(job.id)


def test_one_training_with_several_seeds(project: Path) -> None:
    with JobManager() as manager:
        group = launch_multiple_training_runs(
            "base", seeds=3, module="toy.from_config", skypilot=HERE, notebook=False, manager=manager
        )
        assert [job.name for job in group.jobs] == ["base.s1", "base.s2", "base.s3"]
        jobs = manager.wait(["base"], timeout_s=60)
        seeds = [json.loads((job.folder / "told.json").read_text())["config"]["seed"] for job in jobs]  # type: ignore[operator]
        assert seeds == [1, 2, 3]
        assert [(job.variant, job.seed) for job in jobs] == [("base", 1), ("base", 2), ("base", 3)]
        with pytest.raises(InvalidInput, match="makes no run"):
            launch_multiple_training_runs("none", seeds=0, module="toy.from_config", skypilot=HERE, manager=manager)


class Named(Experiment[BaseExperimentConfig]):
    """Trainings in a list."""

    module = "toy.from_config"

    def training_job_configs(self) -> list[TrainingJobConfig]:
        """One with a name, one without."""
        bad = TrainingRunConfig(curriculum=self.config.wandb_notes or "good")
        return [TrainingJobConfig(name="a", skypilot=HERE), TrainingJobConfig(skypilot=HERE, training=bad)]


class Alone(SingleJobExperiment[BaseExperimentConfig]):
    """A Hydra program."""

    program = ("python", "train.py")

    def training(self) -> dict[str, str]:
        """Its task."""
        return {"curriculum": "c"}


def test_runs_are_planned_without_being_launched(project: Path) -> None:
    assert [run.name for run in Named(BaseExperimentConfig()).runs()] == ["a", "run2"]
    (run,) = Alone(BaseExperimentConfig(remote=False, gpus=0)).runs()
    assert run.job.command[:2] == (sys.executable, "train.py")
    assert (run.name, run.config.training.curriculum) == ("train", "c")
    with pytest.raises(InvalidInput, match=r"Run 'run2': toy.from_config raised an error:\n(.|\n)*no such curriculum"):
        Named(BaseExperimentConfig(wandb_notes="bad")).runs()
    with pytest.raises(InvalidInput, match="must say what trains"):
        SingleJobExperiment(BaseExperimentConfig()).runs()
    with JobManager() as manager:
        assert manager.groups() == []


def test_one_run_can_be_launched_by_itself(project: Path) -> None:
    experiment = Named(BaseExperimentConfig(name="g"))
    for name in ("first", "second"):
        run = experiment.launch_training_run_from_config(name, TrainingJobConfig(skypilot=HERE))
        assert run is not None and run.job_id is not None
    with JobManager() as manager:
        assert [job.state.value for job in manager.wait(["g"], timeout_s=60)] == ["succeeded", "succeeded"]


class Judged(Named):
    """What its trainings must have learnt, and what ends them."""

    acceptance = ("overview/reward >= 5",)
    health = ({"when": "nan", "action": "kill"},)


def test_an_experiment_says_what_its_trainings_must_reach(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Judged(BaseExperimentConfig(name="g", notebook=False)).launch()
    with JobManager() as manager:
        ended = manager.wait(["g"], timeout_s=60)
        assert {job.state.value for job in ended} == {"failed"}
        assert {job.reason for job in ended} == {"overview/reward was never logged, and must be >= 5"}
        assert [rule["action"] for rule in manager.group("g").health] == ["kill"]
    monkeypatch.setattr(Judged, "acceptance", "reward > much")
    with pytest.raises(InvalidInput, match=r"Run 'a': acceptance.*'much' in the criterion .* is no number"):
        Judged(BaseExperimentConfig(name="h")).launch()
    monkeypatch.setattr(Judged, "acceptance", ())
    monkeypatch.setattr(Judged, "health", {"when": "nun"})
    with pytest.raises(InvalidInput, match=r"Judged: health.*'nun'"):
        Judged(BaseExperimentConfig(name="h", notebook=False)).launch()


def test_a_file_of_another_job_is_not_trained_with(project: Path) -> None:
    path, _ = TrainingRunConfig().serialize_to_yaml_file("train")
    command = [
        sys.executable,
        "-m",
        "metta_jobs.experiment",
        "toy.from_config",
        "-cp",
        str(path.parent),
        "-cn",
        "train",
    ]
    environment = {**os.environ, "METTA_TRAIN_CONFIG_ID": "another"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert (done.returncode, "is not the configuration of this job" in done.stderr) == (2, True)
