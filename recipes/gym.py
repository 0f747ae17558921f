"""CartPole-v1 and Pendulum-v1: quick to train, quick to tell whether something is wrong."""

from __future__ import annotations

from pathlib import Path

from metta_jobs.experiment import ExperimentTool
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
