"""Experiments: several runs submitted together, watched, and told in a notebook."""

from metta_jobs.experiment.tool import ExperimentTool

__all__ = ["ExperimentTool"]
