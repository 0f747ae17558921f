"""The example of an experiment: it launches real trainings, and what their W&B runs note is what it said."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from metta_jobs.errors import InvalidInput
from metta_jobs.experiment import OptimizerConfig, PPOConfig, TrainerConfig, TrainingRunConfig
from metta_jobs.manager import JobManager
from metta_jobs.metrics import read_series
from recipes.arena import from_config
from tests.conftest import clean_up

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = ROOT / "recipes" / "arena_experiment.py"


def test_it_trains_for_real_with_what_its_flags_say(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    state = tmp_path / "job_state"
    monkeypatch.setenv("METTA_CPUS", "2")
    monkeypatch.setenv("METTA_JOB_STATE", str(state))
    flags = [
        "my_arena",
        "--no-remote",
        "--total-timesteps",
        "8192",
        "--learning-rates",
        "1e-4",
        "0.002",
        "--agent",
        "small",
    ]
    command = [
        sys.executable,
        str(PROGRAM),
        *flags,
        "--wandb-tags",
        "research",
        "ablation",
        "--no-notebook",
        "--launch",
    ]
    try:
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        with JobManager(state) as manager:
            jobs = manager.wait(["my_arena"], timeout_s=250)
        assert [(job.name, job.state.value) for job in jobs] == [("lr=0.0001", "succeeded"), ("lr=0.002", "succeeded")]
        for job in jobs:
            assert job.folder is not None
            assert read_series(job.folder, ["overview/reward"])["overview/reward"].steps == [0, 4096, 8192]
    finally:
        clean_up(state)


def test_every_setting_arrives_where_it_trains() -> None:
    shared = TrainerConfig(
        total_timesteps=100_000,
        batch_size=8192,
        minibatch_size=512,
        update_epochs=3,
        checkpoint_interval=50_000,
        optimizer=OptimizerConfig(learning_rate=1e-3, anneal_lr=True),
        ppo=PPOConfig(clip_coef=0.1, ent_coef=0.03, vf_coef=0.4, gamma=0.9, gae_lambda=0.8, max_grad_norm=0.7),
    )
    agent = {"hidden_sizes": [32]}
    tool = from_config(TrainingRunConfig(curriculum="arena/sparse", agent_config=agent, seed=9, trainer=shared))
    assert tool.trainer.model_dump() == {
        "total_timesteps": 100_000,
        "learning_rate": 1e-3,
        "anneal": True,
        "n_steps": 128,
        "batch_size": 512,
        "n_epochs": 3,
        "gamma": 0.9,
        "gae_lambda": 0.8,
        "clip_coef": 0.1,
        "ent_coef": 0.03,
        "vf_coef": 0.4,
        "max_grad_norm": 0.7,
        "hidden_sizes": [32],
    }
    assert (tool.seed, tool.checkpoint_every, tool.env.num_altars) == (9, 50_000, 5)


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"trainer": {"optimizer": {"type": "adamw"}}}, "optimizer.type='adamw' would do nothing here"),
        ({"trainer": {"ppo": {"target_kl": 0.01}}}, "ppo.target_kl=0.01 would do nothing here"),
        ({"trainer": {"num_workers": 2}}, "in 1 process"),
        ({"trainer": {"batch_size": 1000, "minibatch_size": 100}}, "no multiple of the 64 agents"),
        ({"curriculum": "arena/spars"}, "Did you mean 'arena/sparse'?"),
        ({"agent_config": {"layers": 2}}, "hidden_sizes"),
    ],
)
def test_what_it_would_not_obey_is_refused(fields: dict[str, object], says: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        from_config(TrainingRunConfig.model_validate(fields))
    assert says in str(refused.value)


def test_it_is_a_program() -> None:
    assert os.access(PROGRAM, os.X_OK)
    shown = subprocess.run([sys.executable, PROGRAM, "--help"], capture_output=True, text=True, check=True, cwd=ROOT)
    assert "--learning-rates" in shown.stdout


def test_a_file_can_be_tried_with_metta_run(tmp_path: Path) -> None:
    path, _ = TrainingRunConfig(seed=5).serialize_to_yaml_file("a", tmp_path)
    command = [sys.executable, "-m", "metta_jobs", "run", "arena.from_config", f"config={path}", "--dry-run"]
    shown = subprocess.run(
        [*command, "trainer.learning_rate=0.01"], capture_output=True, text=True, check=True, cwd=ROOT
    ).stdout
    tool = json.loads(shown[shown.index("{") :])
    assert (tool["seed"], tool["trainer"]["learning_rate"]) == (5, 0.01)
