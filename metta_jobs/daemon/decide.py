"""What to do about one live attempt, given what is known. Pure: no clock, no database, no processes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from metta_jobs.criteria import AcceptanceCriterion, judge
from metta_jobs.executors.base import Absent, Alive, Cause, Exited, Failed, Observation, Queued, Unknown
from metta_jobs.policy import RetryPolicy, cause_of
from metta_jobs.states import JobState

MAX_LAUNCHES = 6
"""After so many launches that left no sign of life, an attempt is given up."""
SLOW_S = 0.1
"""Who stands in line behind a job that runs longer is taken back, so that it can start wherever there is room."""


@dataclass(frozen=True)
class Live:
    """What is known of a live attempt beside the observation, as far as decisions need it.

    `ahead_s` is how long the attempt has run that it stands in line behind; `alone` says that nobody else is in its
    lane; `same_boot` that the machine has not been restarted since it was claimed. `refused` says why it could not be
    started the last time. `tries` counts its attempts since a person last asked for one. `restart`: its kill is not the
    end of it, a health rule wants it tried again. `values` are the last of its metrics, once it has ended and they were
    read; `unread` says why they cannot be.
    """

    state: JobState
    kill: bool
    force: bool
    timeout_s: float | None
    grace_s: float
    queue_timeout_s: float | None = None
    launches: int = 0
    launch_due: bool = True
    refused: str | None = None
    ahead_s: float | None = None
    alone: bool = True
    same_boot: bool = True
    retry: RetryPolicy | None = None
    tries: int = 1
    restart: bool = False
    acceptance: tuple[AcceptanceCriterion, ...] = ()
    values: Mapping[str, float] | None = None
    unread: str | None = None


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
    """It has ended. `void` asks the executor first to make sure that it can never start. After `again_s` seconds it is
    to be tried again."""

    state: JobState
    exit_code: int | None
    reason: str | None
    running_s: float | None = None
    void: bool = False
    again_s: float | None = None


@dataclass(frozen=True)
class Stop:
    """Its processes must be asked to end, or ended."""

    cause: Cause
    force: bool
    note: str


@dataclass(frozen=True)
class Launch:
    """It has not started: start it (again)."""


@dataclass(frozen=True)
class ReadMetrics:
    """It has ended well, and its metrics must be read to tell whether it is accepted; `note` says why they were not."""

    note: str | None = None


@dataclass(frozen=True)
class Withdraw:
    """It has not started: take it back, so that it is pending again."""


Decision = Keep | MarkRunning | Finish | Stop | Launch | Withdraw | ReadMetrics


def decide_live(live: Live, seen: Observation) -> Decision:
    """Decide about a live attempt."""
    decision = _decide(live, seen)
    if isinstance(decision, Finish) and live.restart and decision.state is not JobState.SUCCEEDED:
        return replace(decision, again_s=0.0)
    if isinstance(decision, Finish) and live.retry is not None and not live.kill:
        cause = seen.cause if isinstance(seen, Failed) else cause_of(decision.state, decision.exit_code)
        if cause is not None and live.retry.wants(cause, live.tries):
            return replace(decision, again_s=live.retry.pause_s(live.tries))
    return decision


def _decide(live: Live, seen: Observation) -> Decision:
    match seen:
        case Unknown():
            return Keep(seen.why)
        case Queued():
            return _in_line(live, seen)
        case Exited():
            return _ended(live, seen)
        case Failed():
            if live.kill:
                return Finish(JobState.KILLED, None, "killed on request")
            return Finish(JobState.FAILED, None, seen.why)
        case Absent(launched=False) if live.state is JobState.LAUNCHING:
            return _never_started(live, seen)
        case Absent():
            return _vanished(live, seen)
        case Alive():
            if live.state is JobState.LAUNCHING:
                return MarkRunning(seen.note)
            return _running(live, seen)


def _in_line(live: Live, seen: Queued) -> Decision:
    if seen.sent:
        return _sent(live, seen)
    if live.kill:
        return Finish(JobState.KILLED, None, "killed before it started", void=True)
    if seen.behind and live.ahead_s is not None and live.ahead_s > SLOW_S:
        return Withdraw()
    return Keep()


def _sent(live: Live, seen: Queued) -> Decision:
    """Somebody else starts it when there is room: it can be ended, but not taken back."""
    if seen.stopping is not None:
        if live.force and not seen.stopping.forced:
            return Stop(seen.stopping.cause, True, _ending(live, seen.stopping.cause))
        late = seen.stopping.cause is Cause.TIMEOUT and live.queue_timeout_s is not None
        return Keep(f"ending: {_waited(live)}" if late else _ending(live, seen.stopping.cause))
    if live.kill:
        return Stop(Cause.KILL, live.force, _ending(live, Cause.KILL))
    waits = live.state is JobState.LAUNCHING and live.queue_timeout_s is not None  # not one that is started again
    if waits and seen.waited_s is not None and seen.waited_s > (live.queue_timeout_s or 0):
        return Stop(Cause.TIMEOUT, False, f"ending: {_waited(live)}")
    return Keep(seen.note)


def _waited(live: Live) -> str:
    return f"not started in {live.queue_timeout_s:g} s (queue_timeout_s)"


def _ended(live: Live, seen: Exited) -> Finish | ReadMetrics:
    code = seen.exit_code
    # Asked to end and ended by a signal: so it was, though the record of our asking is lost.
    if seen.stopped is Cause.KILL or (seen.stopped is None and live.kill and code in (137, 143)):
        return Finish(JobState.KILLED, code, "killed on request", seen.running_s)
    if seen.stopped is Cause.TIMEOUT:
        return Finish(JobState.TIMED_OUT, code, _timeout_reason(live), seen.running_s)
    if code == 0:
        return _judged(live, seen) if live.acceptance else Finish(JobState.SUCCEEDED, 0, seen.error, seen.running_s)
    return Finish(JobState.FAILED, code, seen.error or f"exit code {code}", seen.running_s)


def _judged(live: Live, seen: Exited) -> Finish | ReadMetrics:
    """The files of an attempt that has ended change no more: who judges it again comes to the same end."""
    if live.values is None:
        if live.unread is not None and live.kill:  # a person has waited for it long enough
            return Finish(JobState.FAILED, 0, f"whether it is accepted is not known: {live.unread}", seen.running_s)
        return ReadMetrics(live.unread)
    accepted, why = judge(live.acceptance, live.values)
    return Finish(JobState.SUCCEEDED if accepted else JobState.FAILED, 0, why, seen.running_s)


def _never_started(live: Live, seen: Absent) -> Decision:
    if live.kill:
        return Finish(JobState.KILLED, None, "killed before it started", void=True)
    if not live.same_boot:
        return Finish(JobState.LOST, None, "the machine was restarted before it was seen to start")
    if not live.alone:
        return Withdraw()  # its runner is gone, and with it its place behind another
    if not live.launch_due:
        return Keep(seen.note or live.refused or "starting")
    if live.launches >= MAX_LAUNCHES and not seen.refused:
        detail = f": {seen.note}" if seen.note else ""
        return Finish(JobState.FAILED, None, f"could not be started in {live.launches} tries{detail}", void=True)
    return Launch()


def _vanished(live: Live, seen: Absent) -> Finish:
    if live.kill or seen.stopped is Cause.KILL:
        return Finish(JobState.KILLED, None, "killed on request" if live.kill else seen.note or "killed on request")
    if seen.stopped is Cause.TIMEOUT:
        never_ran = live.state is JobState.LAUNCHING and live.queue_timeout_s is not None
        return Finish(JobState.TIMED_OUT, None, _waited(live) if never_ran else _timeout_reason(live))
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
