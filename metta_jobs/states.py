"""The states of a job, who enters each and who leaves it.

    PENDING ─claim─▶ LAUNCHING ─seen alive─▶ RUNNING ─▶ SUCCEEDED | FAILED | TIMED_OUT | KILLED | LOST
       │                 └───────────(may end directly)──────────────────▲
       ├─kill─▶ KILLED          ◀─taken back before it started─ LAUNCHING
       ├─waits for slots longer than it may─▶ TIMED_OUT
       └─a dependency can no longer be met─▶ SKIPPED
    retry: FAILED | TIMED_OUT | KILLED | LOST | SKIPPED ─▶ PENDING, with a new attempt

PENDING     entered by submit and retry, a person's or the job's own policy's; left by the daemon's claim, a kill, its
            queue_timeout_s, or a dependency that can no longer be met.
LAUNCHING   entered by the claim, before anything starts; left when the attempt is seen alive, has ended, or was taken
            back while it stood behind a job that runs longer than expected.
RUNNING     entered when the attempt is seen alive; left when it has ended.
SUCCEEDED   the attempt left an outcome record that says exit code 0, and its metrics meet its acceptance criteria.
            Never left.
FAILED      the outcome record says another exit code, or they are not met, or the command could not be started.
TIMED_OUT   the job's own limit ended it: of its running time, or of its time in the queue.
KILLED      a person, or a rule of its group, asked for its end and its processes are gone.
LOST        its processes are gone and no outcome record says how (a reboot, a killed runner).
SKIPPED     it never ran: a job it depends on ended in a way that rules it out.
"""

from __future__ import annotations

from enum import StrEnum


class JobState(StrEnum):
    """State of a job and of each of its attempts (an attempt is never PENDING or SKIPPED)."""

    PENDING = "pending"
    LAUNCHING = "launching"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    TIMED_OUT = "timed_out"
    KILLED = "killed"
    LOST = "lost"
    SKIPPED = "skipped"

    @property
    def terminal(self) -> bool:
        """True when only a retry can change it."""
        return self in TERMINAL

    @property
    def live(self) -> bool:
        """True while an attempt of the job may hold processes and slots."""
        return self in LIVE


LIVE = frozenset({JobState.LAUNCHING, JobState.RUNNING})
TERMINAL = frozenset(JobState) - LIVE - {JobState.PENDING}
#: Ended without success; what `retry` may revive.
UNSUCCESSFUL = TERMINAL - {JobState.SUCCEEDED}
#: Failed by its own doing or by the machine's: what `wait` answers 1 to and the monitor shows on top.
FAILURES = frozenset({JobState.FAILED, JobState.TIMED_OUT, JobState.LOST})

#: No pause between attempts is longer (a day), whatever a clock has been set to.
LONGEST_PAUSE_S = 86_400.0

_ENDS = frozenset({JobState.SUCCEEDED, JobState.FAILED, JobState.TIMED_OUT, JobState.KILLED, JobState.LOST})

ARROWS: dict[JobState, frozenset[JobState]] = {
    JobState.PENDING: frozenset({JobState.LAUNCHING, JobState.KILLED, JobState.TIMED_OUT, JobState.SKIPPED}),
    JobState.LAUNCHING: _ENDS | {JobState.RUNNING, JobState.PENDING},
    JobState.RUNNING: _ENDS,
    JobState.SUCCEEDED: frozenset(),
    **{state: frozenset({JobState.PENDING}) for state in UNSUCCESSFUL},
}


class DependencyKind(StrEnum):
    """What a job waits for in its parent."""

    AFTEROK = "afterok"
    AFTERANY = "afterany"
    AFTERNOTOK = "afternotok"

    def met(self, parent: JobState) -> bool:
        """True when a parent in this state lets the child start."""
        if not parent.terminal:
            return False
        if self is DependencyKind.AFTERANY:
            return True
        return (parent is JobState.SUCCEEDED) == (self is DependencyKind.AFTEROK)

    def impossible(self, parent: JobState) -> bool:
        """True when a parent in this state rules the child out (until the parent is retried)."""
        return parent.terminal and not self.met(parent)
