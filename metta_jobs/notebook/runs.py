"""What a group's runs have logged: thinned curves and exact figures, with a word on every run that lacks some."""

from __future__ import annotations

import math
from array import array
from collections.abc import Sequence
from dataclasses import dataclass, field

from metta_jobs.metrics import ProgressReader, Series, read_series, thin
from metta_jobs.states import JobState
from metta_jobs.views import GroupView, JobView

REWARD = "overview/reward"
SPS = "overview/sps"


@dataclass(frozen=True)
class Figures:
    """One metric of one run in numbers, taken from all its points; NaN where there is none.

    `highest` and `mean` leave out points that are NaN or infinite; `final` is the last point, whatever it is.
    """

    final: float = math.nan
    highest: float = math.nan
    mean: float = math.nan

    @classmethod
    def of(cls, series: Series) -> Figures:
        """The figures of all points of `series`."""
        if not len(series):
            return cls()
        numbers = [value for value in series.values if math.isfinite(value)]
        if not numbers:
            return cls(final=series.values[-1])
        # Divided first, so that no sum is too large for a float.
        mean = math.fsum(value / len(numbers) for value in numbers)
        return cls(final=series.values[-1], highest=max(numbers), mean=mean)


#: All steps and all values of a metric, in order.
Points = tuple[Sequence[float], Sequence[float]]


@dataclass
class RunMetrics:
    """The metrics of one run: `series` thinned for plots, `points` whole.

    `note` is a sentence fragment on what was found and what is missing.
    """

    job: JobView
    series: dict[str, Series] = field(default_factory=dict)
    figures: dict[str, Figures] = field(default_factory=dict)
    points: dict[str, Points] = field(default_factory=dict)
    steps: float = math.nan
    note: str = ""


def runs_of(group: GroupView) -> list[JobView]:
    """The jobs of a group that are runs: all but the one that writes the notebook."""
    return [job for job in group.jobs if job.kind != "notebook"]


def tracked_metrics(group: GroupView) -> list[str]:
    """The metrics that the group's runs ask to follow, beside reward and speed."""
    named = [key for job in runs_of(group) for key in job.metrics]
    return [key for key in dict.fromkeys(named) if key not in (REWARD, SPS)]


def describe_state(job: JobView) -> str:
    """Return the state of a job in words: "succeeded", "failed with exit code 1", "timed out"."""
    words = job.state.value.replace("_", " ")
    if job.state is JobState.FAILED and job.exit_code is not None:
        return f"{words} with exit code {job.exit_code}"
    return words


def read_run(job: JobView, keys: Sequence[str], samples: int) -> RunMetrics:
    """Read the metrics of one run, at most `samples` points each. What cannot be read is told in the note."""
    run = RunMetrics(job)
    if job.folder is None:
        run.note = "no metrics: it has not run"
        return run
    if not job.folder.exists():
        run.note = "no metrics: it left no files, or they were removed"
        return run
    try:
        whole = read_series(job.folder, keys, max_points=None)
        steps = ProgressReader(job.folder).poll().steps
    except OSError as error:
        run.note = f"no metrics: its log cannot be read ({error.strerror})"
        return run
    run.series = {key: thin(series, samples) for key, series in whole.items()}
    run.figures = {key: Figures.of(series) for key, series in whole.items()}
    # Arrays take a fifth of what lists of numbers do.
    run.points = {key: (array("d", series.steps), array("d", series.values)) for key, series in whole.items()}
    run.steps = math.nan if steps is None else steps
    run.note = _note(whole, steps is not None)
    return run


def _note(whole: dict[str, Series], logged: bool) -> str:
    if not logged:
        return "no metrics: no W&B log, TensorBoard, CSV or JSON lines of it found"
    found = [series for series in whole.values() if len(series)]
    parts = [f"{len(found)} of {len(whole)} metrics, {sum(map(len, found)):,} points"]
    if missing := [key for key, series in whole.items() if not len(series)]:
        parts.append(f"never logged: {', '.join(missing)}")
    parts += [f"{series.skipped:,} of {key} are no numbers" for key, series in whole.items() if series.skipped]
    return "; ".join(parts)
