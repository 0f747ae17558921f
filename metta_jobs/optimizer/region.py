"""A trust region around the best point, whose size follows from what was tried (Eriksson et al. 2019, TuRBO)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from metta_jobs.optimizer.observations import Array
    from metta_jobs.optimizer.surrogate import Models

_LONGEST, _SHORTEST, _FIRST = 1.6, 0.02, 0.8


def length(scores: Sequence[float], dimensions: int, begin: int) -> float:
    """The side of the region after these scores (larger is better; NaN where none is final), in the order told.

    It doubles after three improvements in a row, halves after max(4, d) trials without one, and starts again when it
    has become too small. The first `begin` scores were spread out and do not count. Being a function of the scores
    alone, it is the same after a restart.
    """
    side, wins, losses = _FIRST, 0, 0
    best = -np.inf
    patience = max(4, dimensions)
    for number, score in enumerate(scores):
        better = score > best + 1e-3 * abs(best) if np.isfinite(best) else score == score
        if score == score:
            best = max(best, score)
        if number < begin:
            continue
        wins, losses = (wins + 1, 0) if better else (0, losses + 1)
        if wins == 3:
            side, wins = min(2.0 * side, _LONGEST), 0
        elif losses == patience:
            side, losses = side / 2.0, 0
        if side < _SHORTEST:
            side = _FIRST
    return side


def box(models: Models, side: float) -> tuple[Array, Array]:
    """The region's lower and upper corners (d,): longer where the score changes slowly, and within [0, 1]."""
    ell = models.score.hyper.ell
    weight = np.exp(np.clip(ell - np.mean(ell), -1.5, 1.5))
    weight = weight / np.exp(np.mean(np.log(weight)))
    centre = models.x[models.incumbent]
    return np.clip(centre - side * weight / 2, 0.0, 1.0), np.clip(centre + side * weight / 2, 0.0, 1.0)


def within(x: Array, corners: tuple[Array, Array], centre: Array, categorical: Array) -> Array:
    """Filled points (n, d) shrunk linearly into the region, their categories kept."""
    shrunk = corners[0] + x * (corners[1] - corners[0])
    return np.where(categorical, x, shrunk)
