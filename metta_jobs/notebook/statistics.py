"""Statistics over seeds: interquartile means and bootstrap intervals that do not promise more than few runs can tell.

After Agarwal et al., "Deep Reinforcement Learning at the Edge of the Statistical Precipice" (NeurIPS 2021), whose
authors' library (rliable 1.2.0, of 2024) cannot be imported beside pandas 3; its numbers are reproduced here in numpy,
and a test holds some of them. Everything is deterministic: the resampling is seeded.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Numbers = NDArray[np.float64]
    Statistic = Callable[[Numbers], Numbers]

RESAMPLES = 10_000
#: Below this many seeds an interval is too wide, and too seldom right, to tell variants apart.
ENOUGH_SEEDS = 10
_RANDOM_SEED = 20_211_206


@dataclass(frozen=True)
class Estimate:
    """A value with its confidence interval; NaN where there is too little to tell."""

    value: float = math.nan
    low: float = math.nan
    high: float = math.nan


def mean(scores: Numbers) -> Numbers:
    """Return the mean over the last axis."""
    result: Numbers = scores.mean(axis=-1)
    return result


def interquartile_mean(scores: Numbers) -> Numbers:
    """Return the mean over the last axis of what is left without the lowest and the highest quarter.

    Of n values floor(n / 4) are left out at each end, so with three or fewer it is the mean.
    """
    import numpy as np

    count = scores.shape[-1]
    cut = count // 4
    result: Numbers = np.sort(scores, axis=-1)[..., cut : count - cut].mean(axis=-1)
    return result


def estimate(
    strata: Sequence[Sequence[float]],
    statistic: Statistic = interquartile_mean,
    confidence: float = 0.95,
    resamples: int = RESAMPLES,
) -> Estimate:
    """Return `statistic` of all scores together, with its percentile interval by stratified bootstrap.

    A stratum holds the scores of one task's runs, and runs are drawn again within their task only; one task is one
    stratum. `statistic` takes (resamples, scores) and gives (resamples,). No interval where no stratum has two scores.
    """
    import numpy as np

    scores = [np.asarray(stratum, dtype=float) for stratum in strata if len(stratum)]
    if not scores:
        return Estimate()
    value = float(statistic(np.concatenate(scores)[None, :])[0])
    if max(map(len, scores)) < 2:
        return Estimate(value)
    random = np.random.default_rng(_RANDOM_SEED)
    drawn = [stratum[random.integers(0, len(stratum), (resamples, len(stratum)))] for stratum in scores]
    return Estimate(value, *map(float, _interval(statistic(np.concatenate(drawn, axis=1)), confidence)))


def probability_of_improvement(
    new: Sequence[float], old: Sequence[float], confidence: float = 0.95, resamples: int = RESAMPLES
) -> Estimate:
    """Return how probable it is that a run of `new` scores higher than one of `old`, ties counted half.

    That is Mann and Whitney's U over the number of pairs. For its interval the runs of both are drawn again, each on
    their own; there is none where one of them has a single run.
    """
    import numpy as np

    ours, theirs = np.asarray(new, dtype=float), np.asarray(old, dtype=float)
    if not len(ours) or not len(theirs):
        return Estimate()
    won = (ours[:, None] > theirs[None, :]) + 0.5 * (ours[:, None] == theirs[None, :])
    value = float(won.mean())
    if len(ours) < 2 or len(theirs) < 2:
        return Estimate(value)
    random = np.random.default_rng(_RANDOM_SEED)
    # How often each run was drawn tells all: the pairs themselves need not be made again.
    times_ours = random.multinomial(len(ours), [1 / len(ours)] * len(ours), resamples)
    times_theirs = random.multinomial(len(theirs), [1 / len(theirs)] * len(theirs), resamples)
    found = ((times_ours @ won) * times_theirs).sum(axis=1) / won.size
    return Estimate(value, *map(float, _interval(found, confidence)))


def band(values: Numbers, statistic: Statistic, confidence: float = 0.95, resamples: int = 2000) -> tuple[Any, Any]:
    """Return the pointwise bootstrap interval (low, high), each of shape (points,), of `values` (seeds, points).

    Whole seeds are drawn, so that a seed keeps its luck from point to point. At least two seeds, no NaN.
    """
    import numpy as np

    count, points = values.shape
    random = np.random.default_rng(_RANDOM_SEED)
    rows = random.integers(0, count, (resamples, count))
    low, high = np.empty(points), np.empty(points)
    stretch = max(1, 4_000_000 // (resamples * count))
    for start in range(0, points, stretch):
        part = slice(start, start + stretch)
        drawn = np.moveaxis(values[:, part][rows], 1, -1)
        low[part], high[part] = _interval(statistic(drawn), confidence)
    return low, high


def _interval(found: Numbers, confidence: float) -> tuple[Any, Any]:
    import numpy as np

    tail = (1 - confidence) / 2
    low, high = np.quantile(found, [tail, 1 - tail], axis=0)
    return low, high


def caution(seeds: Sequence[int]) -> str | None:
    """Say in words what intervals over so few seeds are worth (the number of each variant); None where they do.

    A bootstrap of n values never leaves their range, so a 95 % interval of 3 seeds holds the truth about three times
    in four, of 5 seeds in about 84 of 100 cases, of 10 in about 90 (normally distributed scores).
    """
    fewest = min(seeds, default=0)
    if fewest >= ENOUGH_SEEDS or not seeds:
        return None
    what = f"{fewest} {'seed' if fewest == 1 else 'seeds'}"
    what = what if min(seeds) == max(seeds) else f"{fewest} to {max(seeds)} seeds"
    if max(seeds) < 2:
        return f"{what}: too few for an interval; {ENOUGH_SEEDS} or more tell variants apart."
    return f"{what}: intervals are wide, and still too sure of themselves; {ENOUGH_SEEDS} or more tell variants apart."
