"""Reading: snapshots of groups, jobs and events for people and programs."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, and_, func, select

from metta_jobs.paths import StateDir
from metta_jobs.states import DependencyKind, JobState
from metta_jobs.store.schema import attempts, dependencies, events, groups, jobs
from metta_jobs.views import Counts, EventView, GroupSummary, GroupView, JobView, ParentView


def group_summaries(connection: Connection) -> list[GroupSummary]:
    """All groups, newest last."""
    tally: dict[int, Counter[JobState]] = defaultdict(Counter)
    for row in connection.execute(
        select(jobs.c.group_id, jobs.c.state, func.count().label("n")).group_by(jobs.c.group_id, jobs.c.state)
    ):
        tally[row.group_id][JobState(row.state)] = row.n
    return [
        GroupSummary(row.name, row.created_at, Counts.of(tally[row.id]))
        for row in connection.execute(select(groups).order_by(groups.c.id))
    ]


def group_names(connection: Connection) -> list[str]:
    """The names of all groups, newest last."""
    return list(connection.execute(select(groups.c.name).order_by(groups.c.id)).scalars())


def group_view(connection: Connection, state_dir: StateDir, name: str) -> GroupView | None:
    """One group with its jobs, None when there is none of this name."""
    row = connection.execute(select(groups).where(groups.c.name == name)).one_or_none()
    if row is None:
        return None
    return GroupView(row.name, row.created_at, tuple(_jobs(connection, state_dir, jobs.c.group_id == row.id)))


def job_views(connection: Connection, state_dir: StateDir, job_ids: Sequence[int]) -> list[JobView]:
    """These jobs, in the order of their ids; ids that do not exist are left out."""
    return _jobs(connection, state_dir, jobs.c.id.in_(job_ids))


def event_views(
    connection: Connection, job_ids: Sequence[int], *, after: int = 0, limit: int | None = None
) -> list[EventView]:
    """Events of these jobs with an id greater than `after`, oldest first."""
    statement = (
        select(events, jobs.c.name, groups.c.name.label("group_name"))
        .join(jobs, jobs.c.id == events.c.job_id)
        .join(groups, groups.c.id == jobs.c.group_id)
        .where(events.c.job_id.in_(job_ids), events.c.id > after)
        .order_by(events.c.id)
        .limit(limit)
    )
    return [
        EventView(
            id=row.id,
            at=row.at,
            job_id=row.job_id,
            group=row.group_name,
            name=row.name,
            attempt=row.attempt,
            kind=row.kind,
            from_state=JobState(row.from_state) if row.from_state else None,
            to_state=JobState(row.to_state) if row.to_state else None,
            reason=row.reason,
        )
        for row in connection.execute(statement)
    ]


def _jobs(connection: Connection, state_dir: StateDir, which: ColumnElement[bool]) -> list[JobView]:
    newest = and_(attempts.c.job_id == jobs.c.id, attempts.c.number == jobs.c.attempt)
    rows = connection.execute(
        select(
            jobs,
            groups.c.name.label("group_name"),
            attempts.c.started_at,
            attempts.c.duration_s,
            attempts.c.executor,
        )
        .join(groups, groups.c.id == jobs.c.group_id)
        .outerjoin(attempts, newest)
        .where(which)
        .order_by(jobs.c.id)
    ).all()
    parents = _parents(connection, which)
    return [_view(row, state_dir, tuple(parents[row.id])) for row in rows]


def _parents(connection: Connection, which: ColumnElement[bool]) -> dict[int, list[ParentView]]:
    parent, parent_group = jobs.alias("parent"), groups.alias("parent_group")
    found: dict[int, list[ParentView]] = defaultdict(list)
    for row in connection.execute(
        select(
            dependencies.c.job_id,
            dependencies.c.kind,
            parent.c.id,
            parent.c.name,
            parent.c.state,
            parent_group.c.name.label("group_name"),
        )
        .join(jobs, jobs.c.id == dependencies.c.job_id)
        .join(parent, parent.c.id == dependencies.c.parent_id)
        .join(parent_group, parent_group.c.id == parent.c.group_id)
        .where(which)
        .order_by(parent.c.id)
    ):
        found[row.job_id].append(
            ParentView(row.id, row.group_name, row.name, JobState(row.state), DependencyKind(row.kind))
        )
    return found


def _view(row: Row[Any], state_dir: StateDir, parents: tuple[ParentView, ...]) -> JobView:
    state, config = JobState(row.state), row.config
    pending = state is JobState.PENDING
    return JobView(
        id=row.id,
        group=row.group_name,
        name=row.name,
        state=state,
        command=tuple(config["command"]),
        attempt=row.attempt,
        exit_code=row.exit_code,
        reason=row.reason,
        created_at=row.created_at,
        started_at=None if pending else row.started_at,
        finished_at=row.finished_at,
        duration_s=None if pending else _duration(row),
        kill_requested=row.wish in ("kill", "force_kill"),
        executor=row.executor or ("skypilot" if config.get("remote") else "local"),
        kind=config["kind"],
        gpus=config["gpus"],
        cpus=config["cpus"],
        timeout_s=config["timeout_s"],
        grace_s=config["grace_s"],
        metrics=tuple(config["metrics"]),
        parents=parents,
        folder=state_dir.attempt(row.id, row.attempt) if row.attempt else None,
    )


def _duration(row: Row[Any]) -> float | None:
    if row.duration_s is not None:
        return float(row.duration_s)
    if row.started_at is None:
        return None
    end: datetime = row.finished_at or datetime.now(row.started_at.tzinfo)
    return max(0.0, float((end - row.started_at).total_seconds()))
