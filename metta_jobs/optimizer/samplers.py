"""Suggestions without a model: random, Sobol (1967) and grid."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING

import numpy as np

from metta_jobs.optimizer.observations import Suggestion

if TYPE_CHECKING:
    from metta_jobs.optimizer.settings import OptimizerSettings
    from metta_jobs.optimizer.space import Space


def suggest(space: Space, settings: OptimizerSettings, seed: int, number: int) -> Suggestion | None:
    """The number-th point of the method's sequence, None at a grid's end."""
    if settings.method == "random":
        x = space.sample(1, np.random.default_rng([seed, number]))[0]
        why = "the method is random"
    elif settings.method == "sobol":
        # A scrambled sequence is the same for the same seed, so its number-th point needs no state.
        size = 1 << max(7, number.bit_length())
        x = space.sample(size, np.random.default_rng(seed), sobol=True)[number]
        why = f"point {number + 1} of a Sobol sequence"
    else:
        point = next(islice(space.grid(settings.grid_points), number, None), None)
        if point is None:
            return None
        x, why = point, f"point {number + 1} of the grid"
    return Suggestion(space.decode(x), tuple(map(float, x)), settings.method, why)
