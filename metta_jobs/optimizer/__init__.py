"""Search: the space of a sweep and what suggests points in it. Pure numbers, which know no jobs."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from metta_jobs.optimizer.advisor import Optimizer as Optimizer
    from metta_jobs.optimizer.categories import Categorical as Categorical
    from metta_jobs.optimizer.distributions import LogitNormal as LogitNormal
    from metta_jobs.optimizer.distributions import LogNormal as LogNormal
    from metta_jobs.optimizer.distributions import Uniform as Uniform
    from metta_jobs.optimizer.observations import Observation as Observation
    from metta_jobs.optimizer.observations import Prediction as Prediction
    from metta_jobs.optimizer.observations import Suggestion as Suggestion
    from metta_jobs.optimizer.settings import OptimizerSettings as OptimizerSettings
    from metta_jobs.optimizer.space import Dimension as Dimension
    from metta_jobs.optimizer.space import Space as Space
    from metta_jobs.optimizer.whole_numbers import IntUniform as IntUniform
    from metta_jobs.optimizer.whole_numbers import UniformPow2 as UniformPow2

_WHERE = {
    "Categorical": "categories",
    "Dimension": "space",
    "IntUniform": "whole_numbers",
    "LogNormal": "distributions",
    "LogitNormal": "distributions",
    "Observation": "observations",
    "Optimizer": "advisor",
    "OptimizerSettings": "settings",
    "Prediction": "observations",
    "Space": "space",
    "Suggestion": "observations",
    "Uniform": "distributions",
    "UniformPow2": "whole_numbers",
}
__all__ = [
    "Categorical",
    "Dimension",
    "IntUniform",
    "LogNormal",
    "LogitNormal",
    "Observation",
    "Optimizer",
    "OptimizerSettings",
    "Prediction",
    "Space",
    "Suggestion",
    "Uniform",
    "UniformPow2",
]


def __getattr__(name: str) -> Any:
    """Import each name when it is first used: reading a space needs no numpy."""
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_WHERE[name]}"), name)
