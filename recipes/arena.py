"""The MettaGrid arena: agents collect hearts from altars."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from metta_jobs.experiment import ExperimentTool, TrainingRunConfig
from metta_jobs.sweep import Budget, Protein, SweepSection, SweepSettings, SweepTool, Validation
from recipes.ppo.config import ArenaConfig, TrainerConfig
from recipes.ppo.from_config import agent, arena, trainer
from recipes.ppo.tool import ArenaEvaluateTool, ArenaTrainTool


def train(seed: int = 1) -> ArenaTrainTool:
    """Train agents to collect hearts in the MettaGrid arena (PPO, one to two minutes on one core)."""
    return ArenaTrainTool(seed=seed, env=ArenaConfig(), trainer=_trainer())


def from_config(config: TrainingRunConfig) -> ArenaTrainTool:
    """Train as a TrainingRunConfig says, or as its file does: `config=path/to/train.yaml`."""
    env = arena(config.curriculum)
    tool = ArenaTrainTool(
        seed=config.seed, env=env, trainer=trainer(config.trainer, env.num_envs, agent(config.agent_config))
    )
    if config.trainer.checkpoint_interval is not None:
        tool.checkpoint_every = config.trainer.checkpoint_interval
    return tool


def evaluate(checkpoint: Path | None = None, episodes: int = 64, seed: int = 1000) -> ArenaEvaluateTool:
    """Play arena episodes with a checkpoint (without one: at random) and print the hearts per agent as JSON."""
    return ArenaEvaluateTool(checkpoint=checkpoint, episodes=episodes, seed=seed)


def experiment(remote: bool = True, group: str | None = None, seeds: int | list[int] | None = None) -> ExperimentTool:
    """Train two agents side by side, baseline and a higher learning rate, and write the notebook."""
    return ExperimentTool(
        module="arena.train",
        runs=["baseline", "high_lr"],
        args_per_run={"high_lr": ["trainer.learning_rate=0.001"]},
        seeds=seeds,
        group=group,
        gpus=0,  # networks this small train faster on a CPU
        remote=remote,
    )


def sweep(preset: Literal["quick", "full"] = "quick", remote: bool = True) -> SweepTool:
    """Search five hyperparameters of the training: quick tries 5, full 60 and runs the best again."""
    centre = _trainer()
    full = preset == "full"
    return SweepTool(
        module="arena.train",
        sweep=SweepSection(
            metric="overview/reward",
            aggregate="tail",
            protein=Protein(num_random_samples=10 if full else 3),
            parameters={
                "trainer": {
                    "learning_rate": {"distribution": "log_normal", "min": 3e-5, "max": 3e-3, "mean": 3e-4},
                    "gamma": {"distribution": "logit_normal", "min": 0.9, "max": 0.999, "mean": centre.gamma},
                    "ent_coef": {"distribution": "log_normal", "min": 1e-3, "max": 0.1, "mean": centre.ent_coef},
                    "batch_size": {"distribution": "uniform_pow2", "min": 256, "max": 4096, "mean": centre.batch_size},
                    "total_timesteps": {
                        "distribution": "log_normal",
                        "integer": True,
                        "min": centre.total_timesteps // 4,
                        "max": centre.total_timesteps * 4,
                        "mean": centre.total_timesteps,
                        "scale": "time",
                    },
                }
            },
        ),
        settings=SweepSettings(max_parallel=2, max_consecutive_failures=5, budget=Budget(trials=60 if full else 5)),
        validate=Validation(top=5, seeds=3) if full else None,
        gpus=0,  # networks this small train faster on a CPU
        remote=remote,
    )


def _trainer() -> TrainerConfig:
    return TrainerConfig(
        total_timesteps=524_288,
        learning_rate=3e-4,
        n_steps=64,
        batch_size=1024,
        n_epochs=4,
        gamma=0.97,
        gae_lambda=0.95,
        ent_coef=0.02,
        hidden_sizes=[128, 128],
    )
