"""Reading: snapshots of groups, jobs and events for people and programs."""

from __future__ import annotations

import json
import sqlite3
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime

from metta_jobs.paths import StateDir
from metta_jobs.states import DependencyKind, JobState
from metta_jobs.store import progress
from metta_jobs.store.words import FORCE_KILL, KILL, to_json, to_text, to_time
from metta_jobs.views import Counts, EventView, GroupSummary, GroupView, JobView, ParentView, RemoteView

_OF_GROUP = "j.group_id = ?"
_THESE = "j.id IN (SELECT value FROM json_each(?))"


def group_summaries(connection: sqlite3.Connection) -> list[GroupSummary]:
    """All groups, newest last."""
    tally: dict[int, Counter[JobState]] = defaultdict(Counter)
    for group_id, state, count in connection.execute(
        "SELECT group_id, state, count(*) FROM jobs GROUP BY group_id, state"
    ):
        tally[group_id][JobState(state)] = count
    return [
        GroupSummary(
            row["name"],
            datetime.fromisoformat(row["created_at"]),
            Counts.of(tally[row["id"]]),
            row["paused_at"] is not None,
        )
        for row in connection.execute("SELECT id, name, created_at, paused_at FROM groups ORDER BY id")
    ]


def group_names(connection: sqlite3.Connection) -> list[str]:
    """The names of all groups, newest last."""
    return [row["name"] for row in connection.execute("SELECT name FROM groups ORDER BY id")]


def groups_with(connection: sqlite3.Connection, state: JobState) -> set[str]:
    """The names of the groups that have a job in this state."""
    rows = connection.execute(
        "SELECT name FROM groups AS g WHERE EXISTS (SELECT 1 FROM jobs WHERE group_id = g.id AND state = ?)", (state,)
    )
    return {row["name"] for row in rows}


def place(connection: sqlite3.Connection, job_id: int, now: datetime) -> tuple[int, datetime] | None:
    """How many jobs are before it in the queue, and since when it waits for slots; None when it does not."""
    waiting = (
        "state = 'pending' AND blocked_by IS NULL AND wish IS NULL AND coalesce(not_before, '') <= :now "
        "AND group_id NOT IN (SELECT id FROM groups WHERE paused_at IS NOT NULL)"
    )
    values = {"now": to_text(now), "id": job_id}
    row = connection.execute(f"SELECT rank, place, ready_at FROM jobs WHERE id = :id AND {waiting}", values).fetchone()
    if row is None:
        return None
    (before,) = connection.execute(
        f"SELECT count(*) FROM jobs WHERE {waiting} AND (-rank, place, id) < (:rank, :place, :id)",
        {**values, "rank": -row["rank"], "place": row["place"]},
    ).fetchone()
    return before, datetime.fromisoformat(row["ready_at"])


def group_id(connection: sqlite3.Connection, name: str) -> int | None:
    """The id of the group of this name, None when there is none."""
    row = connection.execute("SELECT id FROM groups WHERE name = ?", (name,)).fetchone()
    return None if row is None else int(row["id"])


def group_view(connection: sqlite3.Connection, state_dir: StateDir, name: str) -> GroupView | None:
    """One group with its jobs, None when there is none of this name."""
    row = connection.execute("SELECT * FROM groups WHERE name = ?", (name,)).fetchone()
    if row is None:
        return None
    return GroupView(
        row["name"],
        datetime.fromisoformat(row["created_at"]),
        tuple(_jobs(connection, state_dir, _OF_GROUP, row["id"])),
        priority=row["priority"],
        max_parallel=row["max_parallel"],
        max_failures=row["max_failures"],
        paused_at=to_time(row["paused_at"]),
        on_end=tuple(json.loads(row["on_end"])),
        health=tuple(json.loads(row["health"])),
    )


def job_views(connection: sqlite3.Connection, state_dir: StateDir, job_ids: Sequence[int]) -> list[JobView]:
    """These jobs, in the order of their ids; ids that do not exist are left out."""
    return _jobs(connection, state_dir, _THESE, to_json(list(job_ids)))


def job_names(connection: sqlite3.Connection, group: str) -> dict[str, int]:
    """The names and ids of a group's jobs."""
    rows = connection.execute(
        "SELECT j.name, j.id FROM jobs AS j JOIN groups AS g ON g.id = j.group_id WHERE g.name = ? ORDER BY j.id",
        (group,),
    )
    return {row["name"]: row["id"] for row in rows}


def variant_members(connection: sqlite3.Connection, group: str) -> dict[str, list[int]]:
    """The variants of a group's experiment, each with the ids of its seeds' jobs."""
    members: dict[str, list[int]] = defaultdict(list)
    for row in connection.execute(
        "SELECT json_extract(j.config, '$.variant') AS variant, j.id FROM jobs AS j "
        "JOIN groups AS g ON g.id = j.group_id WHERE g.name = ? ORDER BY j.id",
        (group,),
    ):
        if row["variant"] is not None:
            members[row["variant"]].append(row["id"])
    return members


def event_views(
    connection: sqlite3.Connection,
    job_ids: Sequence[int] | None,
    *,
    groups: Sequence[str] = (),
    after: int = 0,
    limit: int | None = None,
) -> list[EventView]:
    """Events of these jobs and of these groups themselves (None: of all), after the event `after`, oldest first."""
    these = (
        "1"
        if job_ids is None
        else "(e.job_id IN (SELECT value FROM json_each(:jobs)) "
        "OR (e.job_id IS NULL AND g.name IN (SELECT value FROM json_each(:groups))))"
    )
    rows = connection.execute(
        "SELECT e.*, j.name, g.name AS group_name FROM events AS e JOIN groups AS g ON g.id = e.group_id "
        f"LEFT JOIN jobs AS j ON j.id = e.job_id WHERE e.id > :after AND {these} ORDER BY e.id LIMIT :limit",
        {
            "jobs": to_json(list(job_ids or ())),
            "groups": to_json(list(groups)),
            "after": after,
            "limit": -1 if limit is None else limit,
        },
    )
    return [
        EventView(
            id=row["id"],
            at=datetime.fromisoformat(row["at"]),
            job_id=row["job_id"],
            group=row["group_name"],
            name=row["name"],
            attempt=row["attempt"],
            kind=row["kind"],
            from_state=JobState(row["from_state"]) if row["from_state"] else None,
            to_state=JobState(row["to_state"]) if row["to_state"] else None,
            reason=row["reason"],
        )
        for row in rows
    ]


def managed_ids(connection: sqlite3.Connection) -> set[int]:
    """SkyPilot's ids of the managed jobs that live attempts are, or that unfinished jobs are to take back."""
    rows = connection.execute(
        "SELECT json_extract(a.remote, '$.managed_id') AS id FROM jobs AS j "
        "JOIN attempts AS a ON a.job_id = j.id AND a.number = j.attempt "
        "WHERE j.finished_at IS NULL AND a.finished_at IS NULL "
        "UNION SELECT json_extract(config, '$.remote.adopted.managed_id') FROM jobs "
        "WHERE (finished_at IS NULL OR wish = 'retry') AND json_extract(config, '$.remote.adopted.attempt') > attempt"
    )
    return {row["id"] for row in rows if row["id"] is not None}


def last_event(connection: sqlite3.Connection) -> int:
    """The id of the newest event, 0 when there is none."""
    return int(connection.execute("SELECT coalesce(max(id), 0) FROM events").fetchone()[0])


def any_unfinished(connection: sqlite3.Connection, job_ids: Sequence[int]) -> bool:
    """True while one of these jobs has not ended, or is to be tried again. The newest, likely the last, goes first."""
    row = connection.execute(
        "SELECT 1 FROM json_each(?) AS e JOIN jobs AS j ON j.id = e.value "
        "WHERE j.finished_at IS NULL OR j.wish IS NOT NULL LIMIT 1",
        (to_json(sorted(job_ids, reverse=True)),),
    ).fetchone()
    return row is not None


def _jobs(connection: sqlite3.Connection, state_dir: StateDir, which: str, value: object) -> list[JobView]:
    rows = connection.execute(
        "SELECT j.*, g.name AS group_name, a.started_at, a.duration_s, a.gpus AS devices, a.gpu_share, a.remote, "
        f"CASE j.executor WHEN 'local' THEN NULL ELSE ({_SPENT}) END AS spent FROM jobs AS j "
        "JOIN groups AS g ON g.id = j.group_id "
        "LEFT JOIN attempts AS a ON a.job_id = j.id AND a.number = j.attempt "
        f"WHERE {which} ORDER BY j.id",
        (value,),
    ).fetchall()
    parents = _parents(connection, which, value)
    known, ailing = progress.load(connection, which, value), progress.load_health(connection, which, value)
    return [
        replace(
            _view(row, state_dir, tuple(parents.get(row["id"], ()))),
            progress=known.get(row["id"]),
            health=ailing.get(row["id"], ()),
        )
        if row["id"] in known or row["id"] in ailing
        else _view(row, state_dir, tuple(parents.get(row["id"], ())))
        for row in rows
    ]


def _parents(connection: sqlite3.Connection, which: str, value: object) -> dict[int, list[ParentView]]:
    found: dict[int, list[ParentView]] = {}
    for row in connection.execute(
        "SELECT d.job_id, d.kind, p.id, p.name, p.state, g.name AS group_name FROM jobs AS j "
        "JOIN dependencies AS d ON d.job_id = j.id JOIN jobs AS p ON p.id = d.parent_id "
        f"JOIN groups AS g ON g.id = p.group_id WHERE {which} ORDER BY j.id, p.id",
        (value,),
    ):
        found.setdefault(row["job_id"], []).append(
            ParentView(row["id"], row["group_name"], row["name"], JobState(row["state"]), DependencyKind(row["kind"]))
        )
    return found


def _view(row: sqlite3.Row, state_dir: StateDir, parents: tuple[ParentView, ...]) -> JobView:
    state, config = JobState(row["state"]), json.loads(row["config"])
    pending = state is JobState.PENDING
    retry = config.get("retry")
    return JobView(
        id=row["id"],
        group=row["group_name"],
        name=row["name"],
        state=state,
        command=tuple(config["command"]),
        attempt=row["attempt"],
        exit_code=row["exit_code"],
        reason=row["reason"],
        created_at=datetime.fromisoformat(row["created_at"]),
        started_at=None if pending else to_time(row["started_at"]),
        finished_at=to_time(row["finished_at"]),
        duration_s=None if pending else _duration(row),
        kill_requested=row["wish"] in (KILL, FORCE_KILL),
        executor=row["executor"],
        kind=config["kind"],
        gpus=row["gpus"],
        cpus=row["cpus"],
        memory_gb=row["memory_gb"],
        priority=row["rank"],
        timeout_s=config["timeout_s"],
        queue_timeout_s=row["queue_timeout_s"],
        grace_s=config["grace_s"],
        max_attempts=retry["max_attempts"] if retry else 1,
        metrics=tuple(config["metrics"]),
        parents=parents,
        folder=state_dir.attempt(row["id"], row["attempt"]) if row["attempt"] else None,
        tries=row["attempt"] - row["attempts_before"],
        devices=tuple(json.loads(row["devices"] or "[]")),
        device_share=1 if row["gpu_share"] is None else row["gpu_share"],
        config=config,
        remote=None if row["executor"] == "local" else _remote(row),
        variant=config.get("variant"),  # jobs of earlier versions have neither
        seed=config.get("seed"),
    )


#: US dollars of a job's attempts that have ended.
_SPENT = """
SELECT sum(json_extract(e.remote, '$.hourly_usd') * coalesce(json_extract(e.remote, '$.nodes'), 1)
    * e.duration_s / 3600)
FROM attempts AS e WHERE e.job_id = j.id AND e.finished_at IS NOT NULL
"""


def _remote(row: sqlite3.Row) -> RemoteView:
    facts = json.loads(row["remote"] or "{}")
    hourly = facts.get("hourly_usd")
    hourly = None if hourly is None else hourly * facts.get("nodes", 1)
    cost = row["spent"]
    if hourly is not None and JobState(row["state"]).live and (ran_s := _duration(row)) is not None:
        cost = (cost or 0) + hourly * ran_s / 3600
    return RemoteView(
        facts.get("managed_id"),
        facts.get("name"),
        facts.get("status"),
        facts.get("detail"),
        facts.get("recoveries", 0),
        facts.get("infra"),
        facts.get("resources"),
        hourly,
        cost,
    )


def _duration(row: sqlite3.Row) -> float | None:
    if row["duration_s"] is not None:
        return float(row["duration_s"])
    started = to_time(row["started_at"])
    if started is None:
        return None
    end = to_time(row["finished_at"]) or datetime.now(started.tzinfo)
    return max(0.0, (end - started).total_seconds())
