"""CartPole-v1 and Pendulum-v1: quick to train, quick to tell whether something is wrong."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from metta_jobs.experiment import ExperimentTool
from metta_jobs.sweep import Budget, Evaluation, Protein, SweepSection, SweepSettings, SweepTool, Validation
from recipes.ppo.config import TrainerConfig
from recipes.ppo.tool import GymEnv, GymEvaluateTool, GymTrainTool


def train(env: GymEnv = "CartPole-v1", seed: int = 1) -> GymTrainTool:
    """Train CartPole-v1 or Pendulum-v1 (PPO, some ten seconds on one core)."""
    return GymTrainTool(env=env, seed=seed, trainer=_trainer(env), stats_window=20, checkpoint_every=50_000)


def evaluate(
    env: GymEnv = "CartPole-v1", checkpoint: Path | None = None, episodes: int = 32, seed: int = 1000
) -> GymEvaluateTool:
    """Play whole episodes with a checkpoint (without one: at random) and print the returns as JSON."""
    return GymEvaluateTool(env=env, checkpoint=checkpoint, episodes=episodes, seed=seed)


def experiment(
    env: GymEnv = "CartPole-v1",
    remote: bool = True,
    group: str | None = None,
    seeds: int | list[int] | None = None,
) -> ExperimentTool:
    """Train two agents side by side, baseline and a lower learning rate, and write the notebook."""
    return ExperimentTool(
        module="gym.train",
        runs=["baseline", "low_lr"],
        args_per_run={
            "baseline": [f"env={env}"],
            "low_lr": [f"env={env}", "trainer.learning_rate=0.0003"],
        },
        seeds=seeds,
        group=group,
        gpus=0,  # networks this small train faster on a CPU
        remote=remote,
    )


def sweep(
    preset: Literal["quick", "full"] = "quick",
    env: GymEnv = "CartPole-v1",
    remote: bool = True,
    evaluate: bool = False,
) -> SweepTool:
    """Search four hyperparameters of the training: quick tries 5, full 40 and runs the best again."""
    centre = _trainer(env)
    full = preset == "full"
    return SweepTool(
        module="gym.train",
        args=[f"env={env}"],
        sweep=SweepSection(
            metric="overview/reward",
            protein=Protein(num_random_samples=8 if full else 3),
            parameters={
                "trainer": {
                    "learning_rate": {
                        "distribution": "log_normal",
                        "min": 1e-4,
                        "max": 1e-2,
                        "mean": centre.learning_rate,
                    },
                    "gamma": {"distribution": "logit_normal", "min": 0.8, "max": 0.999, "mean": centre.gamma},
                    "n_epochs": {"distribution": "int_uniform", "min": 2, "max": 20, "mean": centre.n_epochs},
                    "total_timesteps": {
                        "distribution": "log_normal",
                        "integer": True,
                        "min": centre.total_timesteps // 4,
                        "max": centre.total_timesteps * 2,
                        "mean": centre.total_timesteps,
                        "scale": "time",
                    },
                }
            },
        ),
        settings=SweepSettings(max_parallel=2, max_consecutive_failures=5, budget=Budget(trials=40 if full else 5)),
        evaluation=Evaluation(module="gym.evaluate", args=(f"env={env}", "checkpoint={checkpoint}"))
        if evaluate
        else None,
        validate=Validation(top=3, seeds=3) if full else None,
        gpus=0,  # networks this small train faster on a CPU
        remote=remote,
    )


def _trainer(env: GymEnv) -> TrainerConfig:
    if env == "Pendulum-v1":
        return TrainerConfig(
            total_timesteps=98_304,
            learning_rate=1e-3,
            n_steps=256,
            batch_size=64,
            n_epochs=10,
            gamma=0.9,
            gae_lambda=0.95,
        )
    return TrainerConfig(
        total_timesteps=40_960,
        learning_rate=1e-3,
        n_steps=64,
        batch_size=256,
        n_epochs=10,
        gamma=0.98,
        gae_lambda=0.8,
    )
