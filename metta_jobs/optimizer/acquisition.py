"""What a trial is worth: log expected improvement, of the front's area or of the best, per cost, times feasibility."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from metta_jobs.optimizer.pareto import front
from metta_jobs.optimizer.surrogate import Models

if TYPE_CHECKING:
    from metta_jobs.optimizer.observations import Array

_HALF_LOG_2PI = 0.5 * np.log(2 * np.pi)


def log_h(u: Array) -> Array:
    """log(φ(u) + u·Φ(u)), accurate far below 0 (Ament et al. 2023, "Unexpected improvements …")."""
    from scipy.special import erfcx, ndtr

    u = np.asarray(u, dtype=float)
    high = np.maximum(u, -1.0)
    value = np.log(np.exp(-0.5 * high**2 - _HALF_LOG_2PI) + high * ndtr(high))
    low = np.minimum(u, -1.0)
    part = np.sqrt(np.pi / 2) * erfcx(-low / np.sqrt(2.0)) * low  # -> -1 from above
    tail = np.where(low < -1e4, -2.0 * np.log(-low), np.log1p(np.maximum(part, -1.0 + 1e-12)))
    return np.asarray(np.where(u > -1.0, value, -0.5 * low**2 - _HALF_LOG_2PI + tail))


def log_expected_improvement(mean: Array, std: Array, best: float | Array) -> Array:
    """log E[max(f - best, 0)] for f ~ N(mean, std²)."""
    return np.asarray(np.log(std) + log_h((mean - best) / std))


class Acquisition:
    """The worth of filled points, larger is better, as a logarithm.

    The front is a staircase over log cost. A point of cost c and score f adds Σ over the steps beyond c of their
    width times E[max(f - step, 0)]: the expected growth of the area under the front, exact for a known cost (Emmerich
    et al. 2011, "Hypervolume-based expected improvement"). The last step is `top` wide, in units of the front's whole
    range: 1 and no other steps is plain expected improvement. Gains count from `margin` on. `power` is the exponent of
    the cost that it is divided by. Log costs above the log of `limit`, or above `reach`, are worth nothing.
    """

    def __init__(
        self,
        models: Models,
        *,
        steps: bool,
        power: float,
        top: float = 1.0,
        limit: float | None = None,
        reach: float = np.inf,
        margin: float = 0.0,
    ):
        self.models, self.power = models, power
        self.limit = min(np.inf if limit is None else float(np.log(limit)), reach)
        self.best = float(models.mean.max()) + margin
        rows = front(models.mean, models.log_cost)
        edges, levels = models.log_cost[rows], models.mean[rows] + margin
        span = float(edges[-1] - edges[0])
        if not steps or span < 1e-6:
            self.edges, self.levels, self.widths = np.array([-np.inf]), np.array([self.best]), np.array([top])
            return
        floor = float(np.quantile(models.mean, 0.1))
        low = float(models.log_cost.min())
        # Cheaper than the front's first point, everything above the floor counts.
        first = max(float(edges[0]) - low, 0.0) + 0.1 * span
        self.edges = np.concatenate([[edges[0] - first], edges])
        self.levels = np.concatenate([[min(floor, levels[0])], levels])
        self.widths = np.concatenate([np.diff(self.edges), [top * span]]) / span

    def __call__(self, x: Array) -> Array:
        """The worth (m,) of filled points (m, d)."""
        mean, variance = self.models.score.predict(x)
        logs = self.models.log_costs(x)
        value = self._value(mean, np.sqrt(variance), logs)
        value = value - self.power * logs + np.log(np.maximum(self.models.feasible(x), 1e-12))
        return np.where(logs > self.limit, -1e9 - logs, value)

    def _value(self, mean: Array, std: Array, logs: Array) -> Array:
        from scipy.special import logsumexp

        gains = log_expected_improvement(mean[:, None], std[:, None], self.levels[None, :])
        ends = np.concatenate([self.edges[1:], [np.inf]])
        with np.errstate(divide="ignore", invalid="ignore"):
            share = np.clip((ends[None, :] - logs[:, None]) / (ends - self.edges)[None, :], 0.0, 1.0)
        share[:, -1] = 1.0
        return np.asarray(logsumexp(gains, axis=1, b=np.maximum(share * self.widths[None, :], 1e-300)))
