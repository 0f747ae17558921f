"""Runs of a matrix variant × seed, with curves made by hand."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from group_views import job

from metta_jobs.notebook.runs import REWARD, Points, RunMetrics
from metta_jobs.states import JobState


def curve(value: Callable[[np.ndarray], np.ndarray], until: float = 1000, every: float = 10) -> Points:
    steps = np.arange(every, until + 1, every, dtype=float)
    return list(steps), list(np.broadcast_to(np.asarray(value(steps), dtype=float), steps.shape))


def run(variant: str, seed: int, points: Points | None, state: JobState = JobState.SUCCEEDED) -> RunMetrics:
    code = {JobState.SUCCEEDED: 0, JobState.FAILED: 1}.get(state)
    made = job(100 + seed, f"{variant}.s{seed}", state, None, exit_code=code)
    return RunMetrics(replace(made, variant=variant, seed=seed), points={} if points is None else {REWARD: points})


def flat(
    variant: str, seed: int, level: float, state: JobState = JobState.SUCCEEDED, until: float = 1000
) -> RunMetrics:
    return run(variant, seed, curve(lambda steps: level, until), state)
