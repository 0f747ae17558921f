"""Taking jobs in: a group with its dependencies, in one transaction or not at all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime

from sqlalchemy import Connection, insert, select

from metta_jobs.errors import AlreadyExists, DependencyCycle, InvalidInput, UnknownName, nearest
from metta_jobs.job import Dependency, JobConfig
from metta_jobs.states import JobState
from metta_jobs.store import schema
from metta_jobs.store.schema import dependencies, environments, groups, jobs


def submit(
    connection: Connection,
    now: datetime,
    group: str,
    configs: Sequence[JobConfig],
    environment: str,
    variables: Mapping[str, str],
    secrets: Sequence[str],
    *,
    new_group: bool = False,
) -> list[int]:
    """Store `configs` as pending jobs of `group` and return their ids, in order.

    `variables` is the submitter's environment without secrets; `secrets` names those that the daemon should hand on;
    `environment` is the id of both, different where the values of the secrets are.
    Raises AlreadyExists, UnknownName or DependencyCycle, and then stores nothing.
    """
    values = {"hash": environment, "variables": dict(variables), "secrets": sorted(secrets)}
    connection.execute(insert(environments).prefix_with("OR IGNORE").values(values))
    group_id = _group(connection, now, group, new_group)
    names = dict(connection.execute(select(jobs.c.name, jobs.c.id).where(jobs.c.group_id == group_id)).tuples().all())
    _refuse_taken(group, configs, names)
    rows = [
        {
            "group_id": group_id,
            "name": config.name,
            "state": JobState.PENDING,
            "config": config.model_dump(mode="json"),
            "environment": environment,
            "created_at": now,
        }
        for config in configs
    ]
    statement = insert(jobs).returning(jobs.c.id, sort_by_parameter_order=True)
    ids = list(connection.execute(statement, rows).scalars())
    names |= {config.name: job_id for config, job_id in zip(configs, ids, strict=True)}
    events = [{"at": now, "job_id": job_id, "kind": "submitted", "to_state": JobState.PENDING} for job_id in ids]
    connection.execute(insert(schema.events), events)
    edges = {job_id: _parents(connection, config, names, group) for job_id, config in zip(ids, configs, strict=True)}
    _refuse_cycles(edges, {job_id: config.name for job_id, config in zip(ids, configs, strict=True)})
    arrows = [
        {"job_id": job_id, "parent_id": parent, "kind": dependency.kind}
        for job_id, parents in edges.items()
        for parent, dependency in parents.items()
    ]
    if arrows:
        connection.execute(insert(dependencies), arrows)
    return ids


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


def free_name(connection: Connection, group: str, stem: str) -> str:
    """Return `stem`, or `stem-2`, `stem-3`, … : the first that names no job of `group`."""
    taken = set(
        connection.execute(
            select(jobs.c.name).join(groups, groups.c.id == jobs.c.group_id).where(groups.c.name == group)
        ).scalars()
    )
    name, number = stem, 1
    while name in taken:
        number += 1
        name = f"{stem}-{number}"
    return name


def _group(connection: Connection, now: datetime, name: str, new: bool) -> int:
    found = connection.execute(select(groups.c.id).where(groups.c.name == name)).scalar_one_or_none()
    if found is None:
        result = connection.execute(insert(groups).values(name=name, created_at=now))
        return int(result.inserted_primary_key[0])  # type: ignore[index]
    if new:
        raise AlreadyExists(
            f"There is a group {name!r} already: choose another name, or leave it out to get a new one."
        )
    return int(found)


def _parents(
    connection: Connection, config: JobConfig, siblings: Mapping[str, int], group: str
) -> dict[int, Dependency]:
    found: dict[int, Dependency] = {}
    for dependency in config.depends_on:
        parent = _resolve(connection, dependency.job, siblings, group)
        if parent is None:
            known = nearest(str(dependency.job), siblings)
            raise UnknownName(f"The job {config.name!r} depends on {dependency.job!r}, which does not exist.{known}")
        if parent in found:
            raise InvalidInput(f"The job {config.name!r} depends on {dependency.job!r} twice.")
        found[parent] = dependency
    return found


def _resolve(connection: Connection, job: int | str, siblings: Mapping[str, int], group: str) -> int | None:
    if isinstance(job, int):
        return connection.execute(select(jobs.c.id).where(jobs.c.id == job)).scalar_one_or_none()
    other, slash, name = job.partition("/")
    if not slash or other == group:
        return siblings.get(name if slash else job)
    return connection.execute(
        select(jobs.c.id)
        .join(groups, groups.c.id == jobs.c.group_id)
        .where(groups.c.name == other, jobs.c.name == name)
    ).scalar_one_or_none()


def _refuse_cycles(edges: Mapping[int, Mapping[int, Dependency]], names: Mapping[int, str]) -> None:
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
