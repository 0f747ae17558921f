"""What SkyPilot is asked, how often, and whether it answers."""

from __future__ import annotations

import logging
import math
import random
from typing import Any

from metta_jobs.clock import Clock
from metta_jobs.executors.sky.client import Answer, SkyClient
from metta_jobs.views import Silence

log = logging.getLogger("metta_jobs.daemon")

#: The queue is asked this often (seconds) while something changes, and ever less often when nothing does.
POLL_S, LONGEST_POLL_S = 5.0, 60.0
#: How often the answer to a launch, and a launch whose answer is lost, are asked for.
CONFIRM_S, SEARCH_S = 3.0, 15.0
#: How often it is looked whether launches that are confirmed were made twice.
DOUBLES_S = 60.0
#: SkyPilot is said not to answer when it has not for so long.
SILENT_S = 45.0
PAUSES_S = {"search": SEARCH_S, "launches": SEARCH_S, "doubles": DOUBLES_S, "requests": CONFIRM_S}
#: Questions about all jobs at once: one of each kind is open at a time.
POLLS = {"queue": "queue", "search": "queue", "doubles": "queue", "requests": "requests", "launches": "launches"}


class Questions:
    """Tickets and what they are about; the pace of polls, which slows down when nothing changes or nobody answers."""

    def __init__(self, client: SkyClient, clock: Clock) -> None:
        self._client = client
        self._clock = clock
        self._about: dict[int, tuple[str, Any]] = {}
        self._open: dict[str, tuple[int, float]] = {}  # kind of poll → its ticket, and when it was asked
        self._due: dict[str, float] = {}
        self._interval = POLL_S
        self._failures = 0
        self._unanswered: tuple[float, Silence] | None = None  # since when, by the monotonic clock
        self._told = False
        self.failed_at = -math.inf  # when a poll was last not answered, by the monotonic clock

    def __len__(self) -> int:
        return len(self._about)

    def count(self, kind: str) -> int:
        """How many of this kind are open."""
        return sum(what[0] == kind for what in self._about.values())

    def ask(self, what: tuple[str, Any], do: str, **fields: Any) -> None:
        """Ask; the answer comes back as of `what`: a kind, and whom or what it is about."""
        self._about[self._client.ask(do, **fields)] = what

    def poll(self, kind: str, about: Any = None, **fields: Any) -> None:
        """Ask about all jobs that `about` names, if that is due and the last answer has come."""
        now = self._clock.monotonic()
        if kind in self._open or now < self._due.get(kind, 0.0):
            return
        self._due[kind] = now + PAUSES_S.get(kind, self._interval)
        ticket = self._client.ask(POLLS[kind], **fields)
        self._open[kind] = ticket, now
        self._about[ticket] = (kind, about)

    def soon(self, *kinds: str) -> None:
        """Let these polls be due now."""
        for kind in kinds:
            self._due[kind] = 0.0

    def pace(self, *, changed: bool) -> None:
        """Ask for the queue often while it changes, and ever less often while it does not."""
        self._interval = POLL_S if changed else min(LONGEST_POLL_S, self._interval * 1.3)

    def answers(self) -> list[tuple[str, Any, Answer]]:
        """What has come: of which kind, about whom or what, and the answer."""
        come = []
        for answer in self._client.answers():
            kind, about = self._about.pop(answer.ticket, ("", None))
            ticket, asked = self._open.get(kind, (None, 0.0))
            if ticket == answer.ticket:
                del self._open[kind]
                # A server that is slow has much to do: it gets as long a rest as it took.
                now = self._clock.monotonic()
                self._due[kind] = max(self._due[kind], now + min(LONGEST_POLL_S, now - asked))
            if kind in POLLS or answer.kind == "unreachable":
                self._heard(answer)
            come.append((kind, about, answer))
        return come

    def _heard(self, answer: Answer) -> None:
        """Keep track of whether SkyPilot answers; where it does not, ask less and less often."""
        if answer.value is not None:
            self._failures, self._unanswered, self._told = 0, None, False
            return
        now = self._clock.monotonic()
        self._failures += 1
        self.failed_at = now
        # With jitter, so that many queues behind one API server do not all come back at the same moment.
        pause = min(LONGEST_POLL_S, POLL_S * 2 ** (self._failures - 1)) * random.uniform(0.75, 1.25)  # noqa: S311
        for kind in POLLS:
            self._due[kind] = now + pause
        if self._unanswered is None:
            self._unanswered = now, Silence("SkyPilot", self._clock.now(), answer.error or "no reason given")

    @property
    def silence(self) -> Silence | None:
        """Since when SkyPilot has not answered; None while it does, or has not been silent for long."""
        if self._unanswered is None or self._clock.monotonic() - self._unanswered[0] < SILENT_S:
            return None
        if not self._told:
            self._told = True
            log.warning("SkyPilot does not answer: %s", self._unanswered[1].why)
        return self._unanswered[1]

    def forget(self) -> None:
        """Nothing is asked any more, and no answer is waited for."""
        self._about.clear()
        self._open.clear()
        self._failures, self._unanswered, self._told = 0, None, False
