"""Plots of variants over their seeds: learning curves with bands, and final performance with intervals."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from metta_jobs.notebook.bands import Centre, Spread, seed_band, smoothed
from metta_jobs.notebook.plots import COLOURS, GOING_ON, dress, open_panels
from metta_jobs.notebook.runs import RunMetrics
from metta_jobs.notebook.variants import VariantSummary, by_variant, seed_label
from metta_jobs.states import JobState

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_GREY = "0.35"
_WORDS = {"iqm": "interquartile mean", "mean": "mean"}
_BANDS = {"interval": "95 % bootstrap interval", "range": "lowest to highest seed"}
Entries = dict[str, Any]
"""Labels of a legend with their artists, or tuples of some that lie on each other."""


def plot_variants(
    runs: Sequence[RunMetrics],
    keys: Sequence[str],
    columns: int,
    size: tuple[float, float],
    centre: Centre = "iqm",
    spread: Spread = "interval",
) -> Figure:
    """Draw one panel for each key, one colour for each variant: its seeds thin, their middle, the band around it.

    Middle and band tell of the seeds that succeeded or go on, where at least two have data; the middle is dotted where
    some of them have none. Seeds that failed are dashed up to a cross; a circle marks where a running one is.
    """
    figure, panels, across = open_panels(keys, columns, size)
    variants = by_variant(runs)
    marks: Entries = {}
    for key, axes in zip(keys, panels, strict=True):
        for number, seeds in enumerate(variants.values()):
            _draw_variant(axes, key, seeds, COLOURS[number % len(COLOURS)], number, (centre, spread), marks)
        dress(axes, key)
    _legend(figure, {name: _state_words(seeds) for name, seeds in variants.items()}, marks, across)
    return figure


def _draw_variant(
    axes: Axes,
    key: str,
    seeds: Sequence[RunMetrics],
    colour: str,
    number: int,
    how: tuple[Centre, Spread],
    marks: Entries,
) -> None:
    import numpy as np
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    logged = [(run, run.points[key]) for run in seeds if key in run.points and len(run.points[key][0])]
    good = [points for run, points in logged if run.job.state is JobState.SUCCEEDED or run.job.state in GOING_ON]
    found = seed_band(good, *how)
    # Later variants never hide the middle of earlier ones: bands at the back, then seeds, then middles, then marks.
    for run, points in logged:
        _draw_seed(axes, run, points, colour, alone=found is None, alpha=min(0.45, 1.8 / len(logged)), marks=marks)
    if found is None:
        return
    whole = found.count == found.seeds
    solid = np.where(whole, found.centre, np.nan)
    axes.fill_between(found.steps, found.low, found.high, where=whole, color=colour, alpha=0.2, linewidth=0, zorder=1)
    axes.plot(found.steps, solid, color=colour, linewidth=2, zorder=4 - number / 100, solid_capstyle="butt")
    if not whole[found.count >= 2].all():
        # One step further on either side, so that dots and line meet.
        near = ~whole | np.append(~whole[1:], False) | np.insert(~whole[:-1], 0, False)
        partly = np.where(near, found.centre, np.nan)
        axes.fill_between(
            found.steps, found.low, found.high, where=near, color=colour, alpha=0.09, linewidth=0, zorder=1
        )
        axes.plot(found.steps, partly, color=colour, linewidth=2.0, linestyle=(0, (1, 1)), zorder=4 - number / 100)
        marks["some seeds have no data there"] = Line2D([], [], color=_GREY, linewidth=2.0, linestyle=(0, (1, 1)))
    marks[f"{_WORDS[how[0]]} of seeds, {_BANDS[how[1]]}"] = (
        Patch(color=_GREY, alpha=0.2, linewidth=0),
        Line2D([], [], color=_GREY, linewidth=2.2),
    )


def _draw_seed(
    axes: Axes,
    run: RunMetrics,
    points: tuple[Sequence[float], Sequence[float]],
    colour: str,
    alone: bool,
    alpha: float,
    marks: Entries,
) -> None:
    import numpy as np
    from matplotlib.lines import Line2D

    steps, values = smoothed(points)
    if not len(steps):
        return
    state = run.job.state
    good = state is JobState.SUCCEEDED or state in GOING_ON
    axes.plot(
        steps,
        values,
        color=colour,
        linewidth=1.4 if alone else 0.8,
        alpha=0.9 if alone else alpha,
        linestyle="-" if good else "--",
        zorder=2,
    )
    end = np.flatnonzero(np.isfinite(values))[-1]
    if not good:
        style: dict[str, Any] = {"marker": "X", "markersize": 8, "markeredgecolor": "white"}
        said = "ended without success: not in the band"
    elif state is not JobState.SUCCEEDED:
        style = {"marker": "o", "markersize": 5.5, "markerfacecolor": "white", "markeredgewidth": 1.4}
        said = "still running"
    else:
        return
    axes.plot(steps[end], values[end], color=colour, linestyle="", zorder=6, **style)
    marks[said] = Line2D([], [], color=_GREY, linestyle="--" if not good else "", linewidth=0.9, **style)


def _state_words(seeds: Sequence[RunMetrics]) -> str:
    """ "4 of 5 seeds; s2 failed"."""
    if len(seeds) == 1 and seeds[0].job.seed is None:
        state = seeds[0].job.state
        return "" if state is JobState.SUCCEEDED else state.value.replace("_", " ")
    done = sum(run.job.state is JobState.SUCCEEDED for run in seeds)
    if done == len(seeds):
        return f"{done} seed{'' if done == 1 else 's'}"
    others: dict[str, list[str]] = {}
    for run in seeds:
        if run.job.state is not JobState.SUCCEEDED:
            others.setdefault(run.job.state.value.replace("_", " "), []).append(seed_label(run))
    told = ", ".join(
        f"{'/'.join(names)} {word}" if len(names) < 4 else f"{len(names)} {word}" for word, names in others.items()
    )
    return f"{done} of {len(seeds)} seeds done; {told}"


def _legend(figure: Figure, variants: Mapping[str, str], marks: Entries, across: int) -> None:
    """Variants first, one line each as far as there is room; what the marks mean in a second legend, in grey."""
    from matplotlib.lines import Line2D

    entries: Entries = {
        f"{name} ({words})" if words else name: Line2D([], [], color=COLOURS[i % len(COLOURS)], linewidth=2.2)
        for i, (name, words) in enumerate(variants.items())
    }
    longest = max((len(label) for label in entries), default=1)
    columns = max(1, min(len(entries), 95 * across // (2 * (longest + 6))))
    rows = math.ceil(len(entries) / columns) + math.ceil(len(marks) / across)
    figure.set_figheight(figure.get_figheight() + 0.2 * max(0, rows - 2))  # legends take nothing from the panels
    if marks:
        figure.legend(
            marks.values(),
            marks.keys(),
            loc="outside lower center",
            ncols=min(len(marks), across),
            frameon=False,
            fontsize=9,
            labelcolor=_GREY,
        )
    if entries:
        figure.legend(
            entries.values(), entries.keys(), loc="outside upper left", ncols=columns, frameon=False, fontsize=10
        )


def plot_final(summary: VariantSummary, size: tuple[float, float] = (7.5, 0.62)) -> Figure:
    """Draw each variant's final performance: seeds as dots, their interquartile mean with its interval.

    `size` is the width of the figure and the height of a variant, in inches.
    """
    frame = summary.frame
    figure, (axes,), _ = open_panels([summary.metric], 1, (size[0], 1.3 + size[1] * max(1, len(frame))))
    for row, (name, line) in enumerate(frame.iterrows()):
        colour = COLOURS[row % len(COLOURS)]
        scores = [seed.score for seed in summary.scores[str(name)] if seed.score is not None]
        axes.plot(
            scores, [row + 0.2] * len(scores), "o", color=colour, markersize=5, alpha=0.5, markeredgewidth=0, zorder=2
        )
        axes.plot(
            [line.iqm_low, line.iqm_high], [row, row], color=colour, linewidth=3, solid_capstyle="round", zorder=3
        )
        axes.plot(
            line.iqm, row, "D", color=colour, markersize=8.5, markeredgecolor="white", markeredgewidth=1.2, zorder=4
        )
        if not scores:
            axes.text(
                0.01, row, "no seed has succeeded", transform=axes.get_yaxis_transform(), va="center", color="0.5"
            )
    counts = (
        f"{n} of {m} seeds" if n != m else f"{n} seed{'' if n == 1 else 's'}"
        for n, m in zip(frame.seeds, frame.submitted, strict=True)
    )
    labels = [f"{name}\n{words}" for name, words in zip(frame.index, counts, strict=True)]
    axes.set_yticks(range(len(frame)), labels)
    axes.set_ylim(len(frame) - 0.5, -0.4)
    axes.set_title(f"{summary.metric}, final performance", loc="left", fontsize=12, fontweight="bold")
    axes.set_xlabel(
        f"interquartile mean, its {summary.confidence * 100:g} % bootstrap interval, and the seeds", color=_GREY
    )
    axes.grid(True, axis="x", color="0.9", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(axis="y", length=0)
    axes.margins(x=0.05)
    return figure
