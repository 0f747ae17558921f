"""How a trial has ended, told by its jobs and by what they logged."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

from metta_jobs.metrics import Series, read_series
from metta_jobs.states import JobState
from metta_jobs.store.sweeps import Ending, TrialRow
from metta_jobs.store.words import TrialState
from metta_jobs.sweep.config import SweepConfig
from metta_jobs.sweep.plan import gpus_of
from metta_jobs.views import JobView

#: The part of a run's steps over which "tail" takes the mean.
TAIL = 0.1


def ending(
    config: SweepConfig, trial: TrialRow, training: JobView, evaluation: JobView | None, ran: Mapping[int, float]
) -> Ending | None:
    """How the trial has ended, None while its jobs go on. `ran`: job → seconds that its attempts ran."""
    if not training.state.terminal:
        return None
    succeeded = training.state is JobState.SUCCEEDED
    if succeeded and evaluation is not None and not evaluation.state.terminal:
        return None
    jobs = [job for job in (training, evaluation) if job is not None]
    seconds = sum(ran.get(job.id, 0.0) for job in jobs)
    paid = [job.remote.cost_usd for job in jobs if job.remote is not None and job.remote.cost_usd is not None]
    dollars = sum(paid) if paid else None
    cost = _cost(config, training, ran.get(training.id), dollars)

    def ended(state: TrialState, score: float | None = None, reason: str | None = None) -> Ending:
        return Ending(state, score, cost, seconds, dollars, reason)

    scored = evaluation if evaluation is not None and succeeded else training
    value = _score(config, scored)
    if trial.reason is not None and training.state is JobState.KILLED:  # we have stopped it early
        if isinstance(value, float):
            return ended(TrialState.STOPPED, value, trial.reason)
        return ended(TrialState.FAILED, reason=f"{trial.reason}, and {value}")
    for job, whose in ((training, "it"), (evaluation, "its evaluation")):
        if job is not None and job.state is not JobState.SUCCEEDED:
            return ended(_unsuccessful(job), reason=_why(job, whose))
    if isinstance(value, float):
        return ended(TrialState.FINISHED, value)
    return ended(TrialState.FAILED, reason=value)


def _unsuccessful(job: JobView) -> TrialState:
    if job.state is JobState.LOST or (job.state is JobState.FAILED and job.exit_code is None):
        return TrialState.LOST
    if job.state is JobState.SKIPPED or (job.state is JobState.KILLED and not job.health):
        return TrialState.DROPPED
    return TrialState.FAILED


def _why(job: JobView, whose: str) -> str:
    return f"{whose} was {job.state.value}: {job.reason}" if job.reason else f"{whose} was {job.state.value}"


def _score(config: SweepConfig, job: JobView) -> float | str:
    """The score that a job has logged, or why there is none."""
    metric = config.sweep.metric
    series = logged(job.folder, metric)
    if len(series):
        score = aggregated(series, config.sweep.aggregate)
        return score if math.isfinite(score) else f"its {metric} is {score}"
    # What ran elsewhere has left no log here: the daemon has followed it.
    value = None if job.progress is None else job.progress.by_name().get(metric)
    if value is None:
        return f"it logged no {metric}"
    return float(value) if math.isfinite(value) else f"its {metric} is {value}"


def logged(folder: Path | None, metric: str) -> Series:
    """What the job with this folder has logged under this name: empty when nothing."""
    if folder is None or not folder.is_dir():
        return Series([], [])
    return read_series(folder, [metric], None)[metric]


def aggregated(series: Series, how: str) -> float:
    """A number out of a series that is not empty."""
    values = series.values
    if how == "last":
        return values[-1]
    if how == "tail":
        begin = series.steps[-1] - TAIL * (series.steps[-1] - series.steps[0])
        values = [value for step, value in zip(series.steps, values, strict=True) if step >= begin]
        return math.fsum(values) / len(values)
    if how == "mean":
        return math.fsum(values) / len(values)
    return max(values) if how == "max" else min(values)


def _cost(config: SweepConfig, training: JobView, ran: float | None, dollars: float | None) -> float | None:
    """What a trial has cost, in the sweep's unit; None where nobody knows."""
    kind = config.sweep.cost
    if kind == "seconds":
        return ran
    if kind == "gpu_hours":
        return None if ran is None else ran / 3600 * gpus_of(config)
    if kind == "dollars":
        return dollars
    metric = kind.removeprefix("metric:")
    series = logged(training.folder, metric)
    if len(series):
        value: float | None = series.values[-1]
    else:
        value = None if training.progress is None else training.progress.by_name().get(metric)
    return value if value is not None and math.isfinite(value) and value >= 0 else None
