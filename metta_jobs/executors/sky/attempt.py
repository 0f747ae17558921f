"""One remote attempt in the daemon's memory, and what it looks like to those who decide. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from metta_jobs.executors.base import Absent, Alive, Cause, Exited, Failed, Key, Observation, Queued, Stopping
from metta_jobs.executors.sky import statuses
from metta_jobs.executors.sky.ledger import Ledger
from metta_jobs.executors.sky.outcome import Outcome
from metta_jobs.executors.sky.statuses import Seen

#: A launch whose answer never came is looked for so long (seconds); so is a job that an answer leaves out.
LOOK_FOR_S = 600.0
MISSING_S = 60.0
MISSING_ANSWERS = 3
#: Answers to searches by name that must not hold it before it is given up.
SEARCHES = 3
#: An API server that is started anew forgets its requests, and what they were about to start stays where it was: so
#: long it may (seconds), while nothing says that anybody still works on it.
STUCK_S = 60.0
#: A worker whose daemon has died is gone after so long (seconds), and sends nothing any more.
LAST_BREATH_S = 10.0


@dataclass
class Attempt:
    """What is known of it. Times are of the daemon's monotonic clock; `final` is what it has ended as."""

    key: Key
    ledger: Ledger
    since: float
    seen: Seen | None = None
    named_at: float | None = None  # when an answer that bore its name was last seen
    adopted: bool = False  # an earlier daemon was about to launch it
    asking: bool = False  # the answer to its launch may still come
    request_failed: str | None = None
    refused: bool = False  # that is SkyPilot's own word, and not that it has forgotten the request
    doubted_at: float = 0.0  # since when nobody can answer its launch any more
    not_requested: bool = False  # the API server was never asked to launch it
    searched_since: int = 0  # answers to searches by name since that is known
    searched: int = 0  # answers to searches by name that did not hold it
    unfound_since: float | None = None  # since the first of those
    absent: int = 0  # answers to polls that did not hold it
    absent_since: float | None = None
    inactive_since: float | None = None
    elsewhere: bool = False  # its id is somebody else's now: it is never to be touched
    checked: bool = False  # SkyPilot was seen to have it once
    doubled: str | None = None  # that it has it twice, in words
    stop: Cause | None = None
    stopped_at: float = 0.0
    cancelled_at: float | None = None
    log_tries: int = 0
    log_due: float = 0.0
    log_asked: bool = False
    priced_as: str | None = None
    stuck: bool = False  # SkyPilot has lost it before it started: it is cancelled, and launched anew
    buried: bool = False  # that is done
    ran: bool = False  # it was seen to run, at some time
    final: Observation | None = None
    facts: dict[str, Any] = field(default_factory=dict)
    new_facts: dict[str, Any] = field(default_factory=dict)  # those that nobody has asked for yet

    @property
    def confirmed(self) -> bool:
        """True when SkyPilot's id of it is known."""
        return self.ledger.managed_id is not None

    @property
    def to_look_for(self) -> bool:
        """True while only its name can tell whether it was launched: the answer to the launch is lost, or says no."""
        lost = self.ledger.request_id is None or self.request_failed is not None
        return lost and not self.confirmed and not self.asking

    @property
    def never_arrived(self) -> bool:
        """True when SkyPilot has certainly never heard of it: no request, and no managed job after that (of two
        answers, the second was asked for after the first)."""
        return self.not_requested and self.searched_since >= 2 and self.final is None

    @property
    def collects(self) -> bool:
        """True when it has ended by its command, whose evidence must still be fetched."""
        return self.final is None and self.seen is not None and self.seen.status in statuses.RAN

    def is_its_own(self, silent_at: float) -> bool:
        """Whether its id is its own for certain: a server that was silent may be another one since, with other jobs."""
        return self.named_at is not None and self.named_at >= silent_at and not self.elsewhere

    def stopping(self, now: float) -> Stopping | None:
        """How and since when it is being ended. SkyPilot knows one way to do so, and it is thorough."""
        return None if self.stop is None else Stopping(self.stop, now - self.stopped_at, forced=True)

    def see(self, seen: Seen, now: float) -> bool:
        """Take in an answer; True when it says something new."""
        self.absent, self.absent_since, self.elsewhere = 0, None, False
        if seen.name is not None:  # an id alone may be somebody else's
            self.named_at = now
        if seen.status == statuses.UNKNOWN and self.seen is not None:
            seen = replace(seen, status=self.seen.status)
        self.inactive_since = (self.inactive_since or now) if seen.inactive else None
        if self.inactive_since is not None and (self.request_failed is not None or self.ledger.request_id is None):
            # Of a launch whose answer is lost nobody can be asked whether it is still worked on.
            patience = STUCK_S if self.request_failed is not None else LOOK_FOR_S
            self.stuck |= now - self.inactive_since > patience
        if self.stuck and self.stop is None and seen.status == statuses.CANCELLED:
            if self.refused:
                self.final = Failed(f"SkyPilot could not launch it: {self.request_failed}", "lost")
            self.buried = not self.refused
            return True
        before, self.seen = self.seen, seen
        self.ran |= seen.status in statuses.RUNNING or bool(seen.ran_s)
        if seen.terminal and seen.status not in statuses.RAN:
            self.final = self._never_ran(seen)
        return before is None or before.facts() != seen.facts()

    def _never_ran(self, seen: Seen) -> Observation:
        if seen.status == statuses.CANCELLED:
            return Absent(launched=True, stopped=self.stop or Cause.KILL, note="cancelled through SkyPilot")
        why, cause = statuses.NOT_ITS_FAULT[seen.status]
        return Failed(f"{why}: {seen.detail}" if seen.detail else f"{why} ({seen.status})", cause)

    def miss(self, now: float) -> None:
        """A complete answer about it did not hold it: no end, until that is so again and again."""
        self.absent += 1
        self.absent_since = now if self.absent_since is None else self.absent_since
        if self.absent >= MISSING_ANSWERS and now - self.absent_since >= MISSING_S:
            self.final = Absent(
                launched=True,
                stopped=self.stop,
                note=f"SkyPilot knows no managed job {self.ledger.managed_id} ({self.ledger.name}) any more",
            )

    def not_found(self, now: float) -> None:
        """A search by name did not find it."""
        self.searched += 1
        self.searched_since += self.not_requested
        self.unfound_since = now if self.unfound_since is None else self.unfound_since
        sure = self.refused or now - self.unfound_since >= MISSING_S
        if self.request_failed is not None and self.searched >= 2 and sure:
            # Its launch is known to have failed, and left nothing behind.
            self.final = Failed(f"SkyPilot could not launch it: {self.request_failed}", "lost")
        elif now - self.since > LOOK_FOR_S and self.searched >= SEARCHES:
            self.final = Absent(
                launched=True,
                stopped=self.stop,
                note=f"SkyPilot never answered its launch, and has had no job named {self.ledger.name} for "
                f"{LOOK_FOR_S / 60:.0f} min",
            )

    def collected(self, outcome: Outcome | None) -> None:
        """Its log was read, or cannot be: what it has ended as."""
        seen = self.seen
        assert seen is not None
        ran_s = seen.ran_s if outcome is None else outcome.ran_s
        if outcome is None:
            code = 0 if seen.status == "SUCCEEDED" else seen.exit_code or 1
            said = None if code else "SkyPilot says so; its log holds no outcome record"
            self.final = Exited(code, ran_s, self.stop if code else None, said or seen.detail)
            return
        code, error = outcome.exit_code, None
        if seen.status == "FAILED" and code == 0:
            code, error = seen.exit_code or 1, seen.detail or "SkyPilot says that it failed"
        stopped = Cause.TIMEOUT if outcome.limit else self.stop if code else None
        self.final = Exited(code, ran_s, stopped, error)

    def observe(self, now: float) -> Observation:
        """What can be said of it now."""
        if self.final is not None:
            return self.final
        stopping, waited, seen = self.stopping(now), now - self.since, self.seen
        if seen is None:
            if self.confirmed:
                note = f"SkyPilot: managed job {self.ledger.managed_id}"
            elif self.to_look_for:
                note = f"its launch was not confirmed: looking for {self.ledger.name} in SkyPilot"
            else:
                note = "SkyPilot is launching it"
            return Queued(sent=True, waited_s=waited, stopping=stopping, note=note)
        note = "ended; its log is being fetched" if self.collects else seen.said
        if self.stuck and stopping is None and self.refused:
            note = f"SkyPilot could not launch it: what is left of it is cancelled ({self.request_failed})"
        elif self.stuck and stopping is None:
            note = "SkyPilot has lost it before it started: it is launched anew when that is cancelled"
        note = self.doubled or note
        if not self.ran and not self.collects:
            return Queued(sent=True, waited_s=waited, stopping=stopping, note=note)
        return Alive(seen.ran_s, stopping, None if note == "SkyPilot: running" else note)
