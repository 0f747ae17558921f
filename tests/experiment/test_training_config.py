"""What a training may be told, and the sentences for what it may not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from metta_jobs.errors import InvalidInput
from metta_jobs.experiment import (
    BaseExperimentConfig,
    OptimizerConfig,
    PPOConfig,
    SkypilotJobConfig,
    TrainerConfig,
    TrainingJobConfig,
    TrainingRunConfig,
)
from metta_jobs.remote import RemoteConfig


def test_the_names_that_its_users_know() -> None:
    run = TrainingRunConfig(
        curriculum="arena/sparse",
        agent_config="small",
        wandb_entity="lab",
        wandb_project="hearts",
        wandb_tags=("research", "ablation"),
        wandb_group="g",
        wandb_notes="first try",
        seed=7,
        trainer=TrainerConfig(
            total_timesteps=10_000,
            num_workers=2,
            batch_size=1024,
            minibatch_size=256,
            optimizer=OptimizerConfig(type="adamw", learning_rate=1e-4),
            ppo=PPOConfig(clip_coef=0.1, ent_coef=0.02, gamma=0.97, gae_lambda=0.9),
        ),
    )
    job = TrainingJobConfig(skypilot=SkypilotJobConfig(gpus=4, nodes=2, spot=False, max_runtime_hours=12), training=run)
    assert job.training.trainer.ppo.vf_coef == 0.5
    assert run.wandb_environment() == {
        "WANDB_ENTITY": "lab",
        "WANDB_PROJECT": "hearts",
        "WANDB_TAGS": "research,ablation",
        "WANDB_NOTES": "first try",
    }


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"sead": 1}, "no field 'sead' in TrainingRunConfig. Did you mean 'seed'?"),
        ({"trainer": {"batchsize": 1}}, "no field 'batchsize' in TrainerConfig. Did you mean 'batch_size'?"),
        ({"trainer": {"ppo": {"clip_coeff": 0.1}}}, "no field 'clip_coeff' in PPOConfig. Did you mean 'clip_coef'?"),
        ({"trainer": {"optimizer": {"lr": 0.1}}}, "no field 'lr' in OptimizerConfig."),
        ({"trainer": {"batch_size": 1000, "minibatch_size": 300}}, "try minibatch_size=250"),
        ({"trainer": {"batch_size": 256}}, "minibatch_size=1024 is more than the batch_size=256"),
        ({"trainer": {"num_workers": 3}}, "cannot be divided among num_workers=3"),
        ({"trainer": {"total_timesteps": 100}}, "less than one batch"),
        ({"trainer": {"batch_size": 4, "minibatch_size": 1}}, "nothing to normalise"),
        ({"trainer": {"optimizer": {"momentum": 0.9}}}, "momentum=0.9 does nothing with adam"),
        ({"trainer": {"ppo": {"gamma": 1.1}}}, "less than or equal to 1"),
        ({"trainer": {"optimizer": {"learning_rate": float("inf")}}}, "trainer.optimizer.learning_rate"),
        ({"wandb_tags": ["a,b"]}, "cannot be a W&B tag"),
        ({"wandb_project": "a/b"}, "cannot name a W&B project"),
        ({"wandb_notes": "key sk-" + "a" * 30}, "wandb_notes holds what looks like a secret"),
        ({"curriculum": "???"}, "a missing value to Hydra"),
        ({"curriculum": {"rate": float("nan")}}, "finite number"),
        ({"seed": -1}, "greater than or equal to 0"),
    ],
)
def test_what_cannot_be_is_refused_with_a_sentence(fields: dict[str, Any], says: str) -> None:
    with pytest.raises(ValidationError) as refused:
        TrainingRunConfig(**fields)
    assert says in str(refused.value)


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"gpu": 1}, "no field 'gpu' in SkypilotJobConfig. Did you mean 'gpus'?"),
        ({"infra": "slurm", "spot": True}, "no spot instances on slurm"),
        ({"shipped": {"path": "/x"}}, "set at submit"),
    ],
)
def test_machines_that_cannot_be_are_refused(fields: dict[str, Any], says: str) -> None:
    with pytest.raises(ValidationError) as refused:
        SkypilotJobConfig(**fields)
    assert says in str(refused.value)


def test_a_job_elsewhere_gets_its_file_by_mount_and_nothing_of_the_training_by_its_command(tmp_path: Path) -> None:
    config = TrainingJobConfig(
        skypilot=SkypilotJobConfig(gpus=2, infra="k8s", file_mounts={"/data": "s3://bucket"}),
        training=TrainingRunConfig(wandb_tags=("t",)),
    )
    job, path = config.job("lr=1", ("python", "train.py"), tmp_path, folder=tmp_path / "configs")
    assert job.command == ("python", "train.py", "--config-path", "/tmp", "--config-name", "metta_train_config")
    assert isinstance(job.remote, RemoteConfig)
    assert job.remote.file_mounts == {"/data": "s3://bucket", "/tmp/metta_train_config.yaml": str(path)}
    assert job.env["WANDB_TAGS"] == "t"
    assert "gpus" not in path.read_text() and "k8s" not in path.read_text()


def test_jobs_of_a_shared_machine_have_files_of_their_own(tmp_path: Path) -> None:
    names = set()
    for seed in (1, 2):
        config = TrainingJobConfig(skypilot=SkypilotJobConfig(infra="slurm"), training=TrainingRunConfig(seed=seed))
        job, path = config.job("a", ("train",), tmp_path, folder=tmp_path / "configs")
        assert job.remote is not None and not job.remote.spot
        ((target, source),) = job.remote.file_mounts.items()
        assert source == str(path) and Path(target).stem == job.command[-1]
        names.add(target)
    assert len(names) == 2


def test_a_job_here_gets_slots_a_limit_and_the_path(tmp_path: Path) -> None:
    machine = SkypilotJobConfig(remote=False, gpus=0, cpus=2, memory_gb=4, max_runtime_hours=0.5)
    job, path = TrainingJobConfig(skypilot=machine).job("a", ("train",), tmp_path, folder=tmp_path / "configs")
    assert (job.remote, job.gpus, job.cpus, job.memory_gb, job.timeout_s) == (None, 0, 2, 4, 1800)
    assert job.command == ("train", "--config-path", str(path.parent), "--config-name", "a")
    with pytest.raises(InvalidInput, match="this machine is one"):
        TrainingJobConfig(skypilot=SkypilotJobConfig(remote=False, nodes=2)).job("a", ("train",), tmp_path)


def test_an_experiment_hands_on_what_was_said_and_leaves_the_rest_to_its_own_defaults() -> None:
    said = BaseExperimentConfig(infra="slurm", seed=3, wandb_tags=("t",))
    assert said.skypilot_config().model_fields_set == {"infra", "spot"}  # slurm's default, not the flag's
    assert not said.skypilot_config().spot
    run = said.training_config(curriculum="c", wandb_tags=("other",))
    assert (run.seed, run.curriculum, run.wandb_tags) == (3, "c", ("other",))

    class Own(BaseExperimentConfig):
        gpus: int | None = 0

    assert Own().skypilot_config().gpus == 0
    assert BaseExperimentConfig().skypilot_config().gpus == 1
