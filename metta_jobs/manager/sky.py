"""SkyPilot asked in the foreground, by people who wait for the answer: before an experiment, and about orphans."""

from __future__ import annotations

import select
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from metta_jobs.errors import MettaError
from metta_jobs.executors.sky import statuses
from metta_jobs.executors.sky.client import SkyClient
from metta_jobs.executors.sky.ledger import key_of, project_id
from metta_jobs.executors.sky.python import find_python
from metta_jobs.paths import StateDir
from metta_jobs.settings import Settings


class SkyError(MettaError):
    """SkyPilot could not be asked, or refused; `kind` as in the client's Answer, or "late" when none came in time."""

    def __init__(self, message: str, kind: str | None = None) -> None:
        super().__init__(message)
        self.kind = kind


@dataclass(frozen=True)
class Orphan:
    """A managed job of this queue's naming that no live attempt owns: nobody here would ever end it."""

    managed_id: int
    name: str
    status: str
    job_id: int
    attempt: int
    infra: str | None

    def to_dict(self) -> dict[str, Any]:
        """The stable JSON form."""
        return dict(vars(self))


class Sky:
    """A worker of our own, for as long as the `with` block lasts. Its start takes about five seconds."""

    def __init__(self, state_dir: Path, project: Path, log_path: Path | None = None) -> None:
        python = find_python(Settings.load(project).sky_python)
        self._state_dir = StateDir(state_dir)
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
            for answer in self._client.answers():
                if answer.ticket == ticket:
                    if answer.value is None:
                        raise SkyError(f"SkyPilot: {answer.error}.".replace("..", "."), answer.kind)
                    return answer.value
            descriptor = self._client.fileno()
            select.select([] if descriptor is None else [descriptor], [], [], 0.2)
        raise SkyError(f"SkyPilot has not answered in {timeout_s:.0f} s. `sky api status` tells more.", "late")

    def orphans(self, owned: set[tuple[int, int]]) -> list[Orphan]:
        """Managed jobs that carry this queue's naming, have not ended, and are none of the live attempts `owned`."""
        project = project_id(self._state_dir)
        value = self.ask("queue", name_match=f"metta-{project}-", skip_finished=True)
        found = []
        for seen in filter(None, map(statuses.read, value["records"])):
            key = key_of(project, seen.name)
            if key is not None and key not in owned and not seen.terminal:
                found.append(Orphan(seen.managed_id, seen.name or "", seen.status, *key, seen.infra))
        return sorted(found, key=lambda orphan: orphan.managed_id)

    def cancel(self, orphans: list[Orphan]) -> None:
        """Have them cancelled. Raises SkyError."""
        if orphans:
            self.ask("cancel", job_ids=[orphan.managed_id for orphan in orphans])
