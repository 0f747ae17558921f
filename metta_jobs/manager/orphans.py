"""Managed jobs of this queue's naming that nobody here looks after: found, cancelled, or taken back."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from metta_jobs.errors import InvalidInput
from metta_jobs.executors.sky import statuses
from metta_jobs.executors.sky.ledger import Ledger, key_of, project_id
from metta_jobs.job import JobConfig
from metta_jobs.manager.sky import Sky
from metta_jobs.paths import StateDir
from metta_jobs.remote import Adopted
from metta_jobs.views import JobView


@dataclass(frozen=True)
class Orphan:
    """A managed job of this queue's naming that no live attempt owns: nobody here would ever end it. `job_id` and
    `attempt` are those that its name tells."""

    managed_id: int
    name: str
    status: str
    job_id: int
    attempt: int
    infra: str | None

    def to_dict(self) -> dict[str, Any]:
        """The stable JSON form."""
        return dict(vars(self))


def find(sky: Sky, state_dir: Path, keys: Collection[tuple[int, int]], managed_ids: Collection[int]) -> list[Orphan]:
    """Managed jobs that carry this queue's naming, have not ended, and are owned by none of the live attempts: neither
    by (job id, attempt), nor by SkyPilot's id. Raises SkyError."""
    project = project_id(StateDir(state_dir))
    value = sky.ask("queue", name_match=f"metta-{project}-", skip_finished=True)
    found = []
    for seen in filter(None, map(statuses.read, value["records"])):
        key = key_of(project, seen.name)
        if key is not None and key not in keys and seen.managed_id not in managed_ids and not seen.terminal:
            found.append(Orphan(seen.managed_id, seen.name or "", seen.status, *key, seen.infra))
    return sorted(found, key=lambda orphan: orphan.managed_id)


def cancel(sky: Sky, orphans: Sequence[Orphan]) -> None:
    """Have them cancelled. Raises SkyError."""
    if orphans:
        sky.ask("cancel", job_ids=[orphan.managed_id for orphan in orphans])


def taken_back(orphan: Orphan, job: JobView, config: JobConfig, state_dir: Path) -> JobConfig:
    """The configuration with which the job's next attempt is the orphan. Raises InvalidInput where it cannot be."""
    if not job.state.terminal or job.state.value == "succeeded":
        raise InvalidInput(
            f"Managed job {orphan.managed_id} cannot be taken back: its job {job.id} ({job.group}/{job.name}) is "
            f"{job.state.value}."
        )
    if config.remote is None:
        raise InvalidInput(
            f"Managed job {orphan.managed_id} cannot be taken back: job {job.id} ({job.group}/{job.name}) runs here."
        )
    try:
        ledger = Ledger.load(StateDir(state_dir).attempt(orphan.job_id, orphan.attempt))
    except (OSError, ValueError):
        ledger = None  # its evidence cannot be told from other lines then, and SkyPilot's word is all there is
    token = ledger.token if ledger is not None and ledger.name == orphan.name else ""
    adopted = Adopted(attempt=job.attempt + 1, managed_id=orphan.managed_id, name=orphan.name, token=token)
    return config.model_copy(update={"remote": config.remote.model_copy(update={"adopted": adopted})})
