"""Statistics over seeds, against numbers worked out by hand, the reference library's, and simulated truth."""

from __future__ import annotations

import math

import numpy as np
import pytest

from metta_jobs.notebook.statistics import caution, estimate, interquartile_mean, mean, probability_of_improvement

# Two tasks (columns), and what rliable 1.2.0 says of them (its bootstrap with 50,000 resamples).
NEW = np.array([[1, 4], [2, 3], [2.5, 9], [7, 5], [3, 6.5], [4, 4.2], [10, 1], [6, 2]])
OLD = np.array([[2, 3], [1, 3.5], [2.4, 8], [5, 5.5], [3, 6], [2, 4]])


@pytest.mark.parametrize(
    ("scores", "expected"),
    [
        ([5], 5),
        ([1, 2, 9], 4),  # three: nothing can be left out
        ([100, 1, 2, -50], 1.5),
        ([0, 1, 2, 3, 40], 2),
        ([1, 2, 3, 4, 5, 6, 7, 80], 4.5),
    ],
)
def test_the_interquartile_mean_leaves_out_a_quarter_at_each_end(scores: list[float], expected: float) -> None:
    assert interquartile_mean(np.array(scores, dtype=float)) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("scores", "statistic", "value", "interval"),
    [
        (NEW, interquartile_mean, 3.9625, (2.6875, 5.65)),
        (NEW, mean, 4.3875, (3.15625, 5.71875)),
        (OLD, interquartile_mean, 3.48333, (2.73333, 4.66667)),
        (OLD, mean, 3.78333, (2.98333, 4.66667)),
        (NEW[:, :1], interquartile_mean, 3.875, (2.125, 6.75)),
        (OLD[:, :1], mean, 2.56667, (1.66667, 3.66667)),
    ],
)
def test_intervals_agree_with_the_reference(scores, statistic, value, interval) -> None:
    found = estimate(list(scores.T), statistic)
    assert found.value == pytest.approx(value, abs=1e-5)
    assert (found.low, found.high) == pytest.approx(interval, abs=0.1)
    assert found == estimate(list(scores.T), statistic)  # to the last bit


def test_the_probability_of_improvement_agrees_with_the_reference() -> None:
    found = probability_of_improvement(NEW[:, 0], OLD[:, 0])
    assert found.value == pytest.approx(0.708333, abs=1e-6)
    assert (found.low, found.high) == pytest.approx((0.41667, 0.94792), abs=0.02)
    assert probability_of_improvement([1, 2], [1, 2]).value == 0.5  # ties count half


def test_too_few_seeds_give_no_interval() -> None:
    assert math.isnan(estimate([[]]).value)
    alone = estimate([[3.0]])
    assert alone.value == 3 and math.isnan(alone.low) and math.isnan(alone.high)
    assert math.isnan(probability_of_improvement([], [1.0]).value)
    assert math.isnan(probability_of_improvement([2.0], [1.0, 3.0]).low)


@pytest.mark.parametrize(("seeds", "expected"), [(3, 0.75), (5, 0.85), (10, 0.905), (20, 0.93)])
def test_how_often_an_interval_holds_the_truth(seeds: int, expected: float) -> None:
    """What `caution` says of few seeds: 600 experiments, whose share is known to 0.035 or so."""
    random = np.random.default_rng(3)
    found = [estimate([random.normal(size=seeds)], mean, resamples=600) for _ in range(600)]
    assert np.mean([e.low <= 0 <= e.high for e in found]) == pytest.approx(expected, abs=0.045)


def test_few_seeds_are_said_in_words() -> None:
    assert caution([10, 12]) is None and caution([]) is None
    assert str(caution([3, 3])).startswith("3 seeds: intervals are wide")
    assert "10 or more tell variants apart" in str(caution([3, 3]))
    assert str(caution([2, 12])).startswith("2 to 12 seeds")
    assert str(caution([1])) == "1 seed: too few for an interval; 10 or more tell variants apart."
