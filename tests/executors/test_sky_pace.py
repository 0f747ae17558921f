"""How often SkyPilot is asked."""

from __future__ import annotations

from typing import Any, cast

from metta_jobs.executors.sky.client import Answer, SkyClient
from metta_jobs.executors.sky.questions import POLL_S, Questions
from metta_jobs.testing import ManualClock


class SlowServer:
    """A client whose answers come when the test says so."""

    def __init__(self) -> None:
        self.asked = 0
        self.come: list[Answer] = []

    def ask(self, do: str, **fields: Any) -> int:
        self.asked += 1
        return self.asked

    def answers(self) -> list[Answer]:
        come, self.come = self.come, []
        return come


def test_a_server_that_takes_long_rests_as_long() -> None:
    server, clock = SlowServer(), ManualClock()
    questions = Questions(cast(SkyClient, server), clock)

    def asked_within(seconds: float) -> int:
        before = server.asked
        for _ in range(int(seconds)):
            questions.poll("queue")
            clock.advance(1)
        return server.asked - before

    def answered() -> None:
        server.come = [Answer(server.asked, "queue", {"records": []})]
        assert len(questions.answers()) == 1

    assert asked_within(1) == 1
    answered()  # at once: it is asked again when it is time
    assert (asked_within(POLL_S - 1), asked_within(20)) == (0, 1)
    answered()  # after 20 s
    assert (asked_within(20), asked_within(1)) == (0, 1)
