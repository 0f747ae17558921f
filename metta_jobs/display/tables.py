"""`metta job list`: the groups, and the jobs of one group."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from rich.console import RenderableType
from rich.text import Text

from metta_jobs.display.format import age, count, duration, number, percent
from metta_jobs.display.listing import Field, Listing
from metta_jobs.display.marks import MARKS
from metta_jobs.display.pace import fraction
from metta_jobs.display.sanitize import one_line
from metta_jobs.states import JobState
from metta_jobs.views import GroupSummary, GroupView, JobView, Progress

# Counts of each family of states, and those that are shown only where there are any.
_FAMILIES = {
    "running": JobState.RUNNING,
    "launching": JobState.LAUNCHING,
    "pending": JobState.PENDING,
    "completed": JobState.SUCCEEDED,
    "failed": JobState.FAILED,
    "killed": JobState.KILLED,
    "skipped": JobState.SKIPPED,
}
_SOMETIMES = {"launching", "killed", "skipped"}
# On a narrow screen, what needs nobody's attention goes first.
_SHORT = {
    "running": "run",
    "launching": "start",
    "pending": "pend",
    "completed": "done",
    "failed": "fail",
    "killed": "kill",
    "skipped": "skip",
}
_SPARE = {"completed": 2, "killed": 1, "skipped": 1}
#: The columns of a list of jobs.
JOB_FIELDS = (
    Field("id", "right"),
    Field("name", gives_way="name"),
    Field("state"),
    Field("try", "right", spare=3),
    Field("exit", "right", spare=1),
    Field("time", "right", spare=2),
    Field("reason", gives_way="text"),
)
#: Those that stand before the last one where some job has logged metrics.
MEASURED_FIELDS = (Field("progress", "right", spare=4), Field("reward", "right", spare=5))


def render_groups(groups: Sequence[GroupSummary], now: datetime) -> RenderableType:
    """Return the table of groups: total, running, pending, completed, failed, age; others where there are any."""
    if not groups:
        return Text("No groups.", style="dim")
    families = {
        word: state
        for word, state in _FAMILIES.items()
        if word not in _SOMETIMES or any(getattr(group.counts, word) for group in groups)
    }
    fields = [Field("group", gives_way="key"), Field("total", "right", short="all")]
    fields += [Field(word, "right", spare=_SPARE.get(word, 0), short=_SHORT.get(word, "")) for word in families]
    fields += [Field("age", "right", spare=3)]
    paused = any(group.paused for group in groups)
    if paused:
        fields.append(Field(""))
    rows = []
    for group in groups:
        counts = [_count(getattr(group.counts, word), state) for word, state in families.items()]
        rows.append(
            [
                (one_line(group.name), "bold"),
                (str(group.counts.total), ""),
                *counts,
                (age(group.created_at, now), "dim"),
                *([("paused" if group.paused else "", "yellow")] if paused else []),
            ]
        )
    return Listing(fields, rows)


def _count(amount: int, state: JobState) -> tuple[str, str]:
    # A zero that matters to nobody stays in the background.
    return str(amount), MARKS[state].style if amount else "dim"


def render_jobs(group: GroupView, now: datetime) -> RenderableType:
    """Return the table of a group's jobs: id, name, state, attempt, exit code, time, progress, reward, reason.

    The time is how long the job ran, or how long ago a job that has not run was submitted ("3 min ago"). Progress and
    reward have columns where some job has any.
    """
    if not group.jobs:
        return Text(f"No jobs in {one_line(group.name)}.", style="dim")
    measured = any(job.progress for job in group.jobs)
    return Listing(job_fields(measured), [job_row(job, now, measured=measured) for job in group.jobs])


def job_fields(measured: bool) -> list[Field]:
    """The columns of a list of jobs; `measured`: with progress and reward."""
    *fields, last = JOB_FIELDS
    return [*fields, *(MEASURED_FIELDS if measured else ()), last]


def job_row(job: JobView, now: datetime, *, measured: bool) -> list[tuple[str, str]]:
    """One job under `job_fields`, each text with its style."""
    mark = MARKS[job.state]
    word = "stopping" if job.kill_requested and job.state.live else mark.word
    return [
        (str(job.id), "dim"),
        (one_line(job.name), "bold"),
        (f"{mark.symbol} {word}", mark.style),
        (str(job.attempt or ""), ""),
        ("" if job.exit_code is None else str(job.exit_code), mark.style if job.exit_code else "dim"),
        _time(job, now),
        *(_measured(job.progress) if measured else []),
        _reason(job),
    ]


def _measured(progress: Progress | None) -> list[tuple[str, str]]:
    done, steps = fraction(progress), progress.steps if progress else None
    far = "" if steps is None else f"{count(steps)} steps" if done is None else percent(done)
    return [(far, ""), (number(progress.reward) if progress and progress.reward is not None else "", "")]


def _reason(job: JobView) -> tuple[str, str]:
    if job.state.live and job.health:
        return one_line("; ".join(job.health)), "yellow"
    return one_line(job.reason or ""), "dim"


def _time(job: JobView, now: datetime) -> tuple[str, str]:
    if job.duration_s is not None:
        return duration(job.duration_s), ""
    return f"{age(job.created_at, now)} ago", "dim"
