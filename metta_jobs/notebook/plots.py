"""Plots of metrics over steps, for reading and for papers."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from metta_jobs.errors import InvalidInput
from metta_jobs.notebook.extra import require
from metta_jobs.notebook.runs import RunMetrics, describe_state
from metta_jobs.states import JobState

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

#: Told apart by people of every colour vision (Okabe and Ito, 2008), the yellow left out: it fades on white.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
_STYLES = ("-", (0, (1, 1)), "-.")
GOING_ON = frozenset({JobState.PENDING, JobState.LAUNCHING, JobState.RUNNING})


def plot_metrics(runs: Sequence[RunMetrics], keys: Sequence[str], columns: int, size: tuple[float, float]) -> Figure:
    """Draw one panel for each key, `columns` side by side, `size` inches each; one colour for each run."""
    figure, panels, across = open_panels(keys, columns, size)
    for key, axes in zip(keys, panels, strict=True):
        _draw(axes, key, runs)
    _add_legend(figure, panels, across)
    return figure


def open_panels(keys: Sequence[str], columns: int, size: tuple[float, float]) -> tuple[Figure, list[Axes], int]:
    """Open a figure with one panel for each key; return it, the panels, and how many stand side by side."""
    require("matplotlib")
    # On a fresh machine matplotlib announces that it builds its font cache; that belongs into no notebook.
    logging.getLogger("matplotlib.font_manager").setLevel(logging.ERROR)
    import matplotlib.pyplot as plt

    if not keys:
        raise InvalidInput("There is no metric to plot: name at least one.")
    across = min(columns, len(keys))
    down = math.ceil(len(keys) / across)
    figure: Figure
    figure, grid = plt.subplots(
        down, across, figsize=(across * size[0], down * size[1]), squeeze=False, layout="constrained"
    )
    panels: list[Axes] = list(grid.flat)
    for axes in panels[len(keys) :]:
        axes.set_visible(False)
    return figure, panels[: len(keys)], across


def _draw(axes: Axes, key: str, runs: Sequence[RunMetrics]) -> None:
    for number, run in enumerate(runs):
        series = run.series.get(key)
        if series is None or not len(series):
            continue
        colour = COLOURS[number % len(COLOURS)]
        style = _STYLES[number // len(COLOURS) % len(_STYLES)]
        ended_well = run.job.state is JobState.SUCCEEDED or run.job.state in GOING_ON
        label = run.job.name if run.job.state is JobState.SUCCEEDED else f"{run.job.name} ({describe_state(run.job)})"
        axes.plot(
            series.steps,
            series.values,
            color=colour,
            linestyle=style if ended_well else "--",
            linewidth=1.3,
            alpha=0.9,
            marker="o" if len(series) == 1 else None,
            label=label,
        )
        last = next((i for i in reversed(range(len(series))) if math.isfinite(series.values[i])), None)
        if not ended_well and last is not None:
            axes.plot(series.steps[last], series.values[last], "X", color=colour, markersize=9, markeredgecolor="white")
    dress(axes, key)


def dress(axes: Axes, key: str) -> None:
    """Give a panel of curves over steps its titles, axes and grid; say so where nothing has been drawn."""
    from matplotlib.ticker import EngFormatter

    if not axes.has_data():
        axes.text(0.5, 0.5, "no run has logged this", transform=axes.transAxes, ha="center", va="center", color="0.5")
        axes.set_xticks([])
        axes.set_yticks([])
    axes.set_title(key, loc="left", fontsize=12, fontweight="bold")
    axes.set_xlabel("steps")
    axes.set_ylabel(key.rpartition("/")[2].replace("_", " ").replace("sps", "steps per second"))
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    low, high = axes.get_ylim()
    if max(abs(low), abs(high)) >= 10_000:
        axes.yaxis.set_major_formatter(EngFormatter(sep=""))
    axes.grid(True, color="0.9", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.margins(x=0.02)


def _add_legend(figure: Figure, panels: Sequence[Axes], across: int) -> None:
    """One legend for all panels, below them: runs keep their colour from panel to panel."""
    entries: dict[str, Artist] = {}
    for axes in panels:
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
            entries.setdefault(label, handle)
    if entries:
        figure.legend(
            entries.values(),
            entries.keys(),
            loc="outside lower center",
            ncols=min(len(entries), 2 * across + 1),
            frameon=False,
            fontsize=10,
        )
