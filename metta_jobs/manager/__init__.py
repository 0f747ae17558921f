"""JobManager: the façade for people and programs. The CLI, the tools and the notebooks all go through it."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from metta_jobs.manager.checks import check_jobs as check_jobs
    from metta_jobs.manager.facade import JobManager as JobManager
    from metta_jobs.manager.look import Reader as Reader
    from metta_jobs.manager.look import Target as Target

_WHERE = {"JobManager": "facade", "Reader": "look", "Target": "look", "check_jobs": "checks"}
__all__ = ["JobManager", "Reader", "Target", "check_jobs"]


def __getattr__(name: str) -> Any:
    """Import each name when it is first used: who only looks need not load what checks and changes."""
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_WHERE[name]}"), name)
