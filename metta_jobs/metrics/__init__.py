"""Metrics of a run, read from what it left on disk: curves, progress, and things to open."""

from metta_jobs.metrics.artifacts import Artifact, find_artifacts
from metta_jobs.metrics.base import Row, RunInfo, Series, Source
from metta_jobs.metrics.progress import Progress, ProgressReader
from metta_jobs.metrics.series import read_series, thin

__all__ = [
    "Artifact",
    "Progress",
    "ProgressReader",
    "Row",
    "RunInfo",
    "Series",
    "Source",
    "find_artifacts",
    "read_series",
    "thin",
]
