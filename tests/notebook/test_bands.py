"""Seeds on one grid: the middle and the band are those of the seeds that have data at a step, and of no other."""

from __future__ import annotations

import math

import matplotlib.pyplot as plt
import numpy as np
import pytest
from seeded_runs import curve, flat, run

from metta_jobs.notebook.bands import seed_band, smoothed
from metta_jobs.notebook.runs import REWARD, RunMetrics
from metta_jobs.notebook.variant_plots import plot_final, plot_variants
from metta_jobs.notebook.variants import summarize
from metta_jobs.states import JobState


def test_seeds_logged_at_different_steps_are_interpolated() -> None:
    found = seed_band([curve(lambda s: s), curve(lambda s: 2 * s, every=25)], centre="mean", spread="range", points=991)
    assert found is not None and found.seeds == 2
    np.testing.assert_allclose(found.steps, np.arange(10, 1001))
    np.testing.assert_allclose(found.centre[15:], 1.5 * found.steps[15:])
    np.testing.assert_allclose(found.low[15:], found.steps[15:])
    np.testing.assert_allclose(found.high[15:], 2 * found.steps[15:])
    assert np.isnan(found.centre[:15]).all()  # the second seed has no data before step 25


def test_no_seed_is_continued_beyond_its_end() -> None:
    found = seed_band([curve(lambda s: 1 + 0 * s), curve(lambda s: 3 + 0 * s), curve(lambda s: 8 + 0 * s, until=500)])
    assert found is not None
    early, late = found.steps <= 500, found.steps > 500
    assert set(found.count[early]) == {3} and set(found.count[late]) == {2}
    np.testing.assert_allclose(found.centre[early], 4)
    np.testing.assert_allclose(found.centre[late], 2)
    assert (found.low[late] >= 1).all() and (found.high[late] <= 3).all()


def test_a_stretch_of_nan_is_a_hole_and_a_short_one_is_bridged() -> None:
    gap = curve(lambda s: np.where((s > 400) & (s < 600), math.nan, s))
    blink = curve(lambda s: np.where(s % 20 == 0, math.nan, s))
    endless = curve(lambda s: np.where(s > 700, math.nan, s))
    found = seed_band([gap, blink, endless], spread="range")
    assert found is not None
    assert set(found.count[(found.steps > 405) & (found.steps < 595)]) == {2}
    assert set(found.count[(found.steps > 705) & (found.steps < 985)]) == {2}
    ok = np.isfinite(found.centre)
    np.testing.assert_allclose(found.centre[ok], found.steps[ok])
    steps, values = smoothed(gap)
    assert np.isnan(values).sum() == 1 and 400 < steps[np.isnan(values)][0] <= 600


def test_dense_curves_are_averaged_and_not_sampled() -> None:
    noise = np.random.default_rng(0).normal(size=100_000)
    steps = np.arange(100_000, dtype=float)
    found = seed_band([(steps, noise), (steps, -noise)], centre="mean", spread="range")
    assert found is not None
    np.testing.assert_allclose(found.centre, 0, atol=1e-9)
    assert np.abs(found.high).max() < 0.25  # the mean of 500; single points reach 4
    assert (found.steps[0], found.steps[-1]) == (0, 99_999)


def test_one_seed_has_no_band() -> None:
    nothing = curve(lambda s: np.full_like(s, math.nan))
    assert seed_band([curve(lambda s: s), nothing, ([], [])]) is None
    assert seed_band([]) is None


MESS = [
    flat("base", 1, 1),
    flat("base", 2, 3),
    flat("base", 3, 500, JobState.FAILED, until=200),
    flat("base", 4, 5, JobState.RUNNING, until=600),
    run("new", 1, curve(lambda s: s / 100)),
    run("new", 2, None, JobState.PENDING),
]


def test_what_failed_is_drawn_up_to_a_cross_and_is_in_no_band() -> None:
    figure = plot_variants(MESS, [REWARD], 1, (6, 4))
    try:
        figure.canvas.draw()
        (axes,) = figure.axes
        drawn = axes.get_lines()
        ends = {
            line.get_marker(): tuple(map(float, line.get_xydata()[0])) for line in drawn if len(line.get_xdata()) == 1
        }
        assert ends == {"X": (200, 500), "o": (600, 5)}
        middle = max((line for line in drawn if line.get_linestyle() == "-"), key=lambda line: line.get_linewidth())
        steps, values = middle.get_data()
        np.testing.assert_allclose(values[steps <= 600], 3)  # of 1, 3 and 5
        assert np.isnan(values[steps > 600]).all()
        (dotted,) = [line for line in drawn if line.get_linewidth() == 2 and line is not middle]
        assert dotted.get_ydata()[-1] == 2  # of 1 and 3
        words = [text.get_text() for legend in figure.legends for text in legend.get_texts()]
        assert "base (2 of 4 seeds done; s3 failed, s4 running)" in words
        assert "new (1 of 2 seeds done; s2 pending)" in words
        assert "ended without success: not in the band" in words and "still running" in words
    finally:
        plt.close(figure)


@pytest.mark.parametrize("runs", [MESS, MESS[:1], [], [run("a", 1, None), run("a", 2, ([5.0], [math.nan]))]])
def test_any_group_can_be_drawn(runs: list[RunMetrics]) -> None:
    for figure in (plot_variants(runs, [REWARD, "nope"], 2, (6, 4)), plot_final(summarize(runs, REWARD))):
        figure.canvas.draw()
        plt.close(figure)
