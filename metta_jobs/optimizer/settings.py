"""What a user may tell the optimiser. Protein's names are kept (PufferLib, Suarez 2025), and each does what it says."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import Field, field_validator

from metta_jobs.errors import nearest
from metta_jobs.model import Model

METHODS = ("protein", "bayes", "random", "sobol", "grid")


class OptimizerSettings(Model):
    """Settings of one search. The defaults are those that docs/optimizer.md reports figures of."""

    #: protein (cost-aware), bayes (blind to cost), random, sobol, grid, or optuna:<Sampler>, such as optuna:TPESampler.
    method: str = "protein"
    #: What is optimised: the name that scores are recorded under.
    metric: str = "score"
    goal: Literal["maximize", "minimize"] = "maximize"
    #: So many points are spread out (around the centre, or anywhere) before a model is asked.
    num_random_samples: Annotated[int, Field(ge=0)] = 8
    #: Nothing is suggested that is expected to cost more than this; null: no limit.
    max_suggestion_cost: Annotated[float, Field(gt=0)] | None = None
    #: Every n-th suggestion of a model repeats a point of the Pareto front, to learn its noise; 0: never.
    resample_frequency: Annotated[int, Field(ge=0)] = 0
    #: How wide points are spread around the centre at the start, and around good points later; 1 is the usual width.
    global_search_scale: Annotated[float, Field(gt=0)] = 1.0
    #: How many points from anywhere in the space the model looks at for a suggestion.
    random_suggestions: Annotated[int, Field(ge=0)] = 512
    #: How many points around each point of the Pareto front the model looks at for a suggestion.
    suggestions_per_pareto: Annotated[int, Field(ge=0)] = 64
    #: How far beyond the front's highest cost suggestions may go, as a part of its range of log cost (1: twice as far).
    expansion_rate: Annotated[float, Field(ge=0)] = 0.25
    #: Begin at the space's search centre, and spread the first points around it rather than anywhere.
    seed_with_search_center: bool = True
    #: Levels of a continuous dimension for method grid.
    grid_points: Annotated[int, Field(ge=2)] = 5

    @field_validator("method")
    @classmethod
    def _known(cls, method: str) -> str:
        if method in METHODS or re.fullmatch(r"optuna:[A-Za-z]\w*", method):
            return method
        raise ValueError(
            f"{method!r} is no method: it must be one of {', '.join(METHODS)}, or optuna:<Sampler>, "
            f"such as optuna:TPESampler.{nearest(method, METHODS)}"
        )
