"""Points worth looking at, and climbing from them. All are legal points of the space, encoded, inactive ones NaN."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from metta_jobs.optimizer.kernel import Shape
    from metta_jobs.optimizer.observations import Array
    from metta_jobs.optimizer.space import Space

#: Standard deviations of steps, in units of a dimension's range.
_WIDTHS = (0.3, 0.1, 0.03, 0.01)
#: About so many dimensions change at once (Regis and Shoemaker 2013, DYCORS; as in TuRBO).
_CHANGED = 6


def legal(space: Space, x: Array) -> Array:
    """The points (n, d) snapped, without those that break a constraint, (m, d)."""
    if not len(x):
        return x
    snapped = space.snap(x)
    return np.asarray(snapped[space.feasible(snapped)])


def around(space: Space, shape: Shape, centres: Array, each: int, scale: float, rng: np.random.Generator) -> Array:
    """Points around filled centres (k, d): steps of several widths in some of the dimensions, (≤ k·each, d)."""
    if not len(centres) or not each:
        return np.empty((0, shape.size))
    base = np.repeat(centres, each, axis=0)
    n, d = base.shape
    width = scale * rng.choice(_WIDTHS, size=(n, 1))
    changed = rng.random((n, d)) < min(1.0, _CHANGED / d) * rng.choice([1.0, 0.35], size=(n, 1))
    changed[np.arange(n), rng.integers(d, size=n)] = True
    moved = reflect(base + width * rng.normal(size=(n, d)))
    moved[:, shape.categorical] = another(space, shape, n, rng)
    # A category is changed less often than a number: one step leaves nothing as it was.
    changed &= ~shape.categorical | (rng.random((n, d)) < 0.5)
    return legal(space, np.where(changed, moved, base))


def crossed(space: Space, shape: Shape, parents: Array, n: int, rng: np.random.Generator) -> Array:
    """Children of filled parents (k, d): differential steps, and values of two mixed (Storn and Price 1997)."""
    if len(parents) < 4 or not n:
        return np.empty((0, shape.size))
    a, b, c = (parents[rng.integers(len(parents), size=n)] for _ in range(3))
    step = a + rng.uniform(0.3, 0.9, size=(n, 1)) * (b - c)
    mixed = np.where(rng.random(a.shape) < 0.5, a, b)
    child = np.where(rng.random((n, 1)) < 0.5, reflect(step), mixed)
    child[:, shape.categorical] = mixed[:, shape.categorical]
    return legal(space, child)


def another(space: Space, shape: Shape, n: int, rng: np.random.Generator) -> Array:
    """Random categories (n, number of categorical dimensions)."""
    levels = [space.dimensions[int(i)].levels or 1 for i in np.flatnonzero(shape.categorical)]
    return np.column_stack([rng.integers(k, size=n) for k in levels]).astype(float) if levels else np.empty((n, 0))


def reflect(x: Array) -> Array:
    """Values outside [0, 1] mirrored back into it."""
    return np.asarray(1.0 - np.abs(1.0 - np.mod(x, 2.0)))


def climb(
    space: Space, shape: Shape, worth: Callable[[Array], Array], start: Array, box: tuple[Array, Array], steps: int = 20
) -> tuple[Array, float]:
    """Climb from one legal point (d,): numbers by L-BFGS within the box, then every neighbour in steps and categories.

    `worth` takes filled points (m, d). Returns a legal point and its worth, never worse than the start.
    """
    best, value = start, float(worth(shape.filled(start[None]))[0])
    for point in (_ascend(shape, worth, start, box, steps),):
        found = legal(space, point[None])
        if len(found) and (gain := float(worth(shape.filled(found))[0])) > value:
            best, value = found[0], gain
    for _ in range(4):
        near = legal(space, _neighbours(space, shape, best))
        if not len(near):
            break
        worths = worth(shape.filled(near))
        top = int(np.argmax(worths))
        if worths[top] <= value + 1e-9:
            break
        best, value = near[top], float(worths[top])
    return best, value


def _ascend(shape: Shape, worth: Callable[[Array], Array], start: Array, box: tuple[Array, Array], steps: int) -> Array:
    """L-BFGS over the active numbers, with all forward differences in one call of `worth`."""
    from scipy.optimize import minimize

    free = np.flatnonzero(~shape.categorical & ~np.isnan(start))
    point = shape.filled(start[None])[0]
    low, high = np.minimum(box[0], point)[free], np.maximum(box[1], point)[free]
    if not len(free) or steps <= 0:
        return np.asarray(point)
    eps = 1e-6

    def objective(values: Array) -> tuple[float, Array]:
        batch = np.repeat(point[None], len(free) + 1, axis=0)
        batch[:, free] = values
        step = np.where(values + eps > 1.0, -eps, eps)
        batch[np.arange(1, len(free) + 1), free] += step
        worths = worth(batch)
        return -float(worths[0]), -(worths[1:] - worths[0]) / step

    result = minimize(
        objective,
        point[free],
        jac=True,
        method="L-BFGS-B",
        bounds=list(zip(low, high, strict=True)),
        options={"maxiter": steps, "maxfun": 2 * steps},
    )
    point[free] = np.clip(result.x, low, high)
    return np.asarray(point)


def _neighbours(space: Space, shape: Shape, point: Array) -> Array:
    """One dimension changed: each other category, an integer's next steps, (m, d) filled and not yet snapped."""
    base = shape.filled(point[None])[0]
    out = []
    for i, dimension in enumerate(space.dimensions):
        if dimension.levels is None or np.isnan(point[i]):
            continue
        if shape.categorical[i]:
            values = [float(k) for k in range(dimension.levels) if k != base[i]][:32]
        else:
            step = max(1.0 / dimension.levels, 1 / 64)
            values = [v for v in (base[i] - step, base[i] + step) if -0.01 < v < 1.01]
        for value in values:
            moved = base.copy()
            moved[i] = min(max(value, 0.0), dimension.levels - 1.0 if shape.categorical[i] else 1.0)
            out.append(moved)
    return np.array(out).reshape(len(out), shape.size)
