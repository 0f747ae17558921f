"""A SkyClient whose worker runs with a stand-in for SkyPilot's package, and what it is to answer."""

from __future__ import annotations

import json
import select
from pathlib import Path
from typing import Any

from metta_jobs.executors.sky.client import Answer, SkyClient
from tests.processes import until

FAKE = Path(__file__).parent / "fake_sky"
TASK = {"run": "echo hello", "setup": None, "envs": {"A": "1"}, "resources": {"infra": "slurm", "cpus": 1}}


class Bed:
    """A client, and the book that the stand-in answers from."""

    def __init__(self, folder: Path, python: str) -> None:
        self.folder = folder
        self.book = folder / "book.json"
        self.log = folder / "state" / "sky.log"
        self.says()
        self.client = SkyClient(lambda: python, self.log)
        self.come: dict[int, Answer] = {}

    def says(self, **how: Any) -> None:
        aside = self.book.with_suffix(".new")
        aside.write_text(json.dumps(how))
        aside.replace(self.book)

    def collect(self) -> None:
        if (fd := self.client.fileno()) is not None:
            select.select([fd], [], [], 0.05)
        for answer in self.client.answers():
            assert answer.ticket not in self.come, "a ticket is answered once"
            self.come[answer.ticket] = answer

    def answer(self, ticket: int) -> Answer:
        def found() -> Answer | None:
            self.collect()
            return self.come.get(ticket)

        return until(found, "the answer")

    def ask(self, do: str, **fields: Any) -> Answer:
        return self.answer(self.client.ask(do, **fields))

    def calls(self, what: str) -> list[dict[str, Any]]:
        path = self.folder / "calls.jsonl"
        lines = path.read_text().splitlines() if path.exists() else []
        return [call for call in map(json.loads, lines) if call["call"] == what]

    def hold(self, what: str) -> Path:
        """Have calls hang until the returned path exists."""
        self.says(**{what: {"until": str(self.folder / "go")}})
        return self.folder / "go"

    def begun(self, what: str) -> int:
        """Wait until a call hangs and the client knows of it; the worker's pid."""

        def found() -> list[dict[str, Any]]:
            self.collect()
            return self.calls(what)

        return until(found, f"the call of {what}")[-1]["pid"]
