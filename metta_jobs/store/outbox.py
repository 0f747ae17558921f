"""Messages of hooks: stored in the transaction that ends the job, so none is lost; tried until delivered or given up.

A message can be delivered twice (the daemon dies after delivering it and before recording that), never not at all
without an event that says so.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from metta_jobs.states import FAILURES, TERMINAL, JobState
from metta_jobs.store.words import DeliveryState, to_json, to_text
from metta_jobs.views import hook_words

#: Pauses between tries (seconds); after one try more than there are pauses, a message is given up.
PAUSES_S = (5.0, 30.0, 120.0, 600.0)
#: So many failures a digest tells by name.
TOLD_FAILURES = 10
_LONGEST_ERROR = 500

_TELLING = """
SELECT j.id, j.group_id, json_array_length(j.config, '$.on_end') > 0 AS own, g.on_end <> '[]' AS of_group
FROM json_each(?) AS e JOIN jobs AS j ON j.id = e.value JOIN groups AS g ON g.id = j.group_id
WHERE own OR of_group
"""

# The duration is that of the attempt that has ended now, if any: a job cancelled before it was tried again has none.
_JOBS = """
SELECT j.id, j.group_id, g.name AS group_name, j.name, j.state, j.exit_code, j.reason, j.attempt, a.duration_s,
    json_extract(j.config, '$.on_end') AS hooks
FROM json_each(?) AS e JOIN jobs AS j ON j.id = e.value JOIN groups AS g ON g.id = j.group_id
LEFT JOIN attempts AS a ON a.job_id = j.id AND a.number = j.attempt AND a.state = j.state
    AND a.finished_at = j.finished_at
ORDER BY j.id
"""

_ENDED_GROUPS = """
SELECT g.id, g.name, g.on_end,
    (SELECT created_at FROM jobs WHERE id = (SELECT min(id) FROM jobs WHERE group_id = g.id)) AS began
FROM json_each(?) AS e JOIN groups AS g ON g.id = e.value
WHERE NOT EXISTS (SELECT 1 FROM jobs WHERE group_id = g.id AND state IN ('pending', 'launching', 'running'))
ORDER BY g.id
"""

# What was there for a failure that did not happen has not been missed.
_MISSED = """
SELECT 1 FROM jobs AS j WHERE j.group_id = ? AND j.state IN ('killed', 'skipped') AND NOT (
    j.state = 'skipped' AND EXISTS (
        SELECT 1 FROM dependencies AS d JOIN jobs AS p ON p.id = d.parent_id
        WHERE d.job_id = j.id AND d.kind = 'afternotok' AND p.state = 'succeeded'))
LIMIT 1
"""

# The oldest of each hook. A moment further ahead than the longest pause was written under another clock.
_DUE = """
SELECT d.id, d.hook, d.facts, d.tries, coalesce(j.environment, '') AS environment
FROM deliveries AS d
LEFT JOIN jobs AS j ON j.id = coalesce(d.job_id, (SELECT max(id) FROM jobs WHERE group_id = d.group_id))
WHERE d.id IN (
    SELECT min(id) FROM deliveries WHERE state = 'waiting' AND finished_at IS NULL
        AND (not_before IS NULL OR not_before <= :now OR not_before > :horizon)
    GROUP BY hook ORDER BY min(id) LIMIT :limit)
ORDER BY d.id
"""


@dataclass(frozen=True)
class Delivery:
    """A message that is due. `hook` is JSON; `environment` names that of the job, or of the group's newest job."""

    delivery_id: int
    hook: str
    facts: Mapping[str, Any]
    tries: int
    environment: str


@dataclass(frozen=True)
class Tried:
    """How a try to deliver has ended: well, or with an error; `final` says that no other try could do better.

    `wait_s` is for how long the receiver asked to be left alone (seconds).
    """

    delivery_id: int
    error: str | None = None
    final: bool = False
    wait_s: float = 0


def note_job_ends(connection: sqlite3.Connection, now: datetime, ended: Sequence[int]) -> None:
    """Store the messages that are due because these jobs have ended, and their groups with them.

    To be called once for each end, in its transaction, when all that end together have ended; not for jobs that are
    tried again. A group has ended when it has no job left to run; it tells so again when it was added to or retried.
    """
    telling = connection.execute(_TELLING, (to_json(list(ended)),)).fetchall()
    if own := [row["id"] for row in telling if row["own"]]:
        _tell_of_jobs(connection, now, own)
    if groups := {row["group_id"] for row in telling if row["of_group"]}:
        _tell_of_groups(connection, now, sorted(groups))


def _tell_of_jobs(connection: sqlite3.Connection, now: datetime, job_ids: Sequence[int]) -> None:
    for row in connection.execute(_JOBS, (to_json(job_ids),)).fetchall():
        facts = {
            "event": "job_ended",
            "group": row["group_name"],
            "job_id": row["id"],
            "name": row["name"],
            "state": row["state"],
            "outcome": _outcome(JobState(row["state"])),
            "exit_code": row["exit_code"],
            "reason": row["reason"],
            "attempt": row["attempt"],
            "duration_s": row["duration_s"],
        }
        _put(connection, now, row["group_id"], row["id"], json.loads(row["hooks"]), facts)


def tell_of_health(connection: sqlite3.Connection, now: datetime, job_id: int, attempt: int, said: str) -> int:
    """Store the messages to those who are told of the group's end that a rule has found something wrong with a running
    job; return how many."""
    row = connection.execute(
        "SELECT j.group_id, g.name AS group_name, j.name, j.state, g.on_end FROM jobs AS j "
        "JOIN groups AS g ON g.id = j.group_id WHERE j.id = ?",
        (job_id,),
    ).fetchone()
    facts = {
        "event": "job_health",
        "group": row["group_name"],
        "job_id": job_id,
        "name": row["name"],
        "state": row["state"],
        "outcome": "failure",
        "reason": said,
        "attempt": attempt,
        "duration_s": None,
    }
    hooks = [hook for hook in json.loads(row["on_end"]) if hook.get("on", "any") != "success"]
    _put(connection, now, row["group_id"], job_id, hooks, facts)
    return len(hooks)


def _outcome(state: JobState) -> str:
    """What the `on` of a hook calls this end; what a person ended, or what never ran, is neither."""
    if state in FAILURES:
        return "failure"
    return "success" if state is JobState.SUCCEEDED else "other"


def _tell_of_groups(connection: sqlite3.Connection, now: datetime, group_ids: Sequence[int]) -> None:
    for row in connection.execute(_ENDED_GROUPS, (to_json(group_ids),)).fetchall():
        counts = _counts(connection, row["id"])
        failed = sum(counts[state] for state in FAILURES)
        missed = connection.execute(_MISSED, (row["id"],)).fetchone() is not None
        state = JobState.FAILED if failed else JobState.KILLED if missed else JobState.SUCCEEDED
        if missed and not counts[JobState.KILLED] and not failed:
            state = JobState.SKIPPED
        facts = {
            "event": "group_ended",
            "group": row["name"],
            "state": state.value,
            "outcome": _outcome(state),
            "counts": {state.value: counts[state] for state in counts},
            "failures": _failures(connection, row["id"]) if failed else [],
            "duration_s": max(0.0, (now - datetime.fromisoformat(row["began"])).total_seconds()),
        }
        _put(connection, now, row["id"], None, json.loads(row["on_end"]), facts)


def _counts(connection: sqlite3.Connection, group_id: int) -> dict[JobState, int]:
    rows = connection.execute("SELECT state, count(*) FROM jobs WHERE group_id = ? GROUP BY state", (group_id,))
    found = {JobState(state): int(count) for state, count in rows}
    return {state: found.get(state, 0) for state in JobState if state in TERMINAL}


def _failures(connection: sqlite3.Connection, group_id: int) -> list[dict[str, Any]]:
    """The first that failed."""
    rows = connection.execute(
        "SELECT id, name, state, exit_code, reason FROM jobs WHERE group_id = ? "
        "AND state IN ('failed', 'timed_out', 'lost') ORDER BY finished_at, id LIMIT ?",
        (group_id, TOLD_FAILURES),
    )
    return [
        {
            "job_id": row["id"],
            "name": row["name"],
            "state": row["state"],
            "exit_code": row["exit_code"],
            "reason": row["reason"],
        }
        for row in rows
    ]


def _put(
    connection: sqlite3.Connection,
    now: datetime,
    group_id: int,
    job_id: int | None,
    hooks: Iterable[Mapping[str, Any]],
    facts: Mapping[str, Any],
) -> None:
    told = to_json(facts)
    connection.executemany(
        "INSERT INTO deliveries (group_id, job_id, hook, facts, state, created_at) VALUES (?, ?, ?, ?, ?, ?)",
        [
            (group_id, job_id, to_json(hook), told, DeliveryState.WAITING, to_text(now))
            for hook in hooks
            if hook.get("on", "any") in ("any", facts["outcome"])
        ],
    )


def count_waiting(connection: sqlite3.Connection) -> int:
    """How many messages are neither delivered nor given up."""
    statement = "SELECT count(*) FROM deliveries WHERE state = 'waiting' AND finished_at IS NULL"
    return int(connection.execute(statement).fetchone()[0])


def waiting(connection: sqlite3.Connection, now: datetime, limit: int = 16) -> list[Delivery]:
    """Return the oldest due message of each hook, of at most `limit` hooks, oldest first."""
    values = {"now": to_text(now), "horizon": to_text(now + timedelta(seconds=PAUSES_S[-1])), "limit": limit}
    return [
        Delivery(row["id"], row["hook"], json.loads(row["facts"]), row["tries"], row["environment"])
        for row in connection.execute(_DUE, values)
    ]


def record(connection: sqlite3.Connection, now: datetime, tries: Sequence[Tried]) -> dict[int, DeliveryState]:
    """Record tries: delivered, to be tried again after a pause, or given up; return what has become of each message.

    One that is not waiting any more (or not there) is left out. The end of a message is an event of its job or group.
    """
    done: dict[int, DeliveryState] = {}
    for tried in tries:
        row = connection.execute(
            "SELECT * FROM deliveries WHERE id = ? AND finished_at IS NULL", (tried.delivery_id,)
        ).fetchone()
        if row is None:
            continue
        done[tried.delivery_id] = state = _state(tried, row["tries"])
        ended = state is not DeliveryState.WAITING
        pause_s = 0.0 if ended else min(max(PAUSES_S[row["tries"]], tried.wait_s), PAUSES_S[-1])
        error = None if tried.error is None else tried.error[:_LONGEST_ERROR]
        connection.execute(
            "UPDATE deliveries SET state = ?, tries = tries + 1, error = ?, not_before = ?, finished_at = ? "
            "WHERE id = ?",
            (state, error, None if ended else to_text(now + timedelta(seconds=pause_s)))
            + (to_text(now) if ended else None, tried.delivery_id),
        )
        if ended:
            _event(connection, now, row, error)
    return done


def _state(tried: Tried, tries_before: int) -> DeliveryState:
    if tried.error is None:
        return DeliveryState.DELIVERED
    over = tried.final or tries_before >= len(PAUSES_S)
    return DeliveryState.GIVEN_UP if over else DeliveryState.WAITING


def _event(connection: sqlite3.Connection, now: datetime, row: sqlite3.Row, error: str | None) -> None:
    tries = row["tries"] + 1
    said = f"told by {describe(row['hook'])}"
    if error is not None:
        said = f"given up after {tries} {'try' if tries == 1 else 'tries'}: {describe(row['hook'])}: {error}"
    connection.execute(
        "INSERT INTO events (at, group_id, job_id, attempt, kind, reason) VALUES (?, ?, ?, ?, 'hook', ?)",
        (to_text(now), row["group_id"], row["job_id"], json.loads(row["facts"]).get("attempt"), said),
    )


def describe(hook: str) -> str:
    """What a stored hook is, in words."""
    return hook_words(json.loads(hook))
