"""How long jobs have waited, measured so that no setting of the clock ends a job or holds it back."""

from __future__ import annotations

from datetime import datetime

from metta_jobs.clock import Clock
from metta_jobs.states import LONGEST_PAUSE_S
from metta_jobs.store.queue import ReadyJob

Ages = tuple[float, float]
"""(seconds that a job has waited for slots, seconds that its pause before another attempt still lasts)"""


Wait = tuple[int, datetime, datetime | None]
"""A job, and the moments that make one wait of it: a retry is another."""


class Patience:
    """Takes a job's age from the wall clock when it first sees it, and counts on by the clock that never jumps."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._seen: dict[Wait, tuple[Ages, float]] = {}
        self._fresh: dict[Wait, tuple[Ages, float]] | None = None
        self._wall = clock.now()
        self._monotonic = clock.monotonic()

    def begin(self, *, whole: bool) -> None:
        """A look at the queue begins; after a look at the whole of it, jobs that were not in it are forgotten."""
        self._wall, self._monotonic = self._clock.now(), self._clock.monotonic()
        self._fresh = {} if whole else None

    def end(self) -> None:
        """The look was not cut off."""
        if self._fresh is not None:
            self._seen = self._fresh

    def __call__(self, job: ReadyJob) -> Ages:
        """The ages of a job at this look."""
        key = (job.job_id, job.ready_at, job.not_before)
        if (first := self._seen.get(key)) is None:
            first = self._seen[key] = (by_the_wall(job, self._wall), self._monotonic)
        if self._fresh is not None:
            self._fresh[key] = first
        (waited, pause), since = first
        passed = self._monotonic - since
        return waited + max(0.0, passed - pause), pause - passed


def by_the_wall(job: ReadyJob, now: datetime) -> Ages:
    """The ages of a job as the wall clock tells them."""
    since = max(job.ready_at, job.not_before) if job.not_before else job.ready_at
    pause = (job.not_before - now).total_seconds() if job.not_before else 0.0
    return max(0.0, (now - since).total_seconds()), min(max(0.0, pause), LONGEST_PAUSE_S)
