"""How far runs are and how long they still need: pure numbers."""

from __future__ import annotations

import math
from collections.abc import Mapping

from metta_jobs.states import JobState
from metta_jobs.views import GroupView, Progress


def fraction(progress: Progress | None) -> float | None:
    """Return the share of the run's steps that is done, within 0..1; None while steps or total are unknown."""
    if progress is None or progress.steps is None or not progress.total or progress.total < 0:
        return None
    share = progress.steps / progress.total
    return min(1.0, max(0.0, share)) if math.isfinite(share) else None


def eta_s(progress: Progress | None, duration_s: float | None) -> float | None:
    """Return the seconds that the rest of the steps will take at the run's own speed.

    Without a logged speed, the mean speed over `duration_s` stands in. None when neither is known.
    """
    done = fraction(progress)
    if progress is None or done is None or progress.steps is None or progress.total is None:
        return None
    remaining = max(0.0, progress.total - progress.steps)
    if progress.sps is not None and math.isfinite(progress.sps) and progress.sps > 0:
        return remaining / progress.sps
    if duration_s and done > 0:
        return duration_s * (1 - done) / done
    return None


def overall(group: GroupView, progress: Mapping[int, Progress]) -> float:
    """Return the share of the group's work that is over: an ended job counts as one, a running one by its steps."""
    if not group.jobs:
        return 1.0
    over = 0.0
    for job in group.jobs:
        if job.state.terminal:
            over += 1
        elif job.state is JobState.RUNNING:
            over += fraction(progress.get(job.id)) or 0.0
    return over / len(group.jobs)
