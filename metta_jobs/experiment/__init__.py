"""Experiments: several runs submitted together, watched, and told in a notebook."""

from metta_jobs.experiment.tool import ExperimentTool
from metta_jobs.experiment.wandb_service import RunRecord, WandbService, get_wandb_service

__all__ = ["ExperimentTool", "RunRecord", "WandbService", "get_wandb_service"]
