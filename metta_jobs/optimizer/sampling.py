"""Points of a space: drawn at random or from a Sobol sequence, listed as a grid, all of them within the constraints."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from metta_jobs.errors import InvalidInput, MissingExtra
from metta_jobs.optimizer.categories import Categorical
from metta_jobs.optimizer.encoding import Encoding

#: How many points are tried for each that is wanted, once one was found, and for the first.
_TRIES_EACH = 1_000
_TRIES_LEAST = 100_000
_BATCH = 2**14
_NEAREST_OF = 1_024


def sample(encoding: Encoding, n: int, rng: np.random.Generator, *, sobol: bool = False) -> np.ndarray:
    """Legal points (n, d) that meet the constraints. Raises InvalidInput where too few of those tried do."""
    if n < 1 or not encoding.d:
        return np.zeros((max(n, 0), encoding.d))
    draw: Callable[[int], np.ndarray] = (
        _Sobol(encoding.d, rng) if sobol else lambda rows: rng.random((rows, encoding.d))
    )
    if not encoding.constraints:
        return encoding.snap(_spread(encoding, draw(n)))
    found, failures, tried = _search(encoding, n, draw, _TRIES_EACH * n)
    if len(found) < n:
        raise too_few(encoding, failures, tried, len(found), n)
    return found[:n]


def _search(
    encoding: Encoding, n: int, draw: Callable[[int], np.ndarray], most: int
) -> tuple[np.ndarray, np.ndarray, int]:
    """Points that meet the constraints, how many failed each of them, and how many were tried."""
    found: list[np.ndarray] = []
    failures = np.zeros(len(encoding.constraints), dtype=np.int64)
    tried = met = 0
    while met < n and tried < max(_TRIES_LEAST, most if met else 0):
        # as many as the share so far lets expect, and some more
        rows = max(n, 64) if not tried else int(1.2 * (n - met) * tried / met) + 16 if met else 4 * tried
        points = encoding.snap(_spread(encoding, draw(min(rows, _BATCH))))
        failing = encoding.failing(points)
        failures += failing.sum(axis=0)
        tried += len(points)
        good = points[~failing.any(axis=1)]
        met += len(good)
        found.append(good)
    return np.concatenate(found), failures, tried


def too_few(encoding: Encoding, failures: np.ndarray, tried: int, met: int, wanted: int) -> InvalidInput:
    """The error of a search for points that meet the constraints, naming the constraint that fails most."""
    worst = int(failures.argmax())
    text, share = encoding.constraints[worst].text, failures[worst] / tried
    count = f"No point of {tried:,} tried meets" if not met else f"Only {met:,} of {tried:,} points tried meet"
    need = "" if not met else f", and {wanted:,} are wanted"
    return InvalidInput(
        f"{count} the constraints{need}: {text!r} fails most, for {share:.2%} of them. Loosen it, or narrow "
        f"the ranges of {' and '.join(encoding.constraints[worst].names)} so that it holds more often."
    )


def _spread(encoding: Encoding, units: np.ndarray) -> np.ndarray:
    """Uniform points (n, d) in [0, 1) with categories' columns stretched to their indices."""
    for i, one in enumerate(encoding.distributions):
        if isinstance(one, Categorical):
            units[:, i] = np.minimum(np.floor(units[:, i] * one.levels), one.levels - 1)
    return units


class _Sobol:
    """Draws the next rows of a scrambled Sobol sequence.

    I. M. Sobol (1967), On the distribution of points in a cube and the approximate evaluation of integrals; scrambled
    as in A. B. Owen (1998), Scrambling Sobol' and Niederreiter-Xing points.
    """

    def __init__(self, d: int, rng: np.random.Generator) -> None:
        try:
            from scipy.stats import qmc
        except ImportError as error:
            raise MissingExtra("Sobol points need SciPy: pip install 'metta-jobs[sweep]'.") from error
        self.engine = qmc.Sobol(d, scramble=True, rng=rng)
        self.rest = np.zeros((0, d))

    def __call__(self, rows: int) -> np.ndarray:
        if len(self.rest) < rows:
            # the sequence is balanced in powers of two only
            more = self.engine.random(2 ** int(np.ceil(np.log2(max(rows - len(self.rest), 2)))))
            self.rest = np.concatenate([self.rest, more])
        found, self.rest = self.rest[:rows].copy(), self.rest[rows:]
        return found


def feasible_centre(encoding: Encoding) -> np.ndarray:
    """The search centre (d,), snapped; where it breaks a constraint, the nearest of random points that break none."""
    centre: np.ndarray = encoding.snap(encoding.centre[None])[0]
    if not encoding.failing(centre[None]).any():
        return centre
    rng = np.random.default_rng(0)
    points, failures, tried = _search(encoding, _NEAREST_OF, lambda rows: rng.random((rows, encoding.d)), 0)
    if not len(points):
        raise too_few(encoding, failures, tried, 0, 1)
    categories = np.array([isinstance(one, Categorical) for one in encoding.distributions])
    apart = np.where(categories, points != centre, np.abs(points - centre))
    nearest: np.ndarray = points[np.nansum(apart**2, axis=1).argmin()]
    return nearest


def grid(encoding: Encoding, points_per_continuous: int) -> Iterator[np.ndarray]:
    """All combinations (d,) that are legal and meet the constraints, the last dimension changing fastest.

    A continuous parameter has this many values from end to end, one with more levels as many of them, a category all.
    What is not there makes no further combinations.
    """
    if points_per_continuous < 1:
        raise InvalidInput(f"A grid needs at least 1 point for each continuous parameter, not {points_per_continuous}.")
    axes = [_axis(encoding, i, points_per_continuous) for i in range(encoding.d)]
    gates = dict(encoding.gates)
    gated = list(gates)  # parents first
    order = [i for i in range(encoding.d) if i not in gates] + gated
    point = np.full(encoding.d, np.nan)

    def walk(step: int) -> Iterator[np.ndarray]:
        if step == len(order):
            if not encoding.failing(point[None]).any():
                yield point.copy()
            return
        i = order[step]
        there = all(gate.open(encoding.distributions[gate.parent], point[None])[0] for gate in gates.get(i, ()))
        for unit in axes[i] if there else (np.nan,):
            point[i] = unit
            yield from walk(step + 1)

    return walk(0)


def _axis(encoding: Encoding, i: int, points: int) -> list[float]:
    one = encoding.distributions[i]
    if isinstance(one, Categorical):
        return [float(index) for index in range(one.levels)]
    if points == 1 and one.levels is None:
        return [float(encoding.centre[i])]
    units = np.linspace(0.0, 1.0, points) if points > 1 else encoding.centre[i : i + 1]
    if one.levels is not None and one.levels <= points:
        values = range(one.levels)
        units = (np.array(values) + 0.5) / one.levels
    return list(dict.fromkeys(one.unit(one.value(float(unit))) if one.levels else float(unit) for unit in units))
