"""Metrics of a run, read from what it left on disk: curves, progress, and things to open."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from metta_jobs.metrics.artifacts import Artifact as Artifact
    from metta_jobs.metrics.artifacts import find_artifacts as find_artifacts
    from metta_jobs.metrics.base import MetricsSource as MetricsSource
    from metta_jobs.metrics.base import Progress as Progress
    from metta_jobs.metrics.base import Row as Row
    from metta_jobs.metrics.base import RunInfo as RunInfo
    from metta_jobs.metrics.base import Series as Series
    from metta_jobs.metrics.base import Source as Source
    from metta_jobs.metrics.progress import ProgressReader as ProgressReader
    from metta_jobs.metrics.series import thin as thin
    from metta_jobs.metrics.sources import discover as discover
    from metta_jobs.metrics.sources import read_series as read_series

_WHERE = {
    "Artifact": "artifacts",
    "MetricsSource": "base",
    "Progress": "base",
    "ProgressReader": "progress",
    "Row": "base",
    "RunInfo": "base",
    "Series": "base",
    "Source": "base",
    "discover": "sources",
    "find_artifacts": "artifacts",
    "read_series": "sources",
    "thin": "series",
}
__all__ = [
    "Artifact",
    "MetricsSource",
    "Progress",
    "ProgressReader",
    "Row",
    "RunInfo",
    "Series",
    "Source",
    "discover",
    "find_artifacts",
    "read_series",
    "thin",
]


def __getattr__(name: str) -> Any:
    """Import each name when it is first used: `metta job show` needs one of them."""
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_WHERE[name]}"), name)
