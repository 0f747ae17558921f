"""Each setting of the optimiser shows an effect."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from metta_jobs.optimizer.advisor import Optimizer
from metta_jobs.optimizer.protein import _pool
from metta_jobs.optimizer.settings import OptimizerSettings
from metta_jobs.optimizer.space import Space

SPACE = Space.from_dict(
    {
        "steps": {"distribution": "log_normal", "min": 1.0, "max": 1000.0, "mean": 10.0},
        "x": {"distribution": "uniform", "min": 0.0, "max": 1.0, "mean": 0.2},
    }
)


def result(params: dict[str, Any]) -> tuple[float, float]:
    """A score that grows with steps, which are the cost."""
    return float(np.log(params["steps"]) - 4 * (params["x"] - 0.7) ** 2), float(params["steps"])


def run(n: int, seed: int = 0, **words: Any) -> Optimizer:
    optimizer = Optimizer(SPACE, OptimizerSettings(**words), seed=seed)
    for _ in range(n):
        params = optimizer.ask()[0].params
        score, cost = result(params)
        optimizer.tell(params, score, cost)
    return optimizer


def test_num_random_samples() -> None:
    for number in (4, 7):
        optimizer = Optimizer(SPACE, OptimizerSettings(num_random_samples=number))
        sources = []
        for _ in range(number + 1):
            suggestion = optimizer.ask()[0]
            sources.append(suggestion.source)
            optimizer.tell(suggestion.params, *result(suggestion.params))
        assert sources == ["centre", *["spread"] * (number - 1), "model"]


def test_seed_with_search_center() -> None:
    seeded, free = run(1), run(1, seed_with_search_center=False)
    assert seeded.observations[0].params == SPACE.decode(SPACE.centre)
    assert free.observations[0].params != SPACE.decode(SPACE.centre)


def test_global_search_scale() -> None:
    def width(scale: float) -> float:
        found = run(16, num_random_samples=16, global_search_scale=scale).observations
        return float(np.std([seen.x for seen in found]))

    assert width(0.1) < 0.5 * width(1.0)


def test_max_suggestion_cost() -> None:
    limited = run(10, max_suggestion_cost=20.0)
    for suggestion in limited.ask(3):
        assert suggestion.prediction is not None and suggestion.prediction.cost is not None
        assert suggestion.prediction.cost <= 20.0 * 1.01
    assert max(seen.cost or 0 for seen in run(14).observations[8:]) > 20


def test_expansion_rate() -> None:
    def dearest(rate: float) -> float:
        optimizer = Optimizer(SPACE, OptimizerSettings(expansion_rate=rate, num_random_samples=3))
        for steps in (1.0, 2.0, 4.0, 8.0):
            for x in (0.1, 0.6, 0.9):
                params = {"steps": steps, "x": x}
                optimizer.tell(params, *result(params))
        return max(s.prediction.cost or 0 for s in optimizer.ask(3) if s.prediction)

    assert dearest(0.0) <= 8.1
    assert dearest(1.0) > 9.0


def test_resample_frequency() -> None:
    sources = [s.source for s in run(9, resample_frequency=3).ask(6)]
    assert sources.count("repeat") == 2
    assert "repeat" not in [s.source for s in run(9).ask(6)]
    repeat = next(s for s in run(9, resample_frequency=3).ask(6) if s.source == "repeat")
    assert any(seen.params == repeat.params for seen in run(9, resample_frequency=3).front())


@pytest.mark.parametrize("field", ["random_suggestions", "suggestions_per_pareto"])
def test_the_number_of_candidates(field: str) -> None:
    optimizer = run(9)
    models = optimizer._learned()[0]
    sizes = [
        len(_pool(SPACE, optimizer._shape, models, OptimizerSettings(**{field: n}), np.random.default_rng(0), None))
        for n in (16, 256)
    ]
    assert sizes[1] >= sizes[0] + 200


def test_goal() -> None:
    assert run(3, goal="minimize").best()[0].score == min(seen.score or 0 for seen in run(3).observations)


def test_bayes_is_blind_to_cost() -> None:
    def spent(method: str) -> float:
        return sum(seen.cost or 0 for seen in run(16, method=method).observations[8:])

    assert spent("bayes") > spent("protein")


def test_grid_points() -> None:
    assert len(Optimizer(SPACE, OptimizerSettings(method="grid", grid_points=3)).ask(100)) == 9


def test_metric_is_kept_and_an_unknown_method_is_refused() -> None:
    assert OptimizerSettings(metric="reward").metric == "reward"
    with pytest.raises(ValidationError, match="Did you mean 'protein'"):
        OptimizerSettings(method="protien")
