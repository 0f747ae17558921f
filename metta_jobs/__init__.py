"""metta-jobs: an experiment orchestrator for reinforcement-learning researchers."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from metta_jobs.criteria import AcceptanceCriterion as AcceptanceCriterion
    from metta_jobs.criteria import HealthRule as HealthRule
    from metta_jobs.experiment import ExperimentTool as ExperimentTool
    from metta_jobs.job import Dependency as Dependency
    from metta_jobs.job import JobConfig as JobConfig
    from metta_jobs.manager import JobManager as JobManager
    from metta_jobs.policy import GroupConfig as GroupConfig
    from metta_jobs.policy import Hook as Hook
    from metta_jobs.policy import RetryPolicy as RetryPolicy
    from metta_jobs.remote import RemoteConfig as RemoteConfig
    from metta_jobs.states import JobState as JobState
    from metta_jobs.tool import Tool as Tool

_WHERE = {
    "AcceptanceCriterion": "criteria",
    "Dependency": "job",
    "ExperimentTool": "experiment",
    "GroupConfig": "policy",
    "HealthRule": "criteria",
    "Hook": "policy",
    "JobConfig": "job",
    "JobManager": "manager",
    "JobState": "states",
    "RemoteConfig": "remote",
    "RetryPolicy": "policy",
    "Tool": "tool",
}
__all__ = [
    "AcceptanceCriterion",
    "Dependency",
    "ExperimentTool",
    "GroupConfig",
    "HealthRule",
    "Hook",
    "JobConfig",
    "JobManager",
    "JobState",
    "RemoteConfig",
    "RetryPolicy",
    "Tool",
    "__version__",
]


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


def __getattr__(name: str) -> Any:
    """Import each public name when it is first used: `import metta_jobs` costs nothing."""
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_WHERE[name]}"), name)
