"""Sweeps: hyperparameters searched by trials on the queue. A recipe's sweep is a SweepTool."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from metta_jobs.sweep.book import Book as Book
    from metta_jobs.sweep.config import Budget as Budget
    from metta_jobs.sweep.config import EarlyStopping as EarlyStopping
    from metta_jobs.sweep.config import Evaluation as Evaluation
    from metta_jobs.sweep.config import Phase as Phase
    from metta_jobs.sweep.config import Protein as Protein
    from metta_jobs.sweep.config import Schedule as Schedule
    from metta_jobs.sweep.config import SweepConfig as SweepConfig
    from metta_jobs.sweep.config import SweepSection as SweepSection
    from metta_jobs.sweep.config import SweepSettings as SweepSettings
    from metta_jobs.sweep.config import Validation as Validation
    from metta_jobs.sweep.tool import SweepTool as SweepTool

_WHERE = {
    "Book": "book",
    "Budget": "config",
    "EarlyStopping": "config",
    "Evaluation": "config",
    "Phase": "config",
    "Protein": "config",
    "Schedule": "config",
    "SweepConfig": "config",
    "SweepSection": "config",
    "SweepSettings": "config",
    "SweepTool": "tool",
    "Validation": "config",
}
__all__ = [
    "Book",
    "Budget",
    "EarlyStopping",
    "Evaluation",
    "Phase",
    "Protein",
    "Schedule",
    "SweepConfig",
    "SweepSection",
    "SweepSettings",
    "SweepTool",
    "Validation",
]


def __getattr__(name: str) -> Any:
    """Import each name when it is first used."""
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_WHERE[name]}"), name)
