"""Ask and tell: reproducible, aware of what is pending, failed, stopped, repeated or too dear."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from metta_jobs.errors import InvalidInput, UnknownName
from metta_jobs.optimizer.advisor import Optimizer
from metta_jobs.optimizer.pareto import area, front
from metta_jobs.optimizer.region import length
from metta_jobs.optimizer.settings import OptimizerSettings
from metta_jobs.optimizer.space import Space

SPACE = Space.from_dict(
    {
        "lr": {"distribution": "log_normal", "min": 1e-4, "max": 1.0, "mean": 1e-2},
        "depth": {"distribution": "int_uniform", "min": 1, "max": 6},
        "kind": {"distribution": "categorical", "choices": ["a", "b", "c"]},
        "extra": {"distribution": "uniform", "min": 0, "max": 1, "when": {"kind": "b"}},
    }
)


def score(params: dict[str, Any]) -> float:
    value = -((np.log10(params["lr"]) + 1) ** 2) - 0.1 * (params["depth"] - 4) ** 2
    return float(value + {"a": 0.0, "b": 1.0, "c": -1.0}[params["kind"]] - (params.get("extra", 0.5) - 0.3) ** 2)


def lived(n: int, seed: int = 0, **words: Any) -> Optimizer:
    optimizer = Optimizer(SPACE, OptimizerSettings(**{"num_random_samples": 5, **words}), seed=seed)
    for _ in range(n):
        params = optimizer.ask()[0].params
        optimizer.tell(params, score(params), cost=float(params["depth"]))
    return optimizer


def test_it_finds_the_best_of_a_mixed_space() -> None:
    best = lived(30).best()[0]
    assert best.params["kind"] == "b"
    assert best.score is not None and best.score > 0.9


def test_one_made_again_asks_the_same() -> None:
    first = lived(8)
    waiting = first.ask()[0]
    again = Optimizer(
        SPACE,
        first.settings,
        seed=0,
        observations=list(first.observations),
        pending=[waiting.params],
        asked=first.asked,
    )
    assert again.ask(2) == first.ask(2)


@pytest.mark.parametrize("method", ["protein", "bayes", "random", "sobol"])
def test_another_seed_asks_for_other_points(method: str) -> None:
    told = [lived(6, seed=seed, method=method).ask()[0].params for seed in (0, 0, 1)]
    assert told[0] == told[1] != told[2]


def test_a_batch_is_diverse_and_pending_is_not_front_nor_best() -> None:
    optimizer = lived(10)
    before = (optimizer.best(3), optimizer.front())
    batch = optimizer.ask(5)
    assert len({tuple(sorted(s.params.items(), key=str)) for s in batch}) == 5
    assert (optimizer.best(3), optimizer.front()) == before
    assert len(optimizer.pending) == 5
    optimizer.forget(batch[0].params)
    assert len(optimizer.pending) == 4


def test_a_suggestion_says_why() -> None:
    optimizer = lived(2)
    early = optimizer.ask()[0]
    assert early.source == "spread"
    assert early.why.startswith("at random, around the centre: only 2 observations yet")
    later = lived(8).ask()[0]
    assert later.source == "model"
    assert later.prediction is not None and later.prediction.cost is not None
    assert later.expected_improvement is not None and later.expected_improvement >= 0
    per_cost = later.expected_improvement / later.prediction.cost
    assert later.expected_improvement_per_cost == pytest.approx(per_cost)


def test_predictions_learn_score_cost_and_failure() -> None:
    optimizer = Optimizer(SPACE, seed=0)
    rng = np.random.default_rng(0)
    for x in SPACE.sample(50, rng):
        params = SPACE.decode(x)
        hot = params["lr"] > 0.1
        optimizer.tell(params, None if hot else score(params), cost=10.0 * params["depth"], failed=hot)
    cool = optimizer.predict({"lr": 0.01, "depth": 4, "kind": "a"})
    hot_one = optimizer.predict({"lr": 0.9, "depth": 4, "kind": "a"})
    assert cool is not None and hot_one is not None and cool.cost is not None
    assert cool.feasible > 0.8 > 0.4 > hot_one.feasible
    assert cool.cost == pytest.approx(40, rel=0.2)
    assert cool.score == pytest.approx(-1, abs=0.5)
    assert all(optimizer.ask()[0].params["lr"] < 0.3 for _ in range(3))


def test_minimising_is_maximising_upside_down() -> None:
    up, down = lived(0), Optimizer(SPACE, OptimizerSettings(num_random_samples=5, goal="minimize"), seed=0)
    for _ in range(7):
        params = up.ask()[0].params
        assert down.ask()[0].params == params
        up.tell(params, score(params), 1.0)
        down.tell(params, -score(params), 1.0)
    assert [seen.params for seen in up.best(3)] == [seen.params for seen in down.best(3)]
    assert up.predict(up.best()[0].params).score == pytest.approx(-down.predict(up.best()[0].params).score)  # type: ignore[union-attr]


def test_replicates_are_averaged() -> None:
    optimizer = Optimizer(SPACE)
    lucky, steady = ({"lr": 0.01, "depth": d, "kind": "a"} for d in (2, 3))
    for value in (5.0, 0.0, 0.0):
        optimizer.tell(lucky, value, 1.0)
    for value in (2.0, 2.0, 2.1):
        optimizer.tell(steady, value, 1.0, noise=0.1)
    assert optimizer.best()[0].params == steady


def test_a_stopped_trial_is_a_lower_bound_and_never_the_best() -> None:
    optimizer = lived(10)
    point = {"lr": 0.5, "depth": 2, "kind": "c"}
    optimizer.tell(point, 100.0, 0.1, stopped=True)
    assert optimizer.best()[0].score != 100.0
    assert all(seen.score != 100.0 for seen in optimizer.front())
    worst = min(seen.score for seen in optimizer.observations if seen.score is not None)
    low = lived(10)
    low.tell(point, worst - 5.0, 0.1, stopped=True)
    prediction = low.predict(point)
    assert prediction is not None and prediction.score > worst - 5.0


def test_a_point_that_was_never_suggested_is_learned_from() -> None:
    optimizer = lived(8)
    optimizer.tell({"lr": 0.1, "depth": 4, "kind": "b", "extra": 0.3}, 50.0, 1.0)
    assert optimizer.best()[0].score == 50.0


def test_a_space_of_constants_is_refused() -> None:
    with pytest.raises(InvalidInput, match="nothing to search"):
        Optimizer(Space.from_dict({"a": 1}))


def test_a_limit_that_nothing_can_keep_is_told() -> None:
    optimizer = lived(9, max_suggestion_cost=0.01)
    assert optimizer.ask()[0].why.startswith("nothing is expected to cost as little as it may")


def test_a_trial_of_many_is_suggested_from_a_part_of_them() -> None:
    optimizer = Optimizer(SPACE)
    for x in SPACE.sample(450, np.random.default_rng(0)):
        params = SPACE.decode(x)
        optimizer.tell(params, score(params), 1.0)
    assert "the model learned from 400 of" in optimizer.ask()[0].why


def test_a_grid_ends_and_a_full_space_repeats() -> None:
    small = Space.from_dict({"a": {"distribution": "categorical", "choices": ["x", "y", "z"]}})
    grid = Optimizer(small, OptimizerSettings(method="grid"))
    assert [s.params["a"] for s in grid.ask(10)] == ["x", "y", "z"]
    tried = Optimizer(small, OptimizerSettings(num_random_samples=3))
    for _ in range(5):
        params = tried.ask()[0].params
        tried.tell(params, {"x": 1.0, "y": 2.0, "z": 3.0}[params["a"]], 1.0)
    assert {seen.params["a"] for seen in tried.observations} == {"x", "y", "z"}


@pytest.mark.parametrize(
    "told",
    [{"score": None}, {"score": float("nan")}, {"score": 1.0, "cost": -1.0}, {"score": 1.0, "noise": float("inf")}],
)
def test_numbers_that_cannot_be_are_refused(told: dict[str, Any]) -> None:
    optimizer = Optimizer(SPACE)
    with pytest.raises(InvalidInput):
        optimizer.tell({"lr": 0.1, "depth": 1, "kind": "a"}, **told)
    assert not optimizer.observations


def test_all_scores_alike_and_all_failed_are_survived() -> None:
    same, broken = Optimizer(SPACE), Optimizer(SPACE)
    for _ in range(11):
        same.tell(same.ask()[0].params, 1.0, 1.0)
        broken.tell(broken.ask()[0].params, None, 1.0, failed=True)
    assert same.ask()[0].source == "model"
    assert broken.ask()[0].why.startswith("at random, around the centre: only 0 observations yet")


@pytest.mark.parametrize("sampler", ["TPESampler", "CmaEsSampler", "RandomSampler"])
def test_samplers_of_optuna(sampler: str) -> None:
    optimizer = lived(12, method=f"optuna:{sampler}")
    given, other = optimizer.ask(2)
    assert given.source == "optuna" and given.params != other.params
    optimizer.tell(given.params, None, 1.0, failed=True)
    optimizer.forget(other.params)
    optimizer.tell({"lr": 0.1, "depth": 4, "kind": "b", "extra": 0.3}, 50.0, 1.0)
    again = Optimizer(SPACE, optimizer.settings, seed=0, observations=list(optimizer.observations))
    assert again.ask()[0].source == "optuna"


def test_a_sampler_that_optuna_does_not_have() -> None:
    with pytest.raises(UnknownName, match="TPESampler"):
        Optimizer(SPACE, OptimizerSettings(method="optuna:TPESampla"))


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=1, max_size=12))
def test_the_front_is_what_nothing_dominates(pairs: list[tuple[int, int]]) -> None:
    score, cost = (np.array(column, dtype=float) for column in zip(*pairs, strict=True))
    kept = set(front(score, cost).tolist())
    for row, (s, c) in enumerate(pairs):
        dominated = any(t >= s and e <= c and (t > s or e < c) for t, e in pairs)
        first = pairs.index((s, c)) == row
        assert (row in kept) == (not dominated and first)
    assert 0 <= area(score, cost, -1.0, 6.0, 0.0, 5.0) <= 1


def test_the_trust_region_shrinks_without_success_and_grows_with_it() -> None:
    stuck = length([0.0] * 6 + [-1.0] * 8, 4, 4)
    rising = length([0.0] * 4 + [1.0, 2.0, 3.0], 4, 4)
    assert stuck < 0.8 < rising
