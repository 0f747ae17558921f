"""The three models of a search: score, log cost, and whether a trial fails."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from metta_jobs.optimizer.gp import GP, Priors
from metta_jobs.optimizer.kernel import Kind, Shape
from metta_jobs.optimizer.transforms import Transform

if TYPE_CHECKING:
    from metta_jobs.optimizer.observations import Array, Data

#: Hyperparameters are fitted to so many points, and predictions made from so many: docs/optimizer.md has the timings.
FIT_TO, PREDICT_FROM = 200, 400
KINDS: tuple[Kind, ...] = ("matern", "additive")


@dataclass
class Models:
    """What the data say. Everything is in standardised units z of the score, larger is better, and in log cost.

    score and transform; cost with its mean and scale, or None where no cost is known or all are alike; feasibility, or
    None while nothing has failed; x (n, d), mean (n,) and log_cost (n,) at the points with final scores; notes tell of
    fallbacks.
    """

    shape: Shape
    transform: Transform
    score: GP
    cost: GP | None
    cost_centre: float
    cost_scale: float
    feasibility: GP | None
    x: Array
    mean: Array
    log_cost: Array
    notes: tuple[str, ...]

    @property
    def incumbent(self) -> int:
        """The row of x with the best posterior mean."""
        return int(np.argmax(self.mean))

    def log_costs(self, x: Array) -> Array:
        """Expected log cost (m,) of filled points (m, d)."""
        if self.cost is None:
            return np.full(len(x), self.cost_centre)
        return self.cost.predict(x)[0] * self.cost_scale + self.cost_centre

    def feasible(self, x: Array) -> Array:
        """Probability (m,) that trials at filled points do not fail, by least-squares classification (Rasmussen and
        Williams 2006, 6.5)."""
        from scipy.special import ndtr

        if self.feasibility is None:
            return np.ones(len(x))
        mean, variance = self.feasibility.predict(x)
        return np.asarray(ndtr(2.0 * mean / np.sqrt(1.0 + variance)))

    def fantasise(self, x: Array) -> Models:
        """These models once trials at filled points (m, d) are under way; front and incumbent stay what they are."""
        if not len(x):
            return self
        return Models(**{**self.__dict__, "score": self.score.fantasise(x)})


def learn(data: Data, shape: Shape, rng: np.random.Generator) -> tuple[Models, Models]:
    """Fit the models. Needs at least one final score. Returns those for the neighbourhood of good points, whose score
    may be bent, and those for the whole space, whose score is as it is: many points around one optimum would
    otherwise make it look like a peak above everything else."""
    notes: list[str] = []
    x = shape.filled(data.x)
    seen = np.flatnonzero(data.count > 0)
    fitted = _score(data, x, seen, shape, rng, notes)
    cost, centre, scale = cost_model(data, x, shape, rng)
    feasibility = None
    if data.failures.any():
        label = 1.0 - 2.0 * data.failures / data.trials
        rows = _subset(x, label, np.arange(len(x)), FIT_TO, rng)
        priors = Priors.of(shape.size, noise=(-1.5, 0.7))
        feasibility = GP(shape, "matern", x[rows], label[rows], 1.0 / data.trials[rows], np.zeros(len(rows)), priors)
        feasibility.fit(starts=1)
    found = []
    for score, transform in fitted:
        mean = score.predict(x[seen])[0]
        models = Models(
            shape, transform, score, cost, centre, scale, feasibility, x[seen], mean, np.empty(0), tuple(notes)
        )
        models.log_cost = models.log_costs(x[seen])
        found.append(models)
    return found[0], found[1]


def _score(
    data: Data, x: Array, seen: Array, shape: Shape, rng: np.random.Generator, notes: list[str]
) -> list[tuple[GP, Transform]]:
    """Models of the score: that with most evidence of all kernels and transforms, and of those that bend nothing."""
    y = data.y[seen]
    few = _subset(x, data.y, seen, FIT_TO, rng)
    rows = _subset(x, data.y, seen, PREDICT_FROM, rng) if len(seen) > len(few) else few
    if len(seen) > len(rows):
        notes.append(f"the model learned from {len(rows)} of {len(seen)} points, the best and the nearest to them")
    transforms = [Transform.plain(y)]
    if len(y) >= 8:
        transforms.append(Transform.power_of(y))
    spread = 1.0 / np.maximum(data.count, 1.0)
    tried: list[tuple[float, GP, Transform]] = []
    for transform in transforms:
        for kind in KINDS if shape.size > 1 else KINDS[:1]:
            z, slope = transform.forward(data.y[few]), transform.slope(data.y[few])
            known = data.known_noise[few] * slope**2
            gp = GP(shape, kind, x[few], z, spread[few], known, Priors.of(shape.size)).fit(starts=1)
            tried.append((gp.evidence + float(np.log(slope).sum()), gp, transform))
    floors = np.flatnonzero(~np.isnan(data.floor))
    found: list[tuple[GP, Transform]] = []
    for among in (tried, [one for one in tried if one[2] is transforms[0]]):
        evidence, best, transform = max(among, key=lambda one: one[0])
        slope = transform.slope(data.y[rows])
        known = data.known_noise[rows] * slope**2
        gp = GP(shape, best.kind, x[rows], transform.forward(data.y[rows]), spread[rows], known, best.priors)
        gp.condition(best.hyper).evidence = evidence
        if gp.jitter > 1e-6:
            notes.append(f"the model's matrix needed a jitter of {gp.jitter:g}")
        found.append((_with_stopped(gp, transform, data, x, floors) if len(floors) else gp, transform))
    return found


def _with_stopped(gp: GP, transform: Transform, data: Data, x: Array, floors: Array) -> GP:
    """The model after trials that were stopped: each is a draw between its own score and the median of final ones
    (or its own, if higher), taken at the mean and with the variance of the normal truncated there."""
    from scipy.stats import truncnorm

    rows = floors[np.argsort(-data.floor[floors])][:PREDICT_FROM]
    mean, variance = gp.predict(x[rows])
    std = np.sqrt(variance)
    low = transform.forward(data.floor[rows])
    high = np.maximum(low + 1e-3, float(np.median(gp.y)))
    a, b = np.clip((low - mean) / std, -30, 30), np.clip((high - mean) / std, -30, 30)
    b = np.maximum(b, a + 1e-6)
    value = np.clip(truncnorm.mean(a, b, mean, std), low, high)
    doubt = np.maximum(np.minimum(truncnorm.var(a, b, mean, std), (high - low) ** 2 / 4), 1e-4)
    grown = GP(
        gp.shape,
        gp.kind,
        np.vstack([gp.x, x[rows]]),
        np.concatenate([gp.y, value]),
        np.concatenate([gp.spread, np.ones(len(rows))]),
        np.concatenate([gp.known, doubt]),
        gp.priors,
    )
    grown.evidence = gp.evidence
    return grown.condition(gp.hyper)


def cost_model(data: Data, x: Array, shape: Shape, rng: np.random.Generator) -> tuple[GP | None, float, float]:
    """The model of log cost, its centre and scale; no model where the cost is unknown or always the same."""
    known = np.flatnonzero(~np.isnan(data.log_cost))
    if not len(known):
        return None, 0.0, 1.0
    logs = data.log_cost[known]
    centre, scale = float(np.mean(logs)), float(np.std(logs))
    if scale < 1e-3 or len(known) < 3:
        return None, centre, 1.0
    rows = _subset(x, data.log_cost, known, FIT_TO, rng)
    kind: Kind = "additive" if shape.size > 1 else "matern"
    gp = GP(
        shape,
        kind,
        x[rows],
        (data.log_cost[rows] - centre) / scale,
        np.ones(len(rows)),
        np.zeros(len(rows)),
        Priors.of(shape.size),
    )
    return gp.fit(starts=1), centre, scale


def _subset(x: Array, value: Array, rows: Array, most: int, rng: np.random.Generator) -> Array:
    """At most so many of the rows: a third by value, a third nearest to the best, the rest at random."""
    if len(rows) <= most:
        return rows
    order = rows[np.argsort(-value[rows], kind="stable")]
    third = most // 3
    picked = list(order[:third])
    rest = order[third:]
    near = rest[np.argsort(((x[rest] - x[order[0]]) ** 2).sum(1), kind="stable")]
    picked += list(near[:third])
    others = near[third:]
    picked += list(rng.choice(others, size=most - len(picked), replace=False))
    return np.sort(np.array(picked))
