"""The slots of this machine as the daemon found them: one row, for readers to tell what a pending job waits for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, delete, insert, select

from metta_jobs.store.schema import capacity


@dataclass(frozen=True)
class StoredCapacity:
    """CPU slots, GPUs as CUDA_VISIBLE_DEVICES names them, and the most jobs at a time (None: no limit)."""

    cpus: float
    gpus: tuple[str, ...]
    max_parallel: int | None


def save(connection: Connection, now: datetime, cpus: float, gpus: Sequence[str], max_parallel: int | None) -> None:
    """Replace the row."""
    connection.execute(delete(capacity))
    connection.execute(
        insert(capacity).values(id=1, cpus=cpus, gpus=list(gpus), max_parallel=max_parallel, found_at=now)
    )


def load(connection: Connection) -> StoredCapacity | None:
    """Return what the newest daemon found; None when none has run yet."""
    row = connection.execute(select(capacity)).one_or_none()
    return None if row is None else StoredCapacity(row.cpus, tuple(row.gpus), row.max_parallel)
