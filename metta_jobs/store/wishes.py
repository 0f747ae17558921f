"""What people wish of jobs: written by anyone, fulfilled by the daemon, which alone changes states."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from datetime import datetime

from metta_jobs.store.transitions import record
from metta_jobs.store.words import FORCE_KILL, KILL, RETRY, to_json

_THESE = "id IN (SELECT value FROM json_each(?))"


def wish_kill(
    connection: sqlite3.Connection, now: datetime, job_ids: Sequence[int], *, force: bool = False
) -> list[int]:
    """Ask for the end of these jobs; return those that had not ended. A retry asked for before is taken back."""
    ids = to_json(list(job_ids))
    connection.execute(f"UPDATE jobs SET wish = NULL WHERE {_THESE} AND wish = ?", (ids, RETRY))
    rows = connection.execute(f"SELECT id, wish FROM jobs WHERE {_THESE} AND finished_at IS NULL", (ids,)).fetchall()
    # Asked to end at once before: that holds.
    changed = [row["id"] for row in rows if force or row["wish"] != FORCE_KILL]
    _wish(connection, now, changed, FORCE_KILL if force else KILL)
    return [row["id"] for row in rows]


def wish_retry(connection: sqlite3.Connection, now: datetime, job_ids: Sequence[int]) -> list[int]:
    """Ask for a new attempt of these jobs; return those that had ended without success."""
    rows = connection.execute(
        f"SELECT id FROM jobs WHERE {_THESE} AND finished_at IS NOT NULL AND state <> 'succeeded'",
        (to_json(list(job_ids)),),
    )
    changed = [row["id"] for row in rows]
    _wish(connection, now, changed, RETRY)
    return changed


def _wish(connection: sqlite3.Connection, now: datetime, job_ids: Sequence[int], wish: str) -> None:
    connection.execute(f"UPDATE jobs SET wish = ? WHERE {_THESE}", (wish, to_json(list(job_ids))))
    record(connection, now, job_ids, "wish", reason=wish)


def open_wishes(connection: sqlite3.Connection) -> list[tuple[int, str, str]]:
    """Return (job id, state, wish) of every job that has one."""
    rows = connection.execute("SELECT id, state, wish FROM jobs WHERE wish IS NOT NULL")
    return sorted((row["id"], row["state"], row["wish"]) for row in rows)


def count_open(connection: sqlite3.Connection, job_ids: Sequence[int]) -> int:
    """How many of these jobs have a wish that the daemon has not fulfilled yet."""
    statement = f"SELECT count(*) FROM jobs WHERE {_THESE} AND wish IS NOT NULL"
    return int(connection.execute(statement, (to_json(list(job_ids)),)).fetchone()[0])


def drop(connection: sqlite3.Connection, job_id: int, wish: str) -> None:
    """Forget a wish that has nothing left to act on."""
    connection.execute("UPDATE jobs SET wish = NULL WHERE id = ? AND wish = ?", (job_id, wish))
