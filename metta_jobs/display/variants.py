"""`metta job list GROUP` of an experiment with seeds: one line a variant."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime

from rich.console import RenderableType

from metta_jobs.display.format import duration, number, percent
from metta_jobs.display.listing import Listing
from metta_jobs.display.marks import MARKS
from metta_jobs.display.pace import fraction
from metta_jobs.display.sanitize import one_line
from metta_jobs.display.tables import job_fields, job_row
from metta_jobs.states import JobState
from metta_jobs.views import GroupView, JobView

# What needs attention gives the line its mark.
_WORST = (
    JobState.FAILED,
    JobState.TIMED_OUT,
    JobState.LOST,
    JobState.KILLED,
    JobState.SKIPPED,
    JobState.RUNNING,
    JobState.LAUNCHING,
    JobState.PENDING,
    JobState.SUCCEEDED,
)
_NAMED_SEEDS = 3


def folds(group: GroupView) -> bool:
    """Whether some variant of the group has more than one seed."""
    return any(count > 1 for count in Counter(job.variant for job in group.jobs if job.variant).values())


def render_variants(group: GroupView, now: datetime) -> RenderableType:
    """Return the table of a group's jobs, the seeds of each variant in one line: how many are done, run, failed.

    The try is the highest among its seeds, the time that of the longest, progress and reward are means over those that
    have any; the reason names the seeds that ended without success.
    """
    measured = any(job.progress for job in group.jobs)
    members: dict[str, list[JobView]] = {}
    for job in group.jobs:
        if job.variant is not None:
            members.setdefault(job.variant, []).append(job)
    rows = []
    for job in group.jobs:
        seeds = members.get(job.variant or "", [])
        if len(seeds) < 2:
            rows.append(job_row(job, now, measured=measured))
        elif job is seeds[0]:
            rows.append(_variant(job.variant or "", seeds, measured=measured))
    fields = [replace(field, gives_way="text") if field.label == "state" else field for field in job_fields(measured)]
    return Listing(fields, rows)


def _variant(name: str, seeds: Sequence[JobView], *, measured: bool) -> list[tuple[str, str]]:
    worst = min((job.state for job in seeds), key=_WORST.index)
    spans = [job.duration_s for job in seeds if job.duration_s is not None]
    exits = {job.exit_code for job in seeds if job.exit_code}
    return [
        ("", "dim"),
        (one_line(name), "bold"),
        (f"{MARKS[worst].symbol} {_tally(seeds)}", MARKS[worst].style),
        (str(max(job.attempt for job in seeds) or ""), ""),
        (str(exits.pop()) if len(exits) == 1 else "", MARKS[worst].style),
        (duration(max(spans)), "") if spans else ("", "dim"),
        *(_means(seeds) if measured else []),
        (_unsuccessful(seeds), "dim"),
    ]


def _means(seeds: Sequence[JobView]) -> list[tuple[str, str]]:
    """Progress and reward: a NaN among the rewards is not hidden."""
    done = [share for job in seeds if (share := fraction(job.progress)) is not None]
    rewards = [job.progress.reward for job in seeds if job.progress and job.progress.reward is not None]
    far = percent(sum(done) / len(done)) if done else ""
    return [(far, ""), (number(sum(rewards) / len(rewards)) if rewards else "", "")]


def _tally(seeds: Sequence[JobView]) -> str:
    """ "4/5 done, 1 running"; what has failed comes first."""
    counts = Counter(job.state for job in seeds)
    others = [f"{counts[state]} {MARKS[state].word}" for state in _WORST[:-1] if counts[state]]
    return ", ".join([f"{counts[JobState.SUCCEEDED]}/{len(seeds)} done", *others])


def _unsuccessful(seeds: Sequence[JobView]) -> str:
    bad = [job for job in seeds if job.unsuccessful]
    told = [f"s{job.seed} ({job.id}): {one_line(job.reason or MARKS[job.state].word)}" for job in bad[:_NAMED_SEEDS]]
    more = [f"{len(bad) - _NAMED_SEEDS} more"] if len(bad) > _NAMED_SEEDS else []
    return "; ".join([*told, *more])
