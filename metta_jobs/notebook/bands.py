"""Curves of several seeds on one grid of steps: a line through their middle and a band around it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from metta_jobs.notebook.statistics import band, interquartile_mean, mean

if TYPE_CHECKING:
    from metta_jobs.notebook.runs import Points
    from metta_jobs.notebook.statistics import Numbers

Centre = Literal["iqm", "mean"]
Spread = Literal["interval", "range"]

POINTS = 200
#: A stretch of NaN longer than this share of all steps is a hole in the curve; a shorter one is bridged.
_HOLE = 0.05


@dataclass(frozen=True)
class Band:
    """What several seeds did, all arrays of shape (points,).

    `count` is how many seeds have data at a step; below two, `centre`, `low` and `high` are NaN there. `seeds` is how
    many have data at all.
    """

    steps: Numbers
    centre: Numbers
    low: Numbers
    high: Numbers
    count: Numbers
    seeds: int


def seed_band(
    curves: Sequence[Points], centre: Centre = "iqm", spread: Spread = "interval", points: int = POINTS
) -> Band | None:
    """Align curves (steps, values) on `points` steps; None where fewer than two have data.

    `centre` is the interquartile mean or the mean; `spread` its 95 % bootstrap interval, or the lowest and the highest
    seed. No seed is continued beyond its first and last number.
    """
    import numpy as np

    numbered = [curve for curve in map(_finite, curves) if len(curve[0])]
    if len(numbered) < 2:
        return None
    grid = np.linspace(min(steps[0] for steps, _ in numbered), max(steps[-1] for steps, _ in numbered), points)
    values = np.stack([_at(grid, curve) for curve in curves if len(_finite(curve)[0])])
    known = np.isfinite(values)
    middle, low, high = (np.full(points, np.nan) for _ in range(3))
    statistic = interquartile_mean if centre == "iqm" else mean
    for pattern in np.unique(known, axis=1).T:
        if pattern.sum() < 2:
            continue
        here = (known == pattern[:, None]).all(axis=0)
        there = values[pattern][:, here]
        middle[here] = statistic(there.T)
        low[here], high[here] = (
            band(there, statistic) if spread == "interval" else (there.min(axis=0), there.max(axis=0))
        )
    return Band(grid, middle, low, high, known.sum(axis=0), len(numbered))


def smoothed(curve: Points, most: int = POINTS) -> tuple[Numbers, Numbers]:
    """Return one seed's curve without what is no number, averaged in `most` equal stretches where it is denser.

    Holes are marked by a NaN.
    """
    import numpy as np

    steps, values = _reduced(curve, most)
    holes = _holes(curve, steps)
    at = np.flatnonzero(holes) + 1
    return np.insert(steps, at, steps[at]), np.insert(values, at, np.nan)


def _at(grid: Numbers, curve: Points) -> Numbers:
    """The curve at each step of the grid, NaN outside it and in its holes."""
    import numpy as np

    steps, values = _reduced(curve, len(grid))
    found: Numbers = np.interp(grid, steps, values, left=np.nan, right=np.nan)
    for i in np.flatnonzero(_holes(curve, steps)):
        found[(grid > steps[i]) & (grid < steps[i + 1])] = np.nan
    return found


def _finite(curve: Points) -> tuple[Numbers, Numbers]:
    import numpy as np

    steps, values = np.asarray(curve[0], dtype=float), np.asarray(curve[1], dtype=float)
    kept = np.isfinite(values)
    return steps[kept], values[kept]


def _reduced(curve: Points, most: int) -> tuple[Numbers, Numbers]:
    """One value for each step; where there are more than two for each of `most` stretches, their mean.

    The first and the last step stay, so that averaging makes no curve shorter.
    """
    import numpy as np

    steps, values = _finite(curve)
    if len(steps) > 2 * most:
        width = (steps[-1] - steps[0]) / most or 1.0
        cell = np.minimum(((steps - steps[0]) / width).astype(int), most - 1)
    else:
        cell = np.unique(steps, return_inverse=True)[1]
    size = np.bincount(cell)
    there = size > 0
    means, places = (np.bincount(cell, weights=what)[there] / size[there] for what in (values, steps))
    if len(places) > 1:
        places[0], places[-1] = steps[0], steps[-1]
    return places, means


def _holes(curve: Points, steps: Numbers) -> Numbers:
    """For each pair of neighbours among `steps`, whether a long stretch without numbers lies between them."""
    import numpy as np

    every = np.asarray(curve[0], dtype=float)
    bad = every[~np.isfinite(np.asarray(curve[1], dtype=float))]
    if not len(bad) or len(steps) < 2:
        return np.zeros(max(0, len(steps) - 1), dtype=bool)
    between = np.searchsorted(bad, steps[1:], side="left") > np.searchsorted(bad, steps[:-1], side="right")
    holes: Numbers = between & (np.diff(steps) > _HOLE * (every[-1] - every[0]))
    return holes
