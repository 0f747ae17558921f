"""The slots of this machine as the daemon found them: one row, for readers to tell what a pending job waits for."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from metta_jobs.store.words import to_json, to_text


@dataclass(frozen=True)
class Machine:
    """CPU slots, memory (GB), GPUs as CUDA_VISIBLE_DEVICES names them, the most jobs at a time (None: no limit).

    `busy` are GPUs that somebody else's program fills, and what is known of it. A job that has waited longer than
    `reserve_after_s` for slots has them kept free for it.
    """

    cpus: float
    memory_gb: float
    gpus: Sequence[str] = ()
    max_parallel: int | None = None
    reserve_after_s: float = 300
    busy: Mapping[str, str] = field(default_factory=dict)


def save(connection: sqlite3.Connection, now: datetime, machine: Machine) -> None:
    """Replace the row."""
    connection.execute("DELETE FROM capacity")
    connection.execute(
        "INSERT INTO capacity (id, cpus, memory_gb, gpus, busy_gpus, max_parallel, reserve_after_s, found_at) "
        "VALUES (1, ?, ?, ?, ?, ?, ?, ?)",
        (machine.cpus, machine.memory_gb, to_json(list(machine.gpus)), to_json(dict(machine.busy)))
        + (machine.max_parallel, machine.reserve_after_s, to_text(now)),
    )


def load(connection: sqlite3.Connection) -> Machine | None:
    """Return what the newest daemon found; None when none has run yet."""
    row = connection.execute("SELECT * FROM capacity").fetchone()
    if row is None:
        return None
    return Machine(
        row["cpus"],
        row["memory_gb"],
        tuple(json.loads(row["gpus"])),
        row["max_parallel"],
        row["reserve_after_s"],
        json.loads(row["busy_gpus"]),
    )
