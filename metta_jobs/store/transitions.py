"""Every change of a job's state: one guarded UPDATE and one event row, in the caller's transaction.

Each function takes many jobs at once and returns those that it has changed. One that is missing there was decided by
somebody else first, and that is fine. Only the daemon calls these; people leave wishes (store.wishes).
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from metta_jobs.states import ARROWS, LIVE, UNSUCCESSFUL, JobState
from metta_jobs.store import outbox, release
from metta_jobs.store.words import AGAIN, KILL_BECAUSE, RESTART, to_json, to_text


@dataclass(frozen=True)
class Start:
    """A pending job that is to get an attempt, and the slots that the attempt holds; in a lane they are held once."""

    job_id: int
    executor: str
    lane: str
    gpus: Sequence[str] = ()
    gpu_share: float = 1
    cpus: float = 1
    memory_gb: float = 0


@dataclass(frozen=True)
class End:
    """How an attempt has ended; with `again_s`, the job is pending again and waits for so many seconds. `left` counts
    the processes that its command left running when it ended by itself."""

    job_id: int
    attempt: int
    state: JobState
    exit_code: int | None = None
    reason: str | None = None
    duration_s: float | None = None
    again_s: float | None = None
    left: int = 0


@dataclass(frozen=True)
class _Move:
    job_id: int
    to: JobState
    attempt: int | None = None
    reason: str | None = None
    exit_code: int | None = None


def record(
    connection: sqlite3.Connection,
    now: datetime,
    job_ids: Sequence[int],
    kind: str,
    *,
    attempt: int | None = None,
    reason: str | None = None,
) -> None:
    """Append an event that is no change of state, for each of these jobs."""
    connection.execute(
        "INSERT INTO events (at, group_id, job_id, attempt, kind, reason) "
        "SELECT ?, group_id, id, ?, ?, ? FROM jobs WHERE id IN (SELECT value FROM json_each(?)) ORDER BY id",
        (to_text(now), attempt, kind, reason, to_json(list(job_ids))),
    )


def _move(
    connection: sqlite3.Connection, now: datetime, moves: Sequence[_Move], allowed: Iterable[JobState]
) -> dict[int, _Move]:
    """Move jobs that are in one of the `allowed` states, and at the attempt that is named; return those moved."""
    at, from_states = to_text(now), frozenset(allowed)
    stored = {
        row["id"]: row
        for row in connection.execute(
            "SELECT id, group_id, state, attempt, wish FROM jobs WHERE id IN (SELECT value FROM json_each(?))",
            (to_json([move.job_id for move in moves]),),
        )
    }
    done: dict[int, _Move] = {}
    for move in moves:
        row = stored.get(move.job_id)
        if row is None or move.job_id in done:
            continue
        state = JobState(row["state"])
        starting = move.to is JobState.LAUNCHING
        same = move.attempt is None or row["attempt"] == (move.attempt - 1 if starting else move.attempt)
        asked_to_end = starting and row["wish"] is not None
        if state in from_states and move.to in ARROWS[state] and same and not asked_to_end:
            done[move.job_id] = move
    connection.executemany(
        "UPDATE jobs SET state = ?1, reason = ?2, exit_code = ?3, finished_at = ?4, attempt = coalesce(?5, attempt), "
        "wish = CASE WHEN ?4 IS NOT NULL OR ?1 = 'pending' THEN NULL ELSE wish END, "
        "blocked_by = NULL WHERE id = ?6 AND state = ?7",
        [
            (
                move.to.value,
                move.reason,
                move.exit_code,
                at if move.to.terminal else None,
                move.attempt if move.to is JobState.LAUNCHING else None,
                job_id,
                stored[job_id]["state"],
            )
            for job_id, move in done.items()
        ],
    )
    connection.executemany(
        "INSERT INTO events (at, group_id, job_id, attempt, kind, from_state, to_state, reason) "
        "VALUES (?, ?, ?, ?, 'state', ?, ?, ?)",
        [
            (at, row["group_id"], job_id, move.attempt, row["state"], move.to.value, move.reason)
            for job_id, move in done.items()
            if (row := stored[job_id])
        ],
    )
    return done


def claim(connection: sqlite3.Connection, now: datetime, starts: Sequence[Start], boot: str) -> dict[int, int]:
    """PENDING → LAUNCHING with a new attempt that holds these slots; return job → number of the attempt."""
    numbers = {
        row["id"]: row["attempt"] + 1
        for row in connection.execute(
            "SELECT id, attempt FROM jobs WHERE id IN (SELECT value FROM json_each(?)) AND blocked_by IS NULL",
            (to_json([start.job_id for start in starts]),),
        )
    }
    moves = [_Move(job_id, JobState.LAUNCHING, number) for job_id, number in numbers.items()]
    done = _move(connection, now, moves, [JobState.PENDING])
    connection.executemany(
        "INSERT INTO attempts (job_id, number, state, executor, lane, boot, gpus, gpu_share, cpus, memory_gb, "
        "claimed_at) VALUES (?, ?, 'launching', ?, ?, ?, ?, ?, ?, ?, ?)",
        [
            (s.job_id, numbers[s.job_id], s.executor, s.lane, boot, to_json(list(s.gpus)), s.gpu_share)
            + (s.cpus, s.memory_gb, to_text(now))
            for s in starts
            if s.job_id in done
        ],
    )
    return {job_id: numbers[job_id] for job_id in done}


def withdraw(connection: sqlite3.Connection, now: datetime, job_id: int, attempt: int, reason: str) -> bool:
    """LAUNCHING → PENDING: it was taken back before it started, so the attempt has never been."""
    if not _move(connection, now, [_Move(job_id, JobState.PENDING, attempt, reason)], [JobState.LAUNCHING]):
        return False
    connection.execute("DELETE FROM attempts WHERE job_id = ? AND number = ?", (job_id, attempt))
    connection.execute("UPDATE jobs SET attempt = attempt - 1, reason = NULL WHERE id = ?", (job_id,))
    return True


def seen_alive(connection: sqlite3.Connection, now: datetime, keys: Sequence[tuple[int, int]]) -> list[int]:
    """LAUNCHING → RUNNING."""
    moves = [_Move(job_id, JobState.RUNNING, attempt) for job_id, attempt in keys]
    done = _move(connection, now, moves, [JobState.LAUNCHING])
    connection.executemany(
        "UPDATE attempts SET state = 'running', started_at = ? WHERE job_id = ? AND number = ?",
        [(to_text(now), job_id, move.attempt) for job_id, move in done.items()],
    )
    return list(done)


def finish(connection: sqlite3.Connection, now: datetime, ends: Sequence[End]) -> list[int]:
    """LAUNCHING | RUNNING → a terminal state, the attempt with it; its slots are free by that.

    Jobs that are to be tried again are pending when this returns; what depends on the others follows at once.
    """
    ends = [replace(e, reason=_who_asked(connection, e)) if e.state is JobState.KILLED else e for e in ends]
    moves = [_Move(e.job_id, e.state, e.attempt, e.reason, e.exit_code) for e in ends]
    done = _move(connection, now, moves, LIVE)
    ended = [end for end in ends if end.job_id in done]
    connection.executemany(
        "UPDATE attempts SET state = ?, finished_at = ?, exit_code = ?, reason = ?, duration_s = ?, "
        "started_at = coalesce(started_at, ?) WHERE job_id = ? AND number = ?",
        [
            (e.state.value, to_text(now), e.exit_code, e.reason, e.duration_s, _started(now, e), e.job_id, e.attempt)
            for e in ended
        ],
    )
    for end in ended:
        if end.left:
            said = f"its command ended and left {end.left} process{'es' if end.left > 1 else ''} running: ended, too"
            record(connection, now, [end.job_id], "note", attempt=end.attempt, reason=said)
    again = [end for end in ended if end.again_s is not None]
    _again(connection, now, again)
    follow(connection, now, [end.job_id for end in ended if end.again_s is None])
    return list(done)


def _who_asked(connection: sqlite3.Connection, end: End) -> str | None:
    """Why it was to end: where that was not a person's wish, the wish says so."""
    row = connection.execute(
        "SELECT reason FROM events WHERE job_id = ? AND kind = 'wish' ORDER BY id DESC LIMIT 1", (end.job_id,)
    ).fetchone()
    said = (row["reason"] or "") if row else ""
    for begins in (KILL_BECAUSE, RESTART):
        if said.startswith(begins):
            return said.removeprefix(begins)
    return end.reason


def _started(now: datetime, end: End) -> str | None:
    return None if end.duration_s is None else to_text(now - timedelta(seconds=end.duration_s))


def _again(connection: sqlite3.Connection, now: datetime, ends: Sequence[End]) -> None:
    moves = [_Move(e.job_id, JobState.PENDING, e.attempt, f"{AGAIN}{e.reason}") for e in ends]
    _move(connection, now, moves, UNSUCCESSFUL)
    connection.executemany(
        "UPDATE jobs SET not_before = ?, ready_at = ? WHERE id = ?",
        [(to_text(now + timedelta(seconds=e.again_s or 0)), to_text(now), e.job_id) for e in ends],
    )


def skip(connection: sqlite3.Connection, now: datetime, reasons: dict[int, str]) -> list[int]:
    """PENDING → SKIPPED, and what depends on them follows."""
    done = _move(
        connection, now, [_Move(i, JobState.SKIPPED, None, why) for i, why in reasons.items()], [JobState.PENDING]
    )
    follow(connection, now, list(done))
    return list(done)


def cancel(connection: sqlite3.Connection, now: datetime, job_ids: Sequence[int]) -> list[int]:
    """PENDING → KILLED: they never started."""
    why = "cancelled before it started"
    done = _move(connection, now, [_Move(i, JobState.KILLED, None, why) for i in job_ids], [JobState.PENDING])
    follow(connection, now, list(done))
    return list(done)


def give_up_waiting(connection: sqlite3.Connection, now: datetime, reasons: dict[int, str]) -> list[int]:
    """PENDING → TIMED_OUT: they have waited for slots longer than they may."""
    moves = [_Move(i, JobState.TIMED_OUT, None, why) for i, why in reasons.items()]
    done = _move(connection, now, moves, [JobState.PENDING])
    follow(connection, now, list(done))
    return list(done)


def follow(connection: sqlite3.Connection, now: datetime, ended: Sequence[int]) -> None:
    """Let everything follow that follows from these ends: jobs that can start, that never will, limits, messages."""
    while ended:
        outbox.note_job_ends(connection, now, ended)
        doomed = {**release.doomed_by(connection, ended), **_stopped_groups(connection, now, ended)}
        waiting = [job for job in release.waiting_for(connection, ended) if job not in doomed]
        if waiting:
            release.block(connection, now, waiting)
            doomed |= release.vain_among(connection, waiting)
        moves = [_Move(job_id, JobState.SKIPPED, None, why) for job_id, why in doomed.items()]
        ended = list(_move(connection, now, moves, [JobState.PENDING])) if moves else []


def failures_of(connection: sqlite3.Connection, group_id: int) -> int:
    """How many jobs of a group have failed, timed out or were lost: what max_failures limits."""
    statement = "SELECT count(*) FROM jobs WHERE group_id = ? AND state IN ('failed', 'timed_out', 'lost')"
    return int(connection.execute(statement, (group_id,)).fetchone()[0])


def _stopped_groups(connection: sqlite3.Connection, now: datetime, ended: Sequence[int]) -> dict[int, str]:
    """Groups with too many failures: the live are to be killed; return the pending ones, to be skipped, and why."""
    pending: dict[int, str] = {}
    for row in connection.execute(
        "SELECT id, name, max_failures FROM groups WHERE max_failures IS NOT NULL AND id IN "
        "(SELECT group_id FROM jobs WHERE id IN (SELECT value FROM json_each(?)))",
        (to_json(list(ended)),),
    ).fetchall():
        if (failures := failures_of(connection, row["id"])) < row["max_failures"]:
            continue
        why = f"the group was stopped after {failures} failure{'s' if failures > 1 else ''} (max_failures)"
        rest = connection.execute(
            "SELECT id, state FROM jobs WHERE group_id = ? AND finished_at IS NULL AND wish IS NULL "
            "AND json_extract(config, '$.kind') = 'run'",
            (row["id"],),
        ).fetchall()
        pending |= {job["id"]: why for job in rest if job["state"] == "pending"}
        live = [job["id"] for job in rest if job["state"] != "pending"]
        connection.executemany("UPDATE jobs SET wish = 'kill' WHERE id = ?", [(job_id,) for job_id in live])
        record(connection, now, live, "wish", reason=f"{KILL_BECAUSE}{why}")
    return pending


def retry(connection: sqlite3.Connection, now: datetime, job_ids: Sequence[int]) -> list[int]:
    """FAILED | TIMED_OUT | KILLED | LOST | SKIPPED → PENDING; what was skipped because of them is pending again too."""
    moves = [_Move(job_id, JobState.PENDING, None, "to be retried") for job_id in job_ids]
    done = list(_move(connection, now, moves, UNSUCCESSFUL))
    all_of_them, revived = set(done), done
    while revived:
        moves = [
            _Move(child, JobState.PENDING, None, "what it depends on is tried again")
            for child in release.children(connection, revived, JobState.SKIPPED)
        ]
        revived = list(_move(connection, now, moves, [JobState.SKIPPED]))
        all_of_them |= set(revived)
    connection.execute(
        "UPDATE jobs SET attempts_before = attempt, not_before = NULL, ready_at = NULL "
        "WHERE id IN (SELECT value FROM json_each(?))",
        (to_json(sorted(all_of_them)),),
    )
    # Whoever waits already for one of them, or is pending again itself, has something else to wait for now.
    release.block(connection, now, all_of_them | set(release.children(connection, [*all_of_them], JobState.PENDING)))
    skip(connection, now, release.doomed_among(connection, all_of_them))
    return done


def catch_up(connection: sqlite3.Connection, now: datetime) -> None:
    """Work out anew what each pending job waits for: after a migration or a repair nobody may have done so."""
    rows = connection.execute(
        "SELECT DISTINCT d.job_id FROM dependencies AS d JOIN jobs AS j ON j.id = d.job_id "
        "WHERE j.finished_at IS NULL AND j.state = 'pending'"
    )
    if ids := [row["job_id"] for row in rows]:
        release.block(connection, now, ids)
        skip(connection, now, release.doomed_among(connection, ids))


def know(connection: sqlite3.Connection, now: datetime, facts: Mapping[tuple[int, int], Mapping[str, Any]]) -> None:
    """Keep what has become known of attempts that run elsewhere; a recovery after a preemption is an event."""
    for (job_id, attempt), new in facts.items():
        row = connection.execute(
            "SELECT json_extract(remote, '$.recoveries') FROM attempts WHERE job_id = ? AND number = ?",
            (job_id, attempt),
        ).fetchone()
        if row is not None and (times := new.get("recoveries") or 0) > (row[0] or 0):
            said = f"SkyPilot found new machines for it (recovery {times})"
            record(connection, now, [job_id], "note", attempt=attempt, reason=said)
    connection.executemany(
        "UPDATE attempts SET remote = json_patch(coalesce(remote, '{}'), ?) WHERE job_id = ? AND number = ?",
        [(to_json(dict(new)), job_id, attempt) for (job_id, attempt), new in facts.items()],
    )


def explain(connection: sqlite3.Connection, reasons: dict[tuple[int, int], str | None]) -> None:
    """Say why live attempts are where they are. Not a change of state, so no event."""
    connection.executemany(
        "UPDATE jobs SET reason = ?1 WHERE id = ?2 AND attempt = ?3 AND finished_at IS NULL AND reason IS NOT ?1",
        [(why, job_id, attempt) for (job_id, attempt), why in reasons.items()],
    )
