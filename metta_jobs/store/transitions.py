"""Every change of a job's state: one guarded UPDATE and one event row, in the caller's transaction.

Each function returns whether it changed something. False means that somebody else decided first, and that is fine.
Only the daemon calls these; people leave wishes (store.wishes).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime

from sqlalchemy import Connection, insert, select, update

from metta_jobs.states import ARROWS, LIVE, JobState
from metta_jobs.store.schema import attempts, dependencies, events, jobs


def record(
    connection: Connection,
    now: datetime,
    job_id: int,
    kind: str,
    *,
    attempt: int | None = None,
    from_state: JobState | None = None,
    to_state: JobState | None = None,
    reason: str | None = None,
) -> None:
    """Append one event."""
    connection.execute(
        insert(events).values(
            at=now, job_id=job_id, attempt=attempt, kind=kind, from_state=from_state, to_state=to_state, reason=reason
        )
    )


def _move(
    connection: Connection,
    now: datetime,
    job_id: int,
    from_states: Iterable[JobState],
    to: JobState,
    *,
    attempt: int | None = None,
    reason: str | None = None,
    exit_code: int | None = None,
) -> JobState | None:
    """Move a job to `to` if it is still in one of `from_states` (and at `attempt`); return the state it left."""
    allowed = [state for state in from_states if to in ARROWS[state]]
    guard = [jobs.c.id == job_id, jobs.c.state.in_(allowed)]
    if to is JobState.LAUNCHING:
        guard.append(jobs.c.wish.is_(None))  # asked to end meanwhile
    elif attempt is not None:
        guard.append(jobs.c.attempt == attempt)
    found = connection.execute(select(jobs.c.state).where(*guard)).scalar_one_or_none()
    if found is None:
        return None
    changes = connection.execute(
        update(jobs)
        .where(*guard)
        .values(
            state=to,
            reason=reason,
            exit_code=exit_code,
            finished_at=now if to.terminal else None,
            **({"wish": None} if to.terminal or to is JobState.PENDING else {}),
            **({"attempt": attempt} if to is JobState.LAUNCHING else {}),
        )
    )
    if changes.rowcount != 1:
        return None
    left = JobState(found)
    record(connection, now, job_id, "state", attempt=attempt, from_state=left, to_state=to, reason=reason)
    return left


def claim(
    connection: Connection, now: datetime, job_id: int, executor: str, gpus: Sequence[str], cpus: float
) -> int | None:
    """PENDING → LAUNCHING with a new attempt that holds these slots; return the attempt's number, None if lost."""
    last = connection.execute(
        select(attempts.c.number).where(attempts.c.job_id == job_id).order_by(attempts.c.number.desc()).limit(1)
    ).scalar_one_or_none()
    number = (last or 0) + 1
    if _move(connection, now, job_id, [JobState.PENDING], JobState.LAUNCHING, attempt=number) is None:
        return None
    connection.execute(
        insert(attempts).values(
            job_id=job_id,
            number=number,
            state=JobState.LAUNCHING,
            executor=executor,
            gpus=list(gpus),
            cpus=cpus,
            claimed_at=now,
        )
    )
    return number


def seen_alive(connection: Connection, now: datetime, job_id: int, attempt: int) -> bool:
    """LAUNCHING → RUNNING."""
    if _move(connection, now, job_id, [JobState.LAUNCHING], JobState.RUNNING, attempt=attempt) is None:
        return False
    connection.execute(
        update(attempts)
        .where(attempts.c.job_id == job_id, attempts.c.number == attempt)
        .values(state=JobState.RUNNING, started_at=now)
    )
    return True


def finish(
    connection: Connection,
    now: datetime,
    job_id: int,
    attempt: int,
    to: JobState,
    *,
    exit_code: int | None = None,
    reason: str | None = None,
    duration_s: float | None = None,
    started_at: datetime | None = None,
) -> bool:
    """LAUNCHING | RUNNING → a terminal state, the attempt with it; its slots are free by that."""
    if _move(connection, now, job_id, LIVE, to, attempt=attempt, reason=reason, exit_code=exit_code) is None:
        return False
    values = {"state": to, "finished_at": now, "exit_code": exit_code, "reason": reason, "duration_s": duration_s}
    if started_at is not None:
        values["started_at"] = started_at
    connection.execute(
        update(attempts).where(attempts.c.job_id == job_id, attempts.c.number == attempt).values(**values)
    )
    return True


def skip(connection: Connection, now: datetime, job_id: int, reason: str) -> bool:
    """PENDING → SKIPPED."""
    return _move(connection, now, job_id, [JobState.PENDING], JobState.SKIPPED, reason=reason) is not None


def cancel(connection: Connection, now: datetime, job_id: int) -> bool:
    """PENDING → KILLED: it never started."""
    moved = _move(connection, now, job_id, [JobState.PENDING], JobState.KILLED, reason="cancelled before it started")
    return moved is not None


def retry(connection: Connection, now: datetime, job_id: int) -> bool:
    """FAILED | TIMED_OUT | KILLED | LOST | SKIPPED → PENDING; what was skipped because of it is pending again too."""
    unsuccessful = [state for state in ARROWS if state.terminal]
    if _move(connection, now, job_id, unsuccessful, JobState.PENDING, reason="to be retried") is None:
        return False
    revived = [job_id]
    while revived:
        children = connection.execute(
            select(dependencies.c.job_id)
            .join(jobs, jobs.c.id == dependencies.c.job_id)
            .where(dependencies.c.parent_id.in_(revived), jobs.c.state == JobState.SKIPPED)
        )
        revived = [
            child
            for child in set(children.scalars())
            if _move(
                connection, now, child, [JobState.SKIPPED], JobState.PENDING, reason=f"job {job_id} is tried again"
            )
        ]
    return True


def explain(connection: Connection, job_id: int, attempt: int, reason: str | None) -> None:
    """Say why a job that has not ended is where it is. Not a change of state, so no event."""
    connection.execute(
        update(jobs)
        .where(
            jobs.c.id == job_id,
            jobs.c.attempt == attempt,
            jobs.c.finished_at.is_(None),
            jobs.c.reason.is_distinct_from(reason),
        )
        .values(reason=reason)
    )
