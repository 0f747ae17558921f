"""What a group's health rules have found, and what was done: once for each attempt and rule, in one transaction."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from metta_jobs.criteria import HealthRule
from metta_jobs.store import outbox
from metta_jobs.store.transitions import record
from metta_jobs.store.words import KILL, KILL_BECAUSE, RESTART, to_text, to_time

Key = tuple[int, int]


@dataclass(frozen=True)
class Finding:
    """A rule that a live attempt breaks: what is wrong, in numbers, and when it was last seen well."""

    key: Key
    rule: HealthRule
    said: str
    well_at: datetime | None = None


def rules(connection: sqlite3.Connection) -> dict[int, str]:
    """Group → its rules as JSON, of those that have any."""
    return {
        row["id"]: row["health"] for row in connection.execute("SELECT id, health FROM groups WHERE health <> '[]'")
    }


def act(connection: sqlite3.Connection, now: datetime, findings: Sequence[Finding]) -> list[str]:
    """Do what the rules say, and record it; return the events. What was done before, or has ended, is left alone."""
    return [said for finding in findings if (said := _act(connection, now, finding)) is not None]


def _act(connection: sqlite3.Connection, now: datetime, finding: Finding) -> str | None:
    (job_id, attempt), rule = finding.key, finding.rule
    job = connection.execute(
        "SELECT wish, attempts_before FROM jobs WHERE id = ? AND attempt = ? AND finished_at IS NULL "
        "AND state <> 'pending'",
        finding.key,
    ).fetchone()
    if job is None:
        return None
    identity, said = rule.model_dump_json(), f"health: {finding.said}"
    (before,) = connection.execute(
        "SELECT count(*) FROM health WHERE job_id = ? AND rule = ? AND action = 'retry' AND attempt > ?",
        (job_id, identity, job["attempts_before"]),
    ).fetchone()
    spent = rule.action == "retry" and before >= rule.max_retries
    action = "kill" if spent else rule.action
    new = connection.execute(
        "INSERT OR IGNORE INTO health (job_id, attempt, rule, action, said, at, well_at) VALUES (?, ?, ?, ?, ?, ?, ?)",
        (job_id, attempt, identity, action, finding.said, to_text(now))
        + (None if finding.well_at is None else to_text(finding.well_at),),
    ).rowcount
    if not new:
        return None
    done = _ACTIONS[action]
    if spent:
        done = f"killed, for it was retried {before} time{'s' if before > 1 else ''} (max_retries)"
    if action == "notify" and not outbox.tell_of_health(connection, now, job_id, attempt, said):
        done = "nobody is told: the group has no on_end for it"
    if action in ("kill", "retry") and job["wish"] is not None:
        done = "it is being ended already"
    told = f"{said} → {done}"
    record(connection, now, [job_id], "health", attempt=attempt, reason=told)
    if action in ("kill", "retry") and job["wish"] is None:
        connection.execute("UPDATE jobs SET wish = ? WHERE id = ?", (KILL, job_id))
        begins = RESTART if action == "retry" else KILL_BECAUSE
        record(connection, now, [job_id], "wish", attempt=attempt, reason=f"{begins}{said}")
    return told


_ACTIONS = {"mark": "marked", "notify": "notified", "kill": "killed", "retry": "retried"}


def well_until(connection: sqlite3.Connection, key: Key) -> datetime | None:
    """When an attempt that a rule has ended for another one was last known to be well; None where none has."""
    row = connection.execute(
        "SELECT min(coalesce(well_at, at)) AS moment FROM health WHERE job_id = ? AND attempt = ? AND action = 'retry'",
        key,
    ).fetchone()
    return to_time(row["moment"])
