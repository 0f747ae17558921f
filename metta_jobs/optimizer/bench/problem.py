"""What a benchmark problem is, and how far from its optimum a search ended."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from metta_jobs.optimizer.space import Space

Params = dict[str, Any]


@dataclass(frozen=True)
class Outcome:
    """What a trial gave: score (larger is better), its cost, or a failure."""

    score: float | None
    cost: float
    failed: bool = False


@dataclass(frozen=True)
class Problem:
    """A function to maximise over a space.

    truth(params) is the score without noise; noise(params) the standard deviation that is added; cost(params) above
    0; fails(params) the probability of failing. A search ends after `trials`, or when `budget` of cost is spent.
    """

    name: str
    space: dict[str, Any]
    truth: Callable[[Params], float]
    optimum: float
    trials: int
    noise: Callable[[Params], float] | None = None
    cost: Callable[[Params], float] | None = None
    fails: Callable[[Params], float] | None = None
    budget: float | None = None

    def run(self, params: Params, rng: np.random.Generator) -> Outcome:
        """One noisy trial."""
        cost = self.cost(params) if self.cost else 1.0
        if self.fails and rng.random() < self.fails(params):
            return Outcome(None, cost * float(rng.uniform(0.05, 0.5)), failed=True)
        noise = self.noise(params) * float(rng.normal()) if self.noise else 0.0
        return Outcome(self.truth(params) + noise, cost)

    def typical(self, n: int = 2000) -> float:
        """The mean true score of random points: regret 1."""
        space = Space.from_dict(self.space)
        points = space.sample(n, np.random.default_rng(12345))
        return float(np.mean([self.truth(space.decode(x)) for x in points]))


def unit_space(d: int) -> dict[str, Any]:
    """d numbers between 0 and 1, the centre in the middle."""
    return {f"x{i}": {"distribution": "uniform", "min": 0.0, "max": 1.0} for i in range(d)}


def over_units(function: Callable[[Any], float], d: int) -> Callable[[Params], float]:
    """A function to minimise over [0, 1]^d as a score over such a space."""
    paths = [f"x{i}" for i in range(d)]
    return lambda params: -function(np.array([params[path] for path in paths], dtype=float))
