"""Experiments: several runs submitted together, watched, and told in a notebook.

A recipe's experiment is an ExperimentTool. An Experiment is a program of its own, whose trainings are typed
configurations; `runner` makes its command line.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from metta_jobs.experiment.base_config import BaseExperimentConfig as BaseExperimentConfig
    from metta_jobs.experiment.commandline import runner as runner
    from metta_jobs.experiment.experiment import Experiment as Experiment
    from metta_jobs.experiment.experiment import SingleJobExperiment as SingleJobExperiment
    from metta_jobs.experiment.experiment import TrainingRun as TrainingRun
    from metta_jobs.experiment.infrastructure import SkypilotJobConfig as SkypilotJobConfig
    from metta_jobs.experiment.infrastructure import TrainingJobConfig as TrainingJobConfig
    from metta_jobs.experiment.launch import launch_multiple_training_runs as launch_multiple_training_runs
    from metta_jobs.experiment.launch import launch_training as launch_training
    from metta_jobs.experiment.skypilot import SkypilotService as SkypilotService
    from metta_jobs.experiment.skypilot import get_skypilot_service as get_skypilot_service
    from metta_jobs.experiment.tool import ExperimentTool as ExperimentTool
    from metta_jobs.experiment.training import OptimizerConfig as OptimizerConfig
    from metta_jobs.experiment.training import PPOConfig as PPOConfig
    from metta_jobs.experiment.training import TrainerConfig as TrainerConfig
    from metta_jobs.experiment.training import TrainingRunConfig as TrainingRunConfig
    from metta_jobs.experiment.wandb_service import RunRecord as RunRecord
    from metta_jobs.experiment.wandb_service import WandbService as WandbService
    from metta_jobs.experiment.wandb_service import get_wandb_service as get_wandb_service

_WHERE = {
    "BaseExperimentConfig": "base_config",
    "Experiment": "experiment",
    "ExperimentTool": "tool",
    "OptimizerConfig": "training",
    "PPOConfig": "training",
    "RunRecord": "wandb_service",
    "SingleJobExperiment": "experiment",
    "SkypilotJobConfig": "infrastructure",
    "SkypilotService": "skypilot",
    "TrainerConfig": "training",
    "TrainingJobConfig": "infrastructure",
    "TrainingRun": "experiment",
    "TrainingRunConfig": "training",
    "WandbService": "wandb_service",
    "get_skypilot_service": "skypilot",
    "get_wandb_service": "wandb_service",
    "launch_multiple_training_runs": "launch",
    "launch_training": "launch",
    "runner": "commandline",
}
__all__ = [
    "BaseExperimentConfig",
    "Experiment",
    "ExperimentTool",
    "OptimizerConfig",
    "PPOConfig",
    "RunRecord",
    "SingleJobExperiment",
    "SkypilotJobConfig",
    "SkypilotService",
    "TrainerConfig",
    "TrainingJobConfig",
    "TrainingRun",
    "TrainingRunConfig",
    "WandbService",
    "get_skypilot_service",
    "get_wandb_service",
    "launch_multiple_training_runs",
    "launch_training",
    "runner",
]


def __getattr__(name: str) -> Any:
    """Import each name when it is first used: a training needs none of what launches it."""
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_WHERE[name]}"), name)
