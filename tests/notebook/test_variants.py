"""Variants over their seeds: the numbers, who is in them, and the words about who is not."""

from __future__ import annotations

import math

import numpy as np
import pytest
from seeded_runs import curve, flat, run

from metta_jobs.errors import InvalidInput, UnknownName
from metta_jobs.notebook.runs import REWARD
from metta_jobs.notebook.variants import final_performance, summarize
from metta_jobs.states import JobState


def test_final_performance_is_the_mean_over_the_last_steps() -> None:
    points = curve(lambda steps: steps)
    assert final_performance(points) == (950, 0)  # 900, 910, …, 1000
    assert final_performance(points, share=1) == (pytest.approx(505), 0)
    steps, values = points
    assert final_performance((steps, [*values[:-2], math.nan, math.inf])) == (pytest.approx(940), 2)
    score, ignored = final_performance((steps, [*values[:-11], *[math.nan] * 11]))
    assert (math.isnan(score), ignored) == (True, 11)


MATRIX = [
    *(flat("base", seed, level) for seed, level in enumerate([1, 2, 3, 4], start=1)),
    flat("base", 5, 100, JobState.FAILED, until=300),
    *(flat("new", seed, level) for seed, level in enumerate([3, 3, 5], start=1)),
    flat("new", 4, -100, JobState.RUNNING, until=500),
    run("new", 5, curve(lambda steps: np.where(steps > 500, math.nan, 7))),
    run("new", 6, None),
    flat("new", 7, 50, JobState.KILLED),
    flat("new", 8, 10),
]


def test_variants_are_compared_over_the_seeds_that_succeeded() -> None:
    frame = summarize(MATRIX, REWARD).frame
    base, new = frame.loc["base"], frame.loc["new"]
    assert (base.seeds, base.submitted, base["mean"], base.iqm) == (4, 5, 2.5, 2.5)
    assert base.iqm_low < 2.5 < base.iqm_high
    assert math.isnan(base.difference) and math.isnan(base.p_improvement)
    assert (new.seeds, new.submitted, new["mean"], new.iqm) == (4, 8, 5.25, 4)
    # Over seeds 1, 2 and 3: +2, +1, +2. Seed 8 of "new" and seed 4 of "base" have no partner.
    assert (new.common_seeds, new.difference) == (3, pytest.approx(5 / 3))
    assert (new.difference_low, new.difference_high) == (1, 2)
    assert new.p_improvement == pytest.approx((2 * 2.5 + 4 + 4) / 16)


def test_who_is_not_in_the_numbers_is_named_with_the_reason() -> None:
    said = summarize(MATRIX, REWARD)
    assert said.frame.left_out["base"] == "s5 (failed with exit code 1)"
    assert said.frame.left_out["new"] == (
        f"s4 (running); s5 (succeeded, but {REWARD} is NaN at its end); s6 (succeeded, but there is no {REWARD}); "
        "s7 (killed)"
    )
    for text in (repr(said), said._repr_html_()):
        assert "4 of 5" in text and "4 of 8" in text and "over 3" in text
        assert "base.s5 (failed with exit code 1)" in text and "new.s7 (killed)" in text
        assert "4 seeds: intervals are wide" in text and "10 or more tell variants apart" in text


def test_the_baseline_can_be_named_and_lower_may_be_better() -> None:
    frame = summarize(MATRIX, REWARD, baseline="new", lower_is_better=True).frame
    assert math.isnan(frame.difference["new"])
    assert frame.difference["base"] == pytest.approx(-5 / 3)
    assert frame.p_improvement["base"] == pytest.approx(13 / 16)
    with pytest.raises(UnknownName, match="Did you mean 'base'"):
        summarize(MATRIX, REWARD, baseline="bases")
    with pytest.raises(InvalidInput, match="between 0 and 1"):
        summarize(MATRIX, REWARD, share=10)


def test_the_same_data_give_the_same_intervals_whoever_stands_beside_them() -> None:
    both, alone = summarize(MATRIX, REWARD).frame, summarize(MATRIX[5:], REWARD).frame
    assert both.loc["new", "iqm_low"] == alone.loc["new", "iqm_low"]
    assert both.equals(summarize(MATRIX, REWARD).frame)


def test_nothing_has_succeeded_yet() -> None:
    said = summarize([flat("a", 1, 1, JobState.RUNNING), flat("a", 2, 1, JobState.PENDING)], REWARD)
    assert said.frame.seeds["a"] == 0 and math.isnan(said.frame.iqm["a"])
    assert "a: no seed has succeeded." in said.notes
    assert "Not in the numbers: a.s1 (running), a.s2 (pending)." in said.notes
    assert summarize([], REWARD).frame.empty


def test_points_that_are_no_numbers_are_told() -> None:
    odd = run("a", 1, curve(lambda steps: np.where(steps == 950, math.nan, 2)))
    said = summarize([odd, flat("a", 2, 2)], REWARD)
    assert said.frame.iqm["a"] == 2
    assert any("a.s1 (1)" in note for note in said.notes)
