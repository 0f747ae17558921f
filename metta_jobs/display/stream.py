"""The monitor where there is no terminal (a pipe, a CI log): one line per change, with its time, no escape codes."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass

from rich.console import Console
from rich.text import Text

from metta_jobs.clock import Clock
from metta_jobs.display.format import coarse, count, counted, duration, number, percent, rate
from metta_jobs.display.marks import MARKS
from metta_jobs.display.pace import eta_s, fraction
from metta_jobs.display.sanitize import one_line
from metta_jobs.display.snapshot import Detail, Snapshot
from metta_jobs.display.source import Source
from metta_jobs.states import JobState
from metta_jobs.views import Counts, JobView

#: A job's progress is told at every tenth of its steps, but not more often than this, in seconds.
PROGRESS_EVERY_S = 30.0
# Folders read per look for what is told of ended jobs; progress is read of all that run.
_DETAILS = 50


@dataclass
class _Told:
    """What was last said about a job."""

    state: JobState | None = None
    attempt: int = 0
    tenth: int = 0
    at: float = float("-inf")


def follow(source: Source, console: Console, refresh: float, clock: Clock) -> None:
    """Print changes until the group is finished. Ctrl-C raises KeyboardInterrupt."""
    stream = Stream(clock)
    while True:
        snapshot = source.snapshot(_DETAILS)
        for line in stream.lines(snapshot):
            console.print(Text(line), soft_wrap=True)
        if snapshot.group.finished:
            return
        time.sleep(refresh)


class Stream:
    """Turns snapshots into lines: only what is new since the last one."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._told: dict[int, _Told] = {}
        self._warning: str | None = None
        self._begun = False

    def lines(self, snapshot: Snapshot) -> list[str]:
        """Return what changed, each line with the time at which it was seen."""
        news: list[str] = []
        name = one_line(snapshot.group.name)
        if not self._begun:
            self._begun = True
            news.append(f"{name}: {_counts(snapshot.group.counts)}")
        if _gist(snapshot.warning) != _gist(self._warning):
            news.append(f"warning: {one_line(snapshot.warning)}" if snapshot.warning else "the warning is over")
            self._warning = snapshot.warning
        for job in snapshot.group.jobs:
            news.extend(self._of(job, snapshot.detail(job)))
        if snapshot.group.finished:
            news.append(f"{name}: finished: {_counts(snapshot.group.counts)}")
        stamp = self._clock.now().strftime("%Y-%m-%d %H:%M:%SZ")
        return [f"{stamp}  {line}" for line in news]

    def _of(self, job: JobView, detail: Detail) -> list[str]:
        told = self._told.setdefault(job.id, _Told())
        if (job.state, job.attempt) != (told.state, told.attempt):
            before, self._told[job.id] = told.state, _Told(job.state, job.attempt)
            # What waits at the beginning is counted in the first line already.
            return [] if before is None and job.state is JobState.PENDING else [_change(job, before, detail)]
        done = fraction(detail.progress)
        if job.state is not JobState.RUNNING or done is None:
            return []
        now, tenth = self._clock.monotonic(), int(done * 10)
        if tenth <= told.tenth or now - told.at < PROGRESS_EVERY_S:
            return []
        told.tenth, told.at = tenth, now
        return [_progress(job, done, detail)]


def _change(job: JobView, before: JobState | None, detail: Detail) -> str:
    parts = [f"{MARKS[before].word} → {MARKS[job.state].word}" if before else MARKS[job.state].word]
    if job.attempt > 1:
        parts.append(f"attempt {job.attempt}")
    if job.state.terminal:
        parts += [f"exit {job.exit_code}"] if job.exit_code else []
        parts += [duration(job.duration_s)] if job.duration_s is not None else []
    if job.reason and job.state is not JobState.SUCCEEDED:
        parts.append(one_line(job.reason))
    parts += [one_line(line) for line in detail.error[:1]]
    return f"{one_line(job.name)}  " + "  ".join(parts)


def _progress(job: JobView, done: float, detail: Detail) -> str:
    progress = detail.progress
    parts = [percent(done)]
    if progress is not None:
        parts.append(f"{count(progress.steps)} of {count(progress.total)} steps")
        parts += [rate(progress.sps)] if progress.sps is not None else []
        parts += [f"reward {number(progress.reward)}"] if progress.reward is not None else []
    left = eta_s(progress, job.duration_s)
    parts += [f"ETA {coarse(left)}"] if left is not None else []
    return f"{one_line(job.name)}  " + "  ".join(parts)


def _gist(warning: str | None) -> str | None:
    """The warning without its numbers: that something has lasted a minute longer is no news."""
    return None if warning is None else re.sub(r"\d+", "", warning)


def _counts(counts: Counts) -> str:
    named = {
        "running": counts.running,
        "launching": counts.launching,
        "pending": counts.pending,
        "completed": counts.completed,
        "failed": counts.failed,
        "killed": counts.killed,
        "skipped": counts.skipped,
    }
    shown = ", ".join(f"{amount} {word}" for word, amount in named.items() if amount)
    return f"{counted(counts.total, 'job')}: {shown}" if shown else "no jobs"
