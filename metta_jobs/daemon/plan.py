"""Which of the jobs that wait for slots can start now, and what the others wait for. Pure; the daemon acts on it, and
readers explain with it."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from metta_jobs.daemon.patience import Ages
from metta_jobs.daemon.slots import Slots
from metta_jobs.store.queue import GroupLimits, Holding, Need, Parent, ReadyJob

NAMED_PARENTS = 3
"""So many parents that a job waits for are named; the others are counted."""
LOOKAHEAD = 16
"""So many attempts stand in line behind one that is known to be quick."""


@dataclass(frozen=True)
class Waits:
    """A pending job must wait, and why; what it waits for may change by itself in `until_s` seconds."""

    reason: str
    until_s: float | None = None
    for_slots: bool = False


@dataclass(frozen=True)
class Claim:
    """A pending job can start now, with these GPUs (a share of each), or next in a lane that is in use."""

    gpus: tuple[str, ...] = ()
    gpu_share: float = 1
    lane: str | None = None

    @property
    def reason(self) -> str:
        """What to say of it until it has."""
        return "starts at the daemon's next look"


@dataclass(frozen=True)
class GivesUp:
    """A pending job has waited for slots longer than it may."""

    reason: str


Verdict = Claim | Waits | GivesUp


def plan(
    ready: Iterable[ReadyJob],
    slots: Slots,
    groups: Mapping[int, GroupLimits],
    ages: Callable[[ReadyJob], Ages],
    lines: Mapping[str, int] | None = None,
) -> Iterator[tuple[ReadyJob, Verdict]]:
    """Yield a verdict for each ready job in the order of the queue; each claim takes its slots from those behind it.

    `ages` tells how long a job has waited, and how long it still has to pause. `lines` are lanes whose jobs end as soon
    as they have begun, and how many stand in line there: jobs of the same size may follow, so that the next one starts
    without anybody being asked.
    """
    standing = Counter(lines or {})
    for job in ready:
        waited, pause = ages(job)
        elsewhere = job.executor != "local"
        held_back = _held_back(job, slots, groups, waited, pause)
        verdict: Verdict = held_back or (Claim() if elsewhere else _for_slots(job, slots, waited))
        if isinstance(verdict, Claim) and elsewhere:
            slots.take(replace(_holding(job, (), 1), elsewhere=True))
        elif isinstance(verdict, Claim):
            share = job.need.gpus if 0 < job.need.gpus < 1 else 1
            slots.take(_holding(job, verdict.gpus, share))
            verdict = Claim(verdict.gpus, share)
        elif (
            isinstance(verdict, Waits)
            and verdict.for_slots
            and job.group_id not in groups
            and (lane := _line(job.need, slots, standing))
        ):
            verdict = Claim(lane=lane)
        yield job, verdict


def may_start(slots: Slots, lines: Mapping[str, int]) -> bool:
    """False when it is in vain to look at more jobs that want a CPU slot."""
    return not slots.full() or any(standing < LOOKAHEAD for standing in lines.values())


def _held_back(
    job: ReadyJob, slots: Slots, groups: Mapping[int, GroupLimits], waited: float, pause: float
) -> Waits | GivesUp | None:
    """What keeps it from asking for slots at all."""
    group = groups.get(job.group_id)
    if group is not None and group.paused:
        return Waits("group paused")
    if pause > 0:
        return Waits(f"tried again in {math.ceil(pause)} s", pause)
    if job.queue_timeout_s is not None and waited >= job.queue_timeout_s:
        return GivesUp(f"not started in {job.queue_timeout_s:g} s (queue_timeout_s)")
    gives_up_in = None if job.queue_timeout_s is None else job.queue_timeout_s - waited
    if reason := slots.never_fits(job.need):
        return Waits(f"can never start here: {reason}", gives_up_in)
    running = slots.in_groups[job.group_id]
    if group is not None and group.max_parallel is not None and running >= group.max_parallel:
        return Waits(f"the group's limit is reached ({running} of {group.max_parallel} running)", gives_up_in)
    return None


def _for_slots(job: ReadyJob, slots: Slots, waited: float) -> Waits | Claim:
    reason = slots.lacks(job.need)
    if reason is None:
        return Claim(slots.choose(job.need.gpus) if job.need.gpus else ())
    patience = slots.machine.reserve_after_s - waited
    if patience <= 0:
        slots.keep_for(job.job_id, job.need, f"has waited {_long(waited)}")
    until = [left for left in (patience, (job.queue_timeout_s or 0) - waited) if left > 0]
    return Waits(reason, min(until, default=None), for_slots=True)


def _long(seconds: float) -> str:
    return f"{seconds / 60:.0f} min" if seconds >= 120 else f"{seconds:.0f} s"


def _holding(job: ReadyJob, gpus: tuple[str, ...], share: float) -> Holding:
    need = job.need
    return Holding(job.job_id, job.group_id, f"job {job.job_id}", gpus, share, need.cpus, need.memory_gb)


def _line(need: Need, slots: Slots, standing: Counter[str]) -> str | None:
    """The shortest line of a lane with slots of just this size, None when all are long."""
    if need.gpus or slots.kept:
        return None
    lanes = [
        (standing[lane], lane)
        for lane, holding in slots.lanes.items()
        if lane in standing and (holding.cpus, holding.memory_gb) == (need.cpus, need.memory_gb)
    ]
    length, lane = min(lanes, default=(LOOKAHEAD, None))
    if lane is None or length >= LOOKAHEAD:
        return None
    standing[lane] += 1
    return lane


def waits_for(parents: Sequence[Parent]) -> str:
    """What to say of a job that waits for these."""
    named = [f"{parent.label} ({parent.progress or parent.state.value})" for parent in parents[:NAMED_PARENTS]]
    more = f" and {len(parents) - NAMED_PARENTS} more" if len(parents) > NAMED_PARENTS else ""
    return f"waits for {', '.join(named)}{more}"
