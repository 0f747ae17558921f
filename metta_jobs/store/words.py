"""Words that the tables hold, beside the states of jobs, and how times and JSON are written into them."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

#: Wishes that people leave for the daemon in `jobs.wish`.
KILL, FORCE_KILL, RETRY = "kill", "force_kill", "retry"


#: How the events of wishes begin that are no person's: a job is to end, or to end and be tried again, because …
KILL_BECAUSE, RESTART = "kill: ", "restart: "

#: How the reason of a job begins that is tried again by its own policy.
AGAIN = "tried again: "


class DeliveryState(StrEnum):
    """What has become of a message that a hook is to deliver."""

    WAITING = "waiting"
    DELIVERED = "delivered"
    GIVEN_UP = "given_up"


def to_text(moment: datetime) -> str:
    """A moment as it is stored: UTC, ISO 8601 with its zone, so that the order of texts is the order of times."""
    return moment.astimezone(UTC).isoformat(timespec="microseconds")


def to_time(text: str | None) -> datetime | None:
    """A stored moment."""
    return None if text is None else datetime.fromisoformat(text)


def to_json(value: Any) -> str:
    """A value as it is stored in a JSON column."""
    return json.dumps(value, separators=(",", ":"))


class SweepState(StrEnum):
    """RUNNING asks for trials; VALIDATING runs its best ones again; ENDED by its own rules, STOPPED by a person.

    Trials that are open when it ends or is stopped are still told.
    """

    RUNNING = "running"
    VALIDATING = "validating"
    ENDED = "ended"
    STOPPED = "stopped"


class TrialState(StrEnum):
    """OPEN until it is told, once: FINISHED with a score, STOPPED early with the score that it had reached, FAILED by
    its own doing, LOST by the machine's, DROPPED because a person has killed it."""

    OPEN = "open"
    FINISHED = "finished"
    STOPPED = "stopped"
    FAILED = "failed"
    LOST = "lost"
    DROPPED = "dropped"


class Origin(StrEnum):
    """Where a trial comes from: the optimiser, a person, another sweep or file, the re-run of the best."""

    SUGGESTED = "suggested"
    TOLD = "told"
    IMPORTED = "imported"
    VALIDATION = "validation"
