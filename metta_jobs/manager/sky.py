"""SkyPilot asked in the foreground, by people who wait for the answer: before an experiment, and about orphans."""

from __future__ import annotations

import select
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from metta_jobs.errors import MettaError
from metta_jobs.executors.sky.client import SkyClient
from metta_jobs.executors.sky.python import find_python
from metta_jobs.settings import Settings


class SkyError(MettaError):
    """SkyPilot could not be asked, or refused; `kind` as in the client's Answer, or "late" when none came in time."""

    def __init__(self, message: str, kind: str | None = None) -> None:
        super().__init__(message)
        self.kind = kind


class Sky:
    """A worker of our own, for as long as the `with` block lasts. Its start takes about five seconds."""

    def __init__(self, state_dir: Path, project: Path, log_path: Path | None = None) -> None:
        python = find_python(Settings.load(project).sky_python)
        self._client = SkyClient(lambda: python, log_path or state_dir / "sky-asked.log")

    def __enter__(self) -> Sky:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._client.close()

    def ask(self, do: str, *, timeout_s: float = 120, **fields: Any) -> Mapping[str, Any]:
        """Ask and wait. Raises SkyError."""
        ticket = self._client.ask(do, **fields)
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            if (value := self._answer(ticket)) is not None:
                return value
            descriptor = self._client.fileno()
            select.select([] if descriptor is None else [descriptor], [], [], 0.2)
        raise SkyError(f"SkyPilot has not answered in {timeout_s:.0f} s. `sky api status` tells more.", "late")

    def _answer(self, ticket: int) -> Mapping[str, Any] | None:
        for answer in self._client.answers():
            if answer.ticket == ticket:
                if answer.value is None:
                    raise SkyError(f"SkyPilot: {answer.error}.".replace("..", "."), answer.kind)
                return answer.value
        return None

    def follow(self, managed_id: int, path: Path, tail: int | None) -> Callable[[], bool]:
        """Have a managed job's log written to `path` as it grows; what is returned says whether it has ended.

        That raises SkyError when the stream breaks off.
        """
        ticket = self._client.ask("follow", job_id=managed_id, path=str(path), tail=tail)
        return lambda: self._answer(ticket) is not None
