"""What a sweep does next, worked out from its trials: budgets, phases, forecasts, rankings, halving."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from metta_jobs.metrics import Series
from metta_jobs.store.sweeps import SweepRow, TrialRow, draft
from metta_jobs.store.words import Origin, SweepState, TrialState
from metta_jobs.sweep import plan
from metta_jobs.sweep.halving import behind
from metta_jobs.sweep.score import aggregated
from tests.sweep.conftest import X, tool

BEGIN = datetime(2026, 1, 1, tzinfo=UTC)
SWEEP = SweepRow(1, "s", SweepState.RUNNING, None, {}, 0, BEGIN, BEGIN, None, None)


def trial(number: int, score: float | None = None, state: str = "", **fields: Any) -> TrialRow:
    ended = TrialState(state) if state else TrialState.OPEN if score is None else TrialState.FINISHED
    at = None if ended is TrialState.OPEN else BEGIN + timedelta(minutes=number)
    ran = None if at is None else 60.0
    given = {"params": {"trainer.x": number / 100}, "seconds": ran, "cost": ran, **fields}
    return replace(draft({}), id=number, number=number, state=ended, score=score, finished_at=at, **given)


@pytest.mark.parametrize(
    ("budget", "why"),
    [
        ({"trials": 3}, "all 3 trials are done"),
        ({"trials": 4}, None),
        ({"cost_seconds": 180}, "the trials have run for 3 min, of 3 min"),
        ({"cost_seconds": 181}, None),
        ({"gpu_hours": 0.2}, "0.20 GPU-hours are used, of 0.20"),
        ({"dollars": 3}, "$3.00 are spent, of $3.00"),
        ({"wall_seconds": 3600}, "it has gone on for 1 h 00 min, of 1 h 00 min"),
        ({"wall_seconds": 3601}, None),
        ({"no_improvement": 2}, "2 trials in a row were no better than the best"),
        ({"no_improvement": 3}, None),
        ({}, None),
    ],
)
def test_each_budget_ends_it(budget: dict[str, float], why: str | None) -> None:
    config = tool(gpus=4, settings={"budget": budget})
    trials = [trial(1, 5.0, dollars=3.0), trial(2, 4.0), trial(3, None, "failed"), trial(4, None, "lost", seconds=0.0)]
    assert plan.verdict(config, SWEEP, trials, BEGIN + timedelta(hours=1)) == why


def test_lower_is_better_when_minimising() -> None:
    config = tool(sweep={"goal": "minimize"}, settings={"budget": {"no_improvement": 1}})
    assert plan.verdict(config, SWEEP, [trial(1, 5.0), trial(2, 4.0)], BEGIN) is None
    assert plan.verdict(config, SWEEP, [trial(1, 4.0), trial(2, 5.0)], BEGIN) is not None
    assert [one.trial.number for one in plan.ranking(config, [trial(1, 5.0), trial(2, -4.0), trial(3, 4.0)])] == [
        2,
        3,
        1,
    ]


def test_there_is_room_for_what_the_budget_leaves() -> None:
    now = BEGIN + timedelta(hours=1)

    def room(rows: list[TrialRow], **budget: float) -> int:
        return plan.room(tool(settings={"max_parallel": 3, "budget": budget}), SWEEP, rows, now)

    assert room([]) == 3
    assert room([trial(1)], trials=2) == 1
    assert room([trial(1), trial(2, None, "lost")], trials=2) == 1  # a lost one does not count
    assert room([trial(1, 1.0), trial(2)], cost_seconds=170) == 0  # 60 s are spent, 60 more are under way
    assert room([trial(1, 1.0), trial(2)], cost_seconds=200) == 1
    assert room([trial(1, 1.0)], cost_seconds=70) == 3  # the next one is told what it may cost at most
    assert plan.most_cost(tool(settings={"budget": {"cost_seconds": 70}}), SWEEP, [trial(1, 1.0)], now) == 10
    waits = tool(settings={"max_parallel": 3, "rollout_retry_delay": 90, "budget": {}})
    assert plan.room(waits, SWEEP, [trial(1, None, "failed")], BEGIN + timedelta(seconds=149)) == 0
    assert plan.room(waits, SWEEP, [trial(1, None, "failed")], BEGIN + timedelta(seconds=150)) == 3


def test_phases_go_by_the_runs_that_have_completed() -> None:
    config = tool(trials=None, schedule={"phases": [{"name": "a", "num_runs": 2}, {"name": "b"}]})

    def phase(*trials: TrialRow) -> str:
        found = plan.phase_of(config, trials)
        assert found is not None
        return found.name

    loaded = [trial(number, 1.0, origin=Origin.IMPORTED) for number in (1, 2, 3)]
    assert phase(*loaded, trial(4, 1.0), trial(5, None, "lost"), trial(6)) == "a"
    assert phase(*loaded, trial(4, 1.0), trial(5, None, "failed")) == "b"
    assert config.trials_wanted is None
    both = tool(trials=None, schedule={"phases": [{"name": "a", "num_runs": 2}, {"name": "b", "num_runs": 3}]})
    assert both.trials_wanted == 5


def test_the_forecast_goes_on_as_it_went() -> None:
    config = tool(trials=10, settings={"max_parallel": 2, "budget": {"trials": 10}}, validate={"top": 2, "seeds": 2})
    ahead = plan.forecast(config, SWEEP, [trial(1, 1.0), trial(2, 1.0), trial(3), trial(4)], BEGIN)
    assert ahead == plan.Forecast(trials=8, wall_seconds=60 * (4 + 2), seconds=60 * (8 + 4))
    assert plan.forecast(config, SWEEP, [trial(1)], BEGIN) is None
    assert plan.forecast(tool(trials=None), SWEEP, [trial(1, 1.0)], BEGIN) is None


def test_the_best_is_chosen_by_its_runs_again() -> None:
    params = {"trainer.x": 0.5}
    again = {"origin": Origin.VALIDATION, "params": params}
    trials = [trial(1, 9.0), trial(2, 7.0, params=params), trial(3, 5.0, **again), trial(4, 6.0, **again)]
    first, second = plan.ranking(tool(), trials)
    assert (first.trial.number, first.score, second.trial.number) == (2, 5.5, 1)
    assert first.interval == pytest.approx((5.5 - 12.706 / 2, 5.5 + 12.706 / 2), abs=1e-3)


def test_scores_are_made_of_curves() -> None:
    curve = Series([0, 50, 91, 95, 100], [1.0, 9.0, 2.0, 3.0, 4.0])
    assert {how: aggregated(curve, how) for how in ("last", "max", "min", "tail", "mean")} == {
        **{"last": 4.0, "max": 9.0, "min": 1.0, "tail": 3.0},
        "mean": pytest.approx(3.8),
    }


def test_a_trial_that_is_not_among_the_best_of_its_rung_is_stopped() -> None:
    config = tool(settings={"early_stopping": {"min_steps": 10, "eta": 2}})
    rules = config.settings.early_stopping
    assert rules is not None
    steps = [5.0, 10.0, 15.0]
    curves = {1: Series(steps, [0, 3, 9]), 2: Series(steps, [0, 2, 9]), 3: Series([5.0], [0.0])}
    assert behind(config, rules, 1, curves) is None
    assert behind(config, rules, 2, curves) == "at step 10.0 it was not among the best 1 of 2"
    assert behind(config, rules, 3, curves) is None  # it has not come to a rung
    alone = {2: curves[2], 3: curves[3]}
    assert behind(config, rules, 2, alone) is None


def test_another_distribution_in_a_phase_replaces_the_one_that_was_there() -> None:
    other = {"parameters": {"trainer.x": {"distribution": "int_uniform", "min": 0, "max": 1}}}
    config = tool(schedule={"phases": [{"name": "b", "sweep": other}]}, sweep={"parameters": X})
    assert config.section(config.schedule.phases[0]).space().dimensions[0].levels == 2
