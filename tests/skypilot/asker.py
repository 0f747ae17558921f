"""SkyPilot, asked directly and waited for: what it says itself of the jobs that the queue has launched."""

from __future__ import annotations

import select
import time
from pathlib import Path
from typing import Any

from metta_jobs.executors.sky.client import Answer, SkyClient
from tests.processes import until

#: A step of SkyPilot takes tens of seconds, minutes on a machine that is busy.
PATIENCE_S = 600.0
PAUSE_S = 4.0


class Asker:
    """A client whose answers are waited for."""

    def __init__(self, python: str, folder: Path) -> None:
        self.client = SkyClient(lambda: python, folder / "sky.log")
        self.come: dict[int, Answer] = {}
        self._next = 0.0

    def answer(self, do: str, **fields: Any) -> Answer:
        ticket = self.client.ask(do, **fields)

        def found() -> Answer | None:
            if (fd := self.client.fileno()) is not None:
                select.select([fd], [], [], 0.5)
            self.come.update((answer.ticket, answer) for answer in self.client.answers())
            return self.come.get(ticket)

        return until(found, f"the answer to {do}", PATIENCE_S)

    def value(self, do: str, **fields: Any) -> dict[str, Any]:
        """What it answers; while the API server is away, it is asked again."""

        def answered() -> Answer | None:
            # Each question costs the server seconds of a core: who waits asks it now and then.
            time.sleep(max(0.0, self._next - time.monotonic()))
            answer = self.answer(do, **fields)
            self._next = time.monotonic() + PAUSE_S
            return None if answer.kind == "unreachable" else answer

        answer = until(answered, f"an API server that answers {do}", PATIENCE_S)
        assert answer.value is not None, answer
        return answer.value

    def records(self, name: str, **choice: Any) -> list[dict[str, Any]]:
        """The managed jobs of ours with this in their name."""
        records: list[dict[str, Any]] = self.value("queue", name_match=name, **choice)["records"]
        return records
