"""One series per key, on the right axis, thinned without losing what matters."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from metta_jobs.metrics import Row, RunInfo, Series, read_series, thin
from metta_jobs.metrics.base import as_number
from metta_jobs.metrics.series import collect


class Rows:
    """A source made of given rows."""

    def __init__(self, *rows: Row) -> None:
        self.given = rows

    def rows(self, keys: Collection[str] | None = None) -> Iterator[Row]:
        for row in self.given:
            yield {key: value for key, value in row.items() if keys is None or key in keys or key == "_fragment"}

    def info(self) -> RunInfo:
        return RunInfo()


def test_keys_logged_apart_do_not_erase_each_other(run_folder: Path) -> None:
    series = read_series(run_folder, ["overview/reward", "eval/score", "nope"])
    assert len(series["overview/reward"]) == 300
    assert series["overview/reward"].steps == [100.0 * (i + 1) for i in range(300)]
    assert series["eval/score"].values == [float(i) for i in range(30)]
    assert series["eval/score"].steps[:3] == [1.0, 15.0, 26.0]  # wandb's own count: no agent step came with it
    assert series["nope"] == Series([], [])


def test_what_is_no_number_is_counted_and_nan_stays(run_folder: Path) -> None:
    series = read_series(run_folder, ["odd", "eval/text", "eval/flag"])
    assert math.isnan(series["odd"].values[0])
    assert series["odd"].values[1:] == [math.inf, -3.0]
    assert series["odd"].steps == [1.0, 2.0, 3.0]
    assert (len(series["eval/text"]), series["eval/text"].skipped) == (0, 30)
    assert series["eval/flag"].values == [float(i % 2 == 0) for i in range(30)]


def test_a_resumed_run_replaces_the_steps_it_does_again(resumed_folder: Path) -> None:
    series = read_series(resumed_folder, ["overview/reward"])["overview/reward"]
    assert series.steps == [100.0 * (i + 1) for i in range(70)]
    assert [value >= 10 for value in series.values] == [False] * 30 + [True] * 40


def test_without_an_own_step_starts_follow_each_other(plain_folder: Path) -> None:
    series = read_series(plain_folder, ["overview/reward"])["overview/reward"]
    assert series.steps == [float(i) for i in range(40)]


def test_global_step_is_the_second_best_axis() -> None:
    source = Rows({"_step": 0, "global_step": 128, "r": 1.0}, {"_step": 1, "global_step": 256, "r": 2.0})
    assert collect(source, ["r"])["r"] == Series([128.0, 256.0], [1.0, 2.0])


def test_one_series_never_mixes_two_axes() -> None:
    source = Rows(
        {"_step": 0, "r": 1.0},
        {"_step": 1, "metric/agent_step": 500, "r": 2.0},
        {"_step": 2, "r": 3.0},
        {"_step": 3, "metric/agent_step": 1500, "r": 4.0},
    )
    assert collect(source, ["r"])["r"] == Series([500.0, 1500.0], [2.0, 4.0], skipped=2)


def test_a_late_row_finds_its_place() -> None:
    source = Rows(*({"_step": i, "global_step": step, "r": step} for i, step in enumerate([10, 30, 20])))
    assert collect(source, ["r"])["r"].steps == [10.0, 20.0, 30.0]


def test_a_run_that_begins_again_in_the_same_file_replaces_the_steps_it_does_again() -> None:
    steps = [10, 20, 30, 40, 20, 30]
    source = Rows(*({"_step": i, "global_step": step, "r": i} for i, step in enumerate(steps)))
    assert collect(source, ["r"])["r"] == Series([10.0, 20.0, 30.0], [0.0, 4.0, 5.0])
    # Episodes that end together share their step, and all stay.
    together = Rows(*({"_step": i, "global_step": step, "r": i} for i, step in enumerate([10, 10, 20, 20])))
    assert collect(together, ["r"])["r"].values == [0.0, 1.0, 2.0, 3.0]


@pytest.mark.parametrize(
    ("value", "number"), [(1, 1.0), (True, 1.0), ("Infinity", math.inf), ("1", None), (None, None), ({}, None)]
)
def test_what_counts_as_a_number(value: object, number: float | None) -> None:
    assert as_number(value) == number
    assert as_number(10**400) == math.inf


def test_averages_of_a_thinned_spike_survive() -> None:
    values = [0.0] * 10_000
    values[4321] = 7.0
    values[8765] = -7.0
    thinned = thin(Series([float(i) for i in range(10_000)], values), 100)
    assert len(thinned) <= 100
    assert (4321.0, 7.0) in zip(thinned.steps, thinned.values, strict=True)
    assert (8765.0, -7.0) in zip(thinned.steps, thinned.values, strict=True)


@settings(deadline=None)
@given(
    values=st.lists(st.floats(width=32), min_size=1, max_size=400),
    most=st.one_of(st.none(), st.integers(1, 60)),
)
def test_thinning_keeps_ends_extremes_and_order(values: list[float], most: int | None) -> None:
    series = Series([float(i) for i in range(len(values))], values, skipped=3)
    thinned = thin(series, most)
    assert thinned.skipped == 3
    assert len(thinned) <= (most or len(values))
    assert thinned.steps == sorted(set(thinned.steps))
    assert all(values[int(step)] is value for step, value in zip(thinned.steps, thinned.values, strict=True))
    assert thinned.steps[-1] == len(values) - 1
    numbers = [value for value in values if not math.isnan(value)]
    if numbers and (most is None or most >= 5):
        assert thinned.steps[0] == 0
        kept = [value for value in thinned.values if not math.isnan(value)]
        assert (min(kept), max(kept)) == (min(numbers), max(numbers))
        assert len(kept) == len(thinned) or any(math.isnan(value) for value in values)
