"""Suggestions from models: Protein's idea, that the front of score against cost is what grows, in today's means."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from metta_jobs.optimizer.acquisition import Acquisition, log_expected_improvement
from metta_jobs.optimizer.candidates import around, climb, crossed, legal
from metta_jobs.optimizer.observations import place
from metta_jobs.optimizer.pareto import front
from metta_jobs.optimizer.region import box, within

if TYPE_CHECKING:
    from metta_jobs.optimizer.kernel import Shape
    from metta_jobs.optimizer.observations import Array
    from metta_jobs.optimizer.settings import OptimizerSettings
    from metta_jobs.optimizer.space import Space
    from metta_jobs.optimizer.surrogate import Models

#: Points of the front, and best points beside it, that candidates are drawn around.
_CENTRES = 8
_CLIMBS = 4
#: Gains smaller than this, in standard deviations of the scores, are left to the trust region.
_MARGIN = 0.05
#: Standard deviation of the first points around the centre, in units of a dimension's range, for a scale of auto.
_WIDTH = 0.3


@dataclass(frozen=True)
class Proposal:
    """A point (d,) and what the models say of it, in standardised units."""

    x: Array
    worth: float
    why: str


def propose(
    space: Space,
    shape: Shape,
    models: Models,
    settings: OptimizerSettings,
    rng: np.random.Generator,
    taken: set[tuple[float, ...]],
    *,
    side: float | None,
    steps: bool,
    power: float,
) -> Proposal | None:
    """The point of most worth that is not taken, or None where every point that was looked at is.

    `side` is the length of a trust region to stay in, None for the whole space; `steps` counts the front's growth at
    every cost, not only at its top; `power` is the exponent of cost.
    """
    worth = Acquisition(
        models,
        steps=steps,
        power=power,
        limit=settings.max_suggestion_cost,
        reach=reach(models, settings.expansion_rate),
        margin=_MARGIN if side is None else 0.0,
    )
    corners = (np.zeros(shape.size), np.ones(shape.size)) if side is None else box(models, side)
    pool = _pool(space, shape, models, settings, rng, None if side is None else corners)
    free = np.array([place(row) not in taken for row in pool], dtype=bool)
    pool = pool[free]
    if not len(pool):
        return None
    worths = worth(shape.filled(pool))
    best: tuple[Array, float] | None = None
    for row in _starts(shape, pool, worths):
        x, value = climb(space, shape, worth, pool[row], corners)
        if place(x) in taken:
            x, value = pool[row], float(worths[row])
        if best is None or value > best[1]:
            best = x, value
    assert best is not None
    if best[1] < -1e8:
        return Proposal(*best, "nothing is expected to cost as little as it may: this is expected to be the cheapest")
    return Proposal(*best, _why(models, side, steps, power))


def reach(models: Models, expansion: float) -> float:
    """The highest log cost that may be suggested: the front's highest, and `expansion` of the range seen beyond it."""
    rows = front(models.mean, models.log_cost)
    span = float(models.log_cost.max() - models.log_cost.min())
    return float(models.log_cost[rows].max()) + expansion * span + 1e-6 if span > 1e-6 else np.inf


def repeated(models: Models, rng: np.random.Generator) -> int:
    """A row of the front to try again: the one that is least known, or any of equals."""
    rows = front(models.mean, models.log_cost)
    variance = models.score.predict(models.x[rows])[1]
    return int(rows[int(np.argmax(variance + 1e-9 * rng.random(len(rows))))])


def improvement(models: Models, x: Array) -> float:
    """Expected improvement at a filled point (d,) over the best so far, in units of the score."""
    mean, variance = models.score.predict(x[None])
    best = float(models.mean.max())
    gain = float(np.exp(log_expected_improvement(mean, np.sqrt(variance), best))[0])
    slope = float(models.transform.slope(models.transform.inverse(np.array([best])))[0])
    return gain / slope


def _pool(
    space: Space,
    shape: Shape,
    models: Models,
    settings: OptimizerSettings,
    rng: np.random.Generator,
    corners: tuple[Array, Array] | None,
) -> Array:
    """What is looked at: the whole space, around the front, around the best, and their children."""
    scale = settings.global_search_scale
    on_front = front(models.mean, models.log_cost)[::-1]
    by_mean = np.argsort(-models.mean, kind="stable")
    centres = models.x[_few(on_front)]
    parts = [around(space, shape, centres, settings.suggestions_per_pareto, scale, rng)]
    parts.append(around(space, shape, models.x[by_mean[:4]], settings.suggestions_per_pareto, 0.3 * scale, rng))
    parts.append(
        crossed(space, shape, models.x[by_mean[: max(10, 2 * shape.size)]], settings.suggestions_per_pareto, rng)
    )
    if settings.random_suggestions:
        anywhere = space.sample(settings.random_suggestions, rng, sobol=True)
        if corners is not None:
            inner = within(shape.filled(anywhere), corners, models.x[models.incumbent], shape.categorical)
            keep = rng.random(inner.shape) < min(1.0, 10 / shape.size)
            anywhere = legal(space, np.where(keep, inner, models.x[models.incumbent]))
        parts.append(anywhere)
    pool = np.vstack([part for part in parts if len(part)] or [np.empty((0, shape.size))])
    if corners is not None and len(pool):
        number = ~shape.categorical
        filled = shape.filled(pool)
        inside = ((filled >= corners[0] - 1e-9) & (filled <= corners[1] + 1e-9))[:, number].all(1)
        pool = pool[inside]
    return pool


def _few(rows: Array) -> Array:
    """At most _CENTRES of them, evenly."""
    if len(rows) <= _CENTRES:
        return rows
    return np.asarray(rows[np.unique(np.linspace(0, len(rows) - 1, _CENTRES).round().astype(int))])


def _starts(shape: Shape, pool: Array, worths: Array) -> list[int]:
    """The best candidates that are not next to each other."""
    picked: list[int] = []
    filled = shape.filled(pool)
    for row in np.argsort(-worths, kind="stable")[:200]:
        if all(np.abs(filled[row] - filled[other]).max() > 0.05 for other in picked):
            picked.append(int(row))
        if len(picked) == _CLIMBS:
            break
    return picked


def _why(models: Models, side: float | None, steps: bool, power: float) -> str:
    what = "the expected growth of the front of score against cost" if steps else "expected improvement"
    words = [f"{what}{' per cost' if power else ''} is highest here"]
    if side is not None:
        words.append(f"within {side:.2g} of the range around the best")
    words += models.notes
    return "; ".join(words)


def spread(
    space: Space, shape: Shape, settings: OptimizerSettings, seed: int, number: int, taken: set[tuple[float, ...]]
) -> Array:
    """The number-th point (d,) of a design: a quasi-random sequence, normal around the centre if that is the seed."""
    from scipy.special import ndtr, ndtri
    from scipy.stats import qmc

    for attempt in range(200):
        rng = np.random.default_rng([seed, number, attempt])
        if not settings.seed_with_search_center:
            found = space.sample(1, rng)
        else:
            sobol = qmc.Sobol(shape.size, seed=np.random.default_rng([seed, attempt]))
            sobol.fast_forward(number)
            unit = np.clip(sobol.random(1)[0], 1e-9, 1 - 1e-9)
            centre = shape.filled(np.asarray(space.centre)[None])[0]
            width = _WIDTH * settings.global_search_scale * 2.0 * space.scales
            low, high = ndtr((0 - centre) / width), ndtr((1 - centre) / width)
            point = np.clip(centre + width * ndtri(low + unit * (high - low)), 0.0, 1.0)
            for i in np.flatnonzero(shape.categorical):
                levels = space.dimensions[int(i)].levels or 1
                stays = unit[i] < 0.3 / settings.global_search_scale
                point[i] = centre[i] if stays else float(rng.integers(levels))
            found = legal(space, point[None])
        if len(found) and place(found[0]) not in taken:
            return np.asarray(found[0])
    return np.asarray(space.sample(1, np.random.default_rng([seed, number]))[0])
