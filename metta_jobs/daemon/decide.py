"""What to do about one job, given what is known. Pure: no clock, no database, no processes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from metta_jobs.executors.base import Absent, Alive, Cause, Exited, Observation, Unknown
from metta_jobs.states import DependencyKind, JobState

MAX_LAUNCHES = 6
"""After so many launches that left no sign of life, an attempt is given up."""


NAMED_PARENTS = 3
"""So many parents that a job waits for are named; the others are counted."""


@dataclass(frozen=True)
class Live:
    """What is stored of a live attempt, as far as decisions need it."""

    state: JobState
    kill: bool
    force: bool
    timeout_s: float | None
    grace_s: float
    launches: int = 0
    launch_due: bool = True
    impossible: str | None = None


@dataclass(frozen=True)
class Keep:
    """Nothing to do; `note` says what is worth saying about it."""

    note: str | None = None


@dataclass(frozen=True)
class MarkRunning:
    """It was seen alive."""

    note: str | None = None


@dataclass(frozen=True)
class Finish:
    """It has ended. `void` asks the executor first to make sure that it can never start."""

    state: JobState
    exit_code: int | None
    reason: str | None
    running_s: float | None = None
    void: bool = False


@dataclass(frozen=True)
class Stop:
    """Its processes must be asked to end, or ended."""

    cause: Cause
    force: bool
    note: str


@dataclass(frozen=True)
class Launch:
    """It has not started: start it (again)."""


Decision = Keep | MarkRunning | Finish | Stop | Launch


def decide_live(live: Live, seen: Observation) -> Decision:
    """Decide about a live attempt."""
    match seen:
        case Unknown():
            return Keep(seen.why)
        case Exited():
            return _ended(live, seen)
        case Absent(launched=False) if live.state is JobState.LAUNCHING:
            return _never_started(live, seen)
        case Absent():
            return _vanished(live, seen)
        case Alive():
            if live.state is JobState.LAUNCHING:
                return MarkRunning(seen.note)
            return _running(live, seen)


def _ended(live: Live, seen: Exited) -> Finish:
    code = seen.exit_code
    # Asked to end and ended by a signal: so it was, though the record of our asking is lost.
    if seen.stopped is Cause.KILL or (seen.stopped is None and live.kill and code in (137, 143)):
        return Finish(JobState.KILLED, code, "killed on request", seen.running_s)
    if seen.stopped is Cause.TIMEOUT:
        return Finish(JobState.TIMED_OUT, code, _timeout_reason(live), seen.running_s)
    if code == 0:
        return Finish(JobState.SUCCEEDED, 0, None, seen.running_s)
    return Finish(JobState.FAILED, code, seen.error or f"exit code {code}", seen.running_s)


def _never_started(live: Live, seen: Absent) -> Decision:
    if live.kill:
        return Finish(JobState.KILLED, None, "killed before it started", void=True)
    if live.impossible is not None:
        return Finish(JobState.FAILED, None, live.impossible, void=True)
    if not live.launch_due:
        return Keep(seen.note or "starting")
    if live.launches >= MAX_LAUNCHES:
        detail = f": {seen.note}" if seen.note else ""
        return Finish(JobState.FAILED, None, f"could not be started in {live.launches} tries{detail}", void=True)
    return Launch()


def _vanished(live: Live, seen: Absent) -> Finish:
    if live.kill or seen.stopped is Cause.KILL:
        return Finish(JobState.KILLED, None, "killed on request")
    if seen.stopped is Cause.TIMEOUT:
        return Finish(JobState.TIMED_OUT, None, _timeout_reason(live))
    return Finish(JobState.LOST, None, seen.note or "its processes are gone and left no outcome record")


def _running(live: Live, seen: Alive) -> Decision:
    stopping = seen.stopping
    if stopping is None:
        if live.kill:
            return Stop(Cause.KILL, live.force, _ending(live, Cause.KILL))
        if live.timeout_s is not None and seen.running_s is not None and seen.running_s > live.timeout_s:
            return Stop(Cause.TIMEOUT, False, _ending(live, Cause.TIMEOUT))
        return Keep(seen.note)
    note = _ending(live, stopping.cause)
    overdue = stopping.since_s is None or stopping.since_s > live.grace_s
    if overdue or live.force or stopping.forced:
        return Stop(stopping.cause, True, note)
    return Keep(note)


def _ending(live: Live, cause: Cause) -> str:
    return "ending: killed on request" if cause is Cause.KILL else f"ending: {_timeout_reason(live)}"


def _timeout_reason(live: Live) -> str:
    return f"time limit of {live.timeout_s:g} s reached" if live.timeout_s else "time limit reached"


@dataclass
class Capacity:
    """Slots of this machine and who holds them, derived anew at each tick from the stored live attempts."""

    cpus: float
    gpus: Sequence[str]
    max_parallel: int | None = None
    cpu_holders: dict[int, float] = field(default_factory=dict)
    gpu_holders: dict[str, int] = field(default_factory=dict)

    def take(self, job_id: int, gpus: Sequence[str], cpus: float) -> None:
        """Note that a job holds these slots."""
        self.cpu_holders[job_id] = cpus
        self.gpu_holders |= dict.fromkeys(gpus, job_id)

    def lacks(self, gpus: int, cpus: float) -> str | None:
        """Why a job of this size cannot start now; None when it can."""
        holders = ", ".join(map(str, self.cpu_holders))
        if self.max_parallel is not None and len(self.cpu_holders) >= self.max_parallel:
            return f"no free place ({len(self.cpu_holders)} of {self.max_parallel} parallel jobs running: {holders})"
        used = sum(self.cpu_holders.values())
        if cpus and used + cpus > self.cpus + 1e-9:
            return f"no free CPU slot ({used:g} of {self.cpus:g} in use by {holders})"
        if gpus > len(self.free_gpus()):
            users = ", ".join(map(str, sorted(set(self.gpu_holders.values()))))
            return f"no free GPU ({len(self.gpu_holders)} of {len(self.gpus)} in use by {users})"
        return None

    def free_gpus(self) -> list[str]:
        """GPUs that no live attempt holds."""
        return [gpu for gpu in self.gpus if gpu not in self.gpu_holders]

    def never_fits(self, gpus: int, cpus: float) -> str | None:
        """Why a job of this size can never start on this machine; None when it can."""
        if gpus > len(self.gpus):
            have = f"has {len(self.gpus)}" if self.gpus else "has none"
            return f"it asks for {gpus} GPU{'s' if gpus > 1 else ''} and this machine {have}"
        if cpus > self.cpus:
            return f"it asks for {cpus:g} CPU slots and this machine has {self.cpus:g}"
        return None


@dataclass(frozen=True)
class Waits:
    """A pending job must wait, and why."""

    reason: str


@dataclass(frozen=True)
class Skip:
    """A pending job can no longer run, and why."""

    reason: str


@dataclass(frozen=True)
class Claim:
    """A pending job can start now, with these GPUs."""

    gpus: tuple[str, ...]

    @property
    def reason(self) -> str:
        """What to say of it until it has."""
        return "starts at the daemon's next look"


def decide_parents(parents: Mapping[str, tuple[JobState, DependencyKind]]) -> Waits | Skip | None:
    """Decide by the parents, given as label → (state, kind); None when all are met."""
    for label, (state, kind) in parents.items():
        if kind.impossible(state):
            return Skip(f"{label} {_past(state)}")
    unmet = [f"{label} ({state.value})" for label, (state, kind) in parents.items() if not kind.met(state)]
    if not unmet:
        return None
    more = f" and {len(unmet) - NAMED_PARENTS} more" if len(unmet) > NAMED_PARENTS else ""
    return Waits(f"waits for {', '.join(unmet[:NAMED_PARENTS])}{more}")


def decide_slots(gpus: int, cpus: float, capacity: Capacity) -> Waits | Claim:
    """Decide by the slots."""
    if reason := capacity.never_fits(gpus, cpus):
        return Waits(f"can never start here: {reason}")
    if reason := capacity.lacks(gpus, cpus):
        return Waits(reason)
    return Claim(tuple(capacity.free_gpus()[:gpus]))


def _past(state: JobState) -> str:
    return {
        JobState.TIMED_OUT: "timed out",
        JobState.KILLED: "was killed",
        JobState.LOST: "was lost",
        JobState.SKIPPED: "was skipped",
    }.get(state, state.value)
