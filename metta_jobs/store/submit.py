"""Taking jobs in: a group with its dependencies, in one transaction or not at all."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from datetime import datetime

from metta_jobs.errors import AlreadyExists, DependencyCycle, InvalidInput, UnknownName, nearest
from metta_jobs.job import Dependency, JobConfig
from metta_jobs.policy import GroupConfig
from metta_jobs.store import release, transitions
from metta_jobs.store.edit import set_group
from metta_jobs.store.words import to_json, to_text

Edge = tuple[int, int, str, int | None]
"""(job, parent, kind, group that the job waits for as a whole)"""


def submit(
    connection: sqlite3.Connection,
    now: datetime,
    group: str,
    configs: Sequence[JobConfig],
    environment: str,
    variables: Mapping[str, str],
    secrets: Sequence[str],
    *,
    new_group: bool = False,
    options: GroupConfig | None = None,
) -> list[int]:
    """Store `configs` as pending jobs of `group` and return their ids, in order.

    `variables` is the submitter's environment without secrets; `secrets` names those that the daemon should hand on;
    `environment` is the id of both, different where the values of the secrets are. Raises AlreadyExists, UnknownName,
    InvalidInput or DependencyCycle, and then stores nothing.
    """
    connection.execute(
        "INSERT OR IGNORE INTO environments (hash, variables, secrets) VALUES (?, ?, ?)",
        (environment, to_json(dict(variables)), to_json(sorted(secrets))),
    )
    group_id = _group(connection, now, group, new_group)
    set_group(connection, now, group_id, options or GroupConfig())
    group_priority, limit = connection.execute(
        "SELECT priority, max_failures FROM groups WHERE id = ?", (group_id,)
    ).fetchone()
    if limit is not None and (failures := transitions.failures_of(connection, group_id)) >= limit:
        raise InvalidInput(
            f"The group {group} was stopped after {failures} failure{'s' if failures > 1 else ''} "
            f"(max_failures={limit}): submit to another one, or `metta job edit {group} max_failures=…` first."
        )
    names = {row["name"]: row["id"] for row in _names(connection, group_id)}
    _refuse_taken(group, configs, names)
    first = _next_id(connection)
    ids = list(range(first, first + len(configs)))
    names |= {config.name: job_id for config, job_id in zip(configs, ids, strict=True)}
    at = to_text(now)
    connection.executemany(
        "INSERT INTO jobs (id, group_id, name, state, config, environment, executor, gpus, cpus, memory_gb, "
        "queue_timeout_s, rank, place, ready_at, created_at) "
        "VALUES (?, ?, ?, 'pending', ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        [
            (job_id, group_id, c.name, c.model_dump_json(), environment, c.executor, *c.slots)
            + (c.queue_timeout_s, c.priority + group_priority, job_id, at, at)
            for job_id, c in zip(ids, configs, strict=True)
        ],
    )
    connection.executemany(
        "INSERT INTO events (at, group_id, job_id, kind, to_state) VALUES (?, ?, ?, 'submitted', 'pending')",
        [(at, group_id, job_id) for job_id in ids],
    )
    _depend(connection, now, {i: c for i, c in zip(ids, configs, strict=True) if c.depends_on}, names, group)
    return ids


def _depend(
    connection: sqlite3.Connection,
    now: datetime,
    configs: Mapping[int, JobConfig],
    names: Mapping[str, int],
    group: str,
) -> None:
    edges = {job_id: _parents(connection, job_id, config, names, group) for job_id, config in configs.items()}
    _refuse_cycles({i: [e[1] for e in found] for i, found in edges.items()}, {i: c.name for i, c in configs.items()})
    connection.executemany(
        "INSERT INTO dependencies (job_id, parent_id, kind, of_group) VALUES (?, ?, ?, ?)",
        [edge for found in edges.values() for edge in found],
    )
    connection.executemany("UPDATE jobs SET ready_at = NULL WHERE id = ?", [(job_id,) for job_id in edges])
    release.block(connection, now, edges)
    transitions.skip(connection, now, release.doomed_among(connection, edges))


def _names(connection: sqlite3.Connection, group_id: int) -> sqlite3.Cursor:
    return connection.execute("SELECT id, name FROM jobs WHERE group_id = ?", (group_id,))


def _next_id(connection: sqlite3.Connection) -> int:
    row = connection.execute("SELECT seq FROM sqlite_sequence WHERE name = 'jobs'").fetchone()
    return (row["seq"] if row else 0) + 1


def _refuse_taken(group: str, configs: Sequence[JobConfig], stored: Mapping[str, int]) -> None:
    new: set[str] = set()
    for config in configs:
        if config.name in stored or config.name in new:
            how = (
                f"`metta job retry {stored[config.name]}` runs it again" if config.name in stored else "once is enough"
            )
            raise AlreadyExists(
                f"The group {group!r} has a job {config.name!r} already: choose another name, or {how}."
            )
        new.add(config.name)


def free_name(connection: sqlite3.Connection, group: str, stem: str) -> str:
    """Return `stem`, or `stem-2`, `stem-3`, … : the first that names no job of `group`."""
    rows = connection.execute(
        "SELECT j.name FROM jobs AS j JOIN groups AS g ON g.id = j.group_id WHERE g.name = ?", (group,)
    )
    taken = {row["name"] for row in rows}
    name, number = stem, 1
    while name in taken:
        number += 1
        name = f"{stem}-{number}"
    return name


def _group(connection: sqlite3.Connection, now: datetime, name: str, new: bool) -> int:
    found = connection.execute("SELECT id FROM groups WHERE name = ?", (name,)).fetchone()
    if found is None:
        return int(
            connection.execute("INSERT INTO groups (name, created_at) VALUES (?, ?)", (name, to_text(now))).lastrowid
            or 0
        )
    if new:
        raise AlreadyExists(
            f"There is a group {name!r} already: choose another name, or leave it out to get a new one."
        )
    return int(found["id"])


def _parents(
    connection: sqlite3.Connection, job_id: int, config: JobConfig, siblings: Mapping[str, int], group: str
) -> list[Edge]:
    found: dict[int, Edge] = {}
    for dependency in config.depends_on:
        edges = _whole(connection, job_id, config, dependency) if dependency.group else []
        if dependency.job is not None:
            parent = _resolve(connection, dependency.job, siblings, group)
            if parent is None:
                known = nearest(str(dependency.job), siblings)
                raise UnknownName(
                    f"The job {config.name!r} depends on {dependency.job!r}, which does not exist.{known}"
                )
            edges = [(job_id, parent, dependency.kind.value, None)]
        for edge in edges:
            if edge[1] in found:
                raise InvalidInput(f"The job {config.name!r} depends on {dependency.label!r} twice.")
            found[edge[1]] = edge
    return list(found.values())


def _whole(connection: sqlite3.Connection, job_id: int, config: JobConfig, dependency: Dependency) -> list[Edge]:
    """One edge to each job that the group has now, but those that are submitted with this one."""
    row = connection.execute("SELECT id FROM groups WHERE name = ?", (dependency.group,)).fetchone()
    if row is None:
        known = [r["name"] for r in connection.execute("SELECT name FROM groups")]
        raise UnknownName(
            f"The job {config.name!r} depends on the group {dependency.group!r}, which does not exist."
            f"{nearest(str(dependency.group), known)}"
        )
    (own,) = connection.execute("SELECT group_id FROM jobs WHERE id = ?", (job_id,)).fetchone()
    if own == row["id"]:
        raise InvalidInput(
            f"The job {config.name!r} cannot wait for its own group: name the jobs that it is to wait for."
        )
    return [(job_id, member["id"], dependency.kind.value, row["id"]) for member in _names(connection, row["id"])]


def _resolve(connection: sqlite3.Connection, job: int | str, siblings: Mapping[str, int], group: str) -> int | None:
    if isinstance(job, int):
        row = connection.execute("SELECT id FROM jobs WHERE id = ?", (min(job, 2**62),)).fetchone()
    else:
        other, slash, name = job.partition("/")
        if not slash or other == group:
            return siblings.get(name if slash else job)
        row = connection.execute(
            "SELECT j.id FROM jobs AS j JOIN groups AS g ON g.id = j.group_id WHERE g.name = ? AND j.name = ?",
            (other, name),
        ).fetchone()
    return None if row is None else int(row["id"])


def _refuse_cycles(edges: Mapping[int, Sequence[int]], names: Mapping[int, str]) -> None:
    """Depth-first over the new jobs, without recursion. Stored jobs cannot depend on new ones: none closes a cycle."""
    done: set[int] = set()
    for start in edges:
        path: list[int] = []
        on_path: set[int] = set()
        stack: list[tuple[int, bool]] = [(start, False)]
        while stack:
            job, leaving = stack.pop()
            if leaving:
                on_path.discard(path.pop())
                done.add(job)
                continue
            if job in done:
                continue
            if job in on_path:
                cycle = [*path[path.index(job) :], job]
                raise DependencyCycle(
                    f"These jobs would wait for each other for ever: {' → '.join(names[j] for j in cycle)}."
                )
            path.append(job)
            on_path.add(job)
            stack.append((job, True))
            stack.extend((parent, False) for parent in edges[job] if parent in edges)
