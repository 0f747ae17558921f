"""What the daemon reads at each round: what lives, what waits for slots, and everything that a decision needs."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from metta_jobs.states import DependencyKind, JobState
from metta_jobs.store.words import FORCE_KILL, KILL, RESTART, to_json, to_time

Key = tuple[int, int]


@dataclass(frozen=True)
class LiveRow:
    """What may change of a live attempt."""

    key: Key
    state: JobState
    kill: bool
    force: bool
    reason: str | None
    restart: bool = False  # it is to end so that it can be tried again


@dataclass(frozen=True)
class LiveAttempt:
    """What never changes of an attempt: what to run, where, and within which limits."""

    key: Key
    group: str
    name: str
    executor: str
    remote: Mapping[str, Any] | None
    lane: str
    boot: str
    gpus: tuple[str, ...]
    command: Sequence[str]
    cwd: str | None
    env: Mapping[str, str]
    timeout_s: float | None
    queue_timeout_s: float | None
    grace_s: float
    max_log_mb: float | None
    retry: Mapping[str, Any] | None
    tries: int
    environment: str
    secrets: tuple[str, ...]  # names of all secrets of its submitter's environment
    named_secrets: tuple[str, ...]  # and of those that the job itself names
    group_id: int = 0
    kind: str = "run"
    metrics: tuple[str, ...] = ()
    acceptance: tuple[Mapping[str, Any], ...] = ()


@dataclass(frozen=True)
class Need:
    """Slots that a job wants."""

    gpus: float = 0
    cpus: float = 1
    memory_gb: float = 0


@dataclass(frozen=True)
class Holding:
    """Slots of this machine that a live attempt holds; those of one lane hold the same."""

    job_id: int
    group_id: int
    lane: str
    gpus: tuple[str, ...]
    gpu_share: float
    cpus: float
    memory_gb: float
    elsewhere: bool = False  # it runs on another machine: it counts for its group, and holds nothing here


@dataclass(frozen=True)
class GroupLimits:
    """How a group shares the machine."""

    name: str
    max_parallel: int | None
    paused: bool


@dataclass(frozen=True)
class ReadyJob:
    """A pending job that waits for slots only; times are the daemon's or reader's to compare."""

    job_id: int
    group_id: int
    need: Need
    ready_at: datetime
    not_before: datetime | None = None
    queue_timeout_s: float | None = None
    executor: str = "local"


@dataclass(frozen=True)
class Parent:
    """A job, or a whole group, that another one waits for; `ended` of `total` for a group."""

    label: str
    state: JobState
    kind: DependencyKind
    progress: str | None = field(default=None)


def live_rows(connection: sqlite3.Connection) -> list[LiveRow]:
    """Every attempt that has not ended, in the order in which they were claimed."""
    rows = connection.execute(
        "SELECT id, attempt, state, wish, reason, CASE WHEN wish IS NOT NULL THEN (SELECT e.reason FROM events AS e "
        "WHERE e.job_id = jobs.id AND e.kind = 'wish' ORDER BY e.id DESC LIMIT 1) END AS asked FROM jobs "
        "WHERE finished_at IS NULL AND state IN ('launching', 'running') ORDER BY id"
    )
    return [
        LiveRow(
            (row["id"], row["attempt"]),
            JobState(row["state"]),
            row["wish"] in (KILL, FORCE_KILL),
            row["wish"] == FORCE_KILL,
            row["reason"],
            (row["asked"] or "").startswith(RESTART),
        )
        for row in rows
    ]


def live_attempts(connection: sqlite3.Connection, job_ids: Sequence[int]) -> list[LiveAttempt]:
    """What never changes of the live attempts of these jobs."""
    rows = connection.execute(
        """
        SELECT j.id, j.group_id, j.attempts_before, j.name, j.config, j.environment, e.secrets, g.name AS group_name,
            a.number, a.executor, a.lane, a.boot, a.gpus
        FROM jobs AS j
        JOIN attempts AS a ON a.job_id = j.id AND a.number = j.attempt
        JOIN groups AS g ON g.id = j.group_id
        JOIN environments AS e ON e.hash = j.environment
        WHERE j.id IN (SELECT value FROM json_each(?)) ORDER BY j.id
        """,
        (to_json(list(job_ids)),),
    )
    return [_live(row, json.loads(row["config"])) for row in rows]


def _live(row: sqlite3.Row, config: dict[str, Any]) -> LiveAttempt:
    return LiveAttempt(
        key=(row["id"], row["number"]),
        group=row["group_name"],
        name=row["name"],
        executor=row["executor"],
        remote=config.get("remote"),
        lane=row["lane"],
        boot=row["boot"],
        gpus=tuple(json.loads(row["gpus"])),
        command=config["command"],
        cwd=config["cwd"],
        env=config["env"],
        timeout_s=config["timeout_s"],
        queue_timeout_s=config.get("queue_timeout_s"),
        grace_s=config["grace_s"],
        max_log_mb=config.get("max_log_mb"),
        retry=config.get("retry"),
        tries=row["number"] - row["attempts_before"],
        environment=row["environment"],
        secrets=(*json.loads(row["secrets"]),),
        named_secrets=(*config.get("secrets", ()), *(config.get("remote") or {}).get("secrets", ())),
        group_id=row["group_id"],
        kind=config.get("kind", "run"),
        metrics=(*config.get("metrics", ()),),
        acceptance=(*config.get("acceptance", ()),),
    )


def variables(connection: sqlite3.Connection, environment: str) -> dict[str, str]:
    """The stored environment of this id, without its secrets."""
    row = connection.execute("SELECT variables FROM environments WHERE hash = ?", (environment,)).fetchone()
    found: dict[str, str] = json.loads(row["variables"])
    return found


def environment_of(connection: sqlite3.Connection, job_id: int) -> tuple[dict[str, str], frozenset[str]]:
    """The environment that a job was submitted from, and the names of those variables in it that are not stored."""
    row = connection.execute(
        "SELECT e.variables, e.secrets FROM jobs AS j JOIN environments AS e ON e.hash = j.environment WHERE j.id = ?",
        (job_id,),
    ).fetchone()
    return json.loads(row["variables"]), frozenset(json.loads(row["secrets"]))


def holdings(connection: sqlite3.Connection) -> list[Holding]:
    """The slots of this machine that are held, and what runs elsewhere, in the order of the claims."""
    rows = connection.execute(
        "SELECT a.job_id, j.group_id, a.lane, a.gpus, a.gpu_share, a.cpus, a.memory_gb, a.executor "
        "FROM jobs AS j JOIN attempts AS a ON a.job_id = j.id AND a.number = j.attempt "
        "WHERE j.finished_at IS NULL AND j.state IN ('launching', 'running') ORDER BY j.id"
    )
    return [
        Holding(
            row["job_id"],
            row["group_id"],
            row["lane"] or f"job {row['job_id']}",
            tuple(json.loads(row["gpus"])) if row["gpus"] != "[]" else (),
            row["gpu_share"],
            row["cpus"],
            row["memory_gb"],
            row["executor"] != "local",
        )
        for row in rows
    ]


def ready_jobs(connection: sqlite3.Connection) -> Iterator[ReadyJob]:
    """Every job that waits for slots only and that nobody wants killed, in the order of the queue, read as needed."""
    rows = connection.execute(
        "SELECT id, group_id, gpus, cpus, memory_gb, ready_at, not_before, queue_timeout_s, executor FROM jobs "
        "WHERE state = 'pending' AND blocked_by IS NULL AND wish IS NULL ORDER BY rank DESC, place, id"
    )
    needs: dict[tuple[float, float, float], Need] = {}
    for job_id, group_id, gpus, cpus, memory_gb, ready_at, not_before, queue_timeout_s, executor in rows:
        need = needs.get(size := (gpus, cpus, memory_gb)) or needs.setdefault(size, Need(*size))
        since = datetime.fromisoformat(ready_at)
        yield ReadyJob(job_id, group_id, need, since, to_time(not_before), queue_timeout_s, executor)


def group_limits(connection: sqlite3.Connection) -> dict[int, GroupLimits]:
    """The groups that are paused or limited."""
    rows = connection.execute(
        "SELECT id, name, max_parallel, paused_at FROM groups WHERE max_parallel IS NOT NULL OR paused_at IS NOT NULL"
    )
    return {row["id"]: GroupLimits(row["name"], row["max_parallel"], row["paused_at"] is not None) for row in rows}


def blockers(connection: sqlite3.Connection, job_ids: Sequence[int]) -> dict[int, list[Parent]]:
    """What these pending jobs depend on and still wait for; a whole group counts as one."""
    rows = connection.execute(
        """
        SELECT d.job_id, d.kind, d.of_group, w.name AS whole, p.name, p.state, p.finished_at,
            CASE WHEN p.group_id <> c.group_id THEN g.name END AS elsewhere
        FROM dependencies AS d
        JOIN jobs AS c ON c.id = d.job_id AND c.blocked_by IS NOT NULL
        JOIN jobs AS p ON p.id = d.parent_id
        JOIN groups AS g ON g.id = p.group_id
        LEFT JOIN groups AS w ON w.id = d.of_group
        WHERE d.job_id IN (SELECT value FROM json_each(?)) ORDER BY d.job_id, p.id
        """,
        (to_json(list(job_ids)),),
    ).fetchall()
    found: dict[int, list[Parent]] = {}
    wholes: dict[tuple[int, int], list[sqlite3.Row]] = {}
    for row in rows:
        if row["of_group"] is not None:
            wholes.setdefault((row["job_id"], row["of_group"]), []).append(row)
            continue
        kind, state = DependencyKind(row["kind"]), JobState(row["state"])
        if not kind.met(state):
            name = f"{row['elsewhere']}/{row['name']}" if row["elsewhere"] else row["name"]
            found.setdefault(row["job_id"], []).append(Parent(name, state, kind))
    for (job_id, _), members in wholes.items():
        ended = sum(member["finished_at"] is not None for member in members)
        if ended < len(members):
            progress = f"{ended} of {len(members)} ended"
            kind = DependencyKind(members[0]["kind"])
            found.setdefault(job_id, []).append(Parent(members[0]["whole"], JobState.RUNNING, kind, progress))
    return found


def unfinished_states(connection: sqlite3.Connection) -> set[JobState]:
    """The states, among pending and live ones, that some job is in; empty when there is nothing to do."""
    rows = connection.execute(
        "SELECT s.state FROM (SELECT 'pending' AS state UNION ALL SELECT 'launching' UNION ALL SELECT 'running') AS s "
        "WHERE EXISTS (SELECT 1 FROM jobs AS j WHERE j.finished_at IS NULL AND j.state = s.state)"
    )
    wishes = connection.execute("SELECT DISTINCT state FROM jobs WHERE wish IS NOT NULL")
    return {JobState(row["state"]) for row in (*rows, *wishes)}
