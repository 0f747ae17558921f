"""What people wish of jobs: written by anyone, fulfilled by the daemon, which alone changes states."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import Connection, func, select, update

from metta_jobs.states import TERMINAL, UNSUCCESSFUL
from metta_jobs.store.schema import FORCE_KILL, KILL, RETRY, jobs
from metta_jobs.store.transitions import record


def wish_kill(connection: Connection, now: datetime, job_ids: Sequence[int], *, force: bool = False) -> list[int]:
    """Ask for the end of these jobs; return those that had not ended. A retry asked for before is taken back."""
    connection.execute(update(jobs).where(jobs.c.id.in_(job_ids), jobs.c.wish == RETRY).values(wish=None))
    open_ = jobs.c.state.not_in(TERMINAL)
    if force:
        return _wish(connection, now, job_ids, FORCE_KILL, open_)
    harder = connection.execute(select(jobs.c.id).where(jobs.c.id.in_(job_ids), open_, jobs.c.wish == FORCE_KILL))
    stays = list(harder.scalars())  # asked to end at once before: that holds
    return sorted([*stays, *_wish(connection, now, [job for job in job_ids if job not in stays], KILL, open_)])


def wish_retry(connection: Connection, now: datetime, job_ids: Sequence[int]) -> list[int]:
    """Ask for a new attempt of these jobs; return those that had ended without success."""
    return _wish(connection, now, job_ids, RETRY, jobs.c.state.in_(UNSUCCESSFUL))


def _wish(connection: Connection, now: datetime, job_ids: Sequence[int], wish: str, guard: object) -> list[int]:
    statement = update(jobs).where(jobs.c.id.in_(job_ids), guard).values(wish=wish).returning(jobs.c.id)  # type: ignore[arg-type]
    changed = sorted(connection.execute(statement).scalars())
    for job_id in changed:
        record(connection, now, job_id, "wish", reason=wish)
    return changed


def open_wishes(connection: Connection) -> list[tuple[int, str, str]]:
    """Return (job id, state, wish) of every job that has one."""
    rows = connection.execute(select(jobs.c.id, jobs.c.state, jobs.c.wish).where(jobs.c.wish.is_not(None)))
    return [(row.id, row.state, row.wish) for row in rows]


def count_open(connection: Connection, job_ids: Sequence[int]) -> int:
    """How many of these jobs have a wish that the daemon has not fulfilled yet."""
    statement = select(func.count()).where(jobs.c.id.in_(job_ids), jobs.c.wish.is_not(None))
    return int(connection.execute(statement).scalar_one())


def drop(connection: Connection, job_id: int, wish: str) -> None:
    """Forget a wish that has nothing left to act on."""
    connection.execute(update(jobs).where(jobs.c.id == job_id, jobs.c.wish == wish).values(wish=None))
