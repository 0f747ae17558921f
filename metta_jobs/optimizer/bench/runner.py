"""One search of one problem, and many of them side by side."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from functools import cache
from multiprocessing import get_context
from typing import Any

import numpy as np

from metta_jobs.errors import UnknownName, nearest
from metta_jobs.optimizer.advisor import Optimizer
from metta_jobs.optimizer.bench.problem import Problem
from metta_jobs.optimizer.bench.problems import HELD_OUT, PROBLEMS, TUNED
from metta_jobs.optimizer.pareto import area
from metta_jobs.optimizer.settings import OptimizerSettings
from metta_jobs.optimizer.space import Space

#: How often regret is recorded along a search.
_MARKS = 10


def search(problem: Problem, method: str, seed: int, settings: dict[str, Any] | None = None) -> dict[str, Any]:
    """Run one search. Returns a row for the JSON file.

    regret: that of the true score at the point observed as best, 1 being a random point, 0 the optimum; area: under
    the front of true score against log cost, as a part of the box between the cheapest and dearest random trials.
    """
    space = Space.from_dict(problem.space)
    optimizer = Optimizer(space, OptimizerSettings(**{"method": method, **(settings or {})}), seed=seed)
    rng = np.random.default_rng([seed, 99])
    spent, asking, slowest = 0.0, 0.0, 0.0
    truths: list[float] = []
    logs: list[float] = []
    curve: list[float] = []
    best = (-math.inf, math.nan)
    typical = _typical(problem.name) if problem.name in PROBLEMS else problem.typical()
    for number in range(problem.trials):
        if problem.budget is not None and spent >= problem.budget:
            break
        began = time.perf_counter()
        asked = optimizer.ask(1)
        took = time.perf_counter() - began
        asking, slowest = asking + took, max(slowest, took)
        if not asked:
            break
        params = asked[0].params
        outcome = problem.run(params, rng)
        spent += outcome.cost
        optimizer.tell(params, outcome.score, outcome.cost, failed=outcome.failed)
        if outcome.score is not None and not (problem.budget and spent > problem.budget):
            truth = problem.truth(params)
            truths.append(truth)
            logs.append(math.log(outcome.cost))
            best = max(best, (outcome.score, truth))
        if (number + 1) % max(1, problem.trials // _MARKS) == 0:
            curve.append((problem.optimum - best[1]) / (problem.optimum - typical))
    row: dict[str, Any] = {
        "problem": problem.name,
        "method": method,
        "seed": seed,
        "regret": (problem.optimum - best[1]) / (problem.optimum - typical) if truths else 1.0,
        "score": best[1],
        "optimum": problem.optimum,
        "trials": len(optimizer.observations),
        "seconds": asking / max(1, len(optimizer.observations)),
        "slowest": slowest,
        "curve": curve,
    }
    if problem.cost is not None and truths:
        low, high = _cost_range(problem, space)
        row["area"] = area(np.array(truths), np.array(logs), low, high, 0.0, problem.optimum)
    return row


def _cost_range(problem: Problem, space: Space) -> tuple[float, float]:
    assert problem.cost is not None
    points = space.sample(2000, np.random.default_rng(54321))
    logs = np.log([problem.cost(space.decode(x)) for x in points])
    return float(np.quantile(logs, 0.01)), float(np.quantile(logs, 0.99))


def chosen(names: Sequence[str]) -> list[str]:
    """Problems by name; "tuned", "held-out" and "all" are groups of them. Raises UnknownName."""
    groups = {"tuned": list(TUNED), "held-out": list(HELD_OUT), "all": list(PROBLEMS)}
    found: list[str] = []
    for name in names:
        if name not in groups and name not in PROBLEMS:
            raise UnknownName(f"There is no problem {name!r}.{nearest(name, [*groups, *PROBLEMS])}")
        found += [one for one in groups.get(name, [name]) if one not in found]
    return found


def run_all(
    problems: Sequence[str],
    methods: Sequence[str],
    seeds: Sequence[int],
    jobs: int,
    settings: dict[str, Any] | None = None,
) -> list[dict[str, Any]]:
    """Every problem by every method with every seed, in so many processes."""
    tasks = [(problem, method, seed, settings) for seed in seeds for problem in problems for method in methods]
    if jobs <= 1:
        return [_task(*task) for task in tasks]
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
        waiting = [pool.submit(_task, *task) for task in tasks]
        rows = [done.result() for done in as_completed(waiting)]
    return sorted(rows, key=lambda row: (row["problem"], row["method"], row["seed"]))


def _task(problem: str, method: str, seed: int, settings: dict[str, Any] | None) -> dict[str, Any]:
    return search(_problem(problem), method, seed, None if method.startswith("optuna:") else settings)


@cache
def _problem(name: str) -> Problem:
    return PROBLEMS[name]()


@cache
def _typical(name: str) -> float:
    return _problem(name).typical()
