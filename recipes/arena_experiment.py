#!/usr/bin/env -S uv run python
"""The MettaGrid arena at several learning rates: `./recipes/arena_experiment.py my_arena --no-remote --launch`."""

from __future__ import annotations

from pydantic import Field

from metta_jobs.experiment import (
    BaseExperimentConfig,
    Experiment,
    OptimizerConfig,
    PPOConfig,
    TrainerConfig,
    TrainingJobConfig,
    runner,
)


class ArenaExperimentConfig(BaseExperimentConfig):
    """The flags of every experiment, and the arena's own."""

    gpus: int | None = Field(default=0, ge=0, description="GPUs of a job; networks this small train faster on a CPU.")
    curriculum: str = Field(default="default", description="Which arena: default, arena/dense or arena/sparse.")
    agent: str = Field(default="default", description="Which network: default, small or large.")
    total_timesteps: int = Field(default=524_288, gt=0, description="Agent steps of each training.")
    learning_rates: tuple[float, ...] = Field(default=(3e-4, 1e-3), description="One training each.")


class ArenaExperiment(Experiment[ArenaExperimentConfig]):
    """Train agents to collect hearts, once with each learning rate."""

    module = "arena.from_config"

    def training_job_configs(self) -> dict[str, TrainingJobConfig]:
        """One job a learning rate, named after it."""
        return {f"lr={rate:g}": self._training(rate) for rate in self.config.learning_rates}

    def _training(self, learning_rate: float) -> TrainingJobConfig:
        return self.config.job_config(
            curriculum=self.config.curriculum,
            agent_config=self.config.agent,
            trainer=TrainerConfig(
                total_timesteps=self.config.total_timesteps,
                optimizer=OptimizerConfig(learning_rate=learning_rate),
                ppo=PPOConfig(gamma=0.97, ent_coef=0.02),
            ),
        )


app = runner(ArenaExperiment, ArenaExperimentConfig)

if __name__ == "__main__":
    app()
