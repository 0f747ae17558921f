"""What the daemon reads at each tick: what is live, what is pending, and everything a decision needs."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, and_, select

from metta_jobs.job import JobConfig
from metta_jobs.states import LIVE, DependencyKind, JobState
from metta_jobs.store.schema import FORCE_KILL, KILL, attempts, dependencies, environments, groups, jobs


@dataclass(frozen=True)
class LiveAttempt:
    """An attempt that holds slots and perhaps processes."""

    job_id: int
    group: str
    number: int
    state: JobState
    executor: str
    gpus: tuple[str, ...]
    cpus: float
    config: JobConfig
    kill: bool
    force: bool
    environment: str
    variables: dict[str, str]
    secrets: tuple[str, ...]
    reason: str | None

    @property
    def key(self) -> tuple[int, int]:
        """(job id, attempt number): what an executor knows it by."""
        return self.job_id, self.number


@dataclass(frozen=True)
class Parent:
    """A job that a pending job waits for."""

    job_id: int
    label: str
    state: JobState
    kind: DependencyKind


@dataclass(frozen=True)
class PendingJob:
    """A job that waits, and the slots that it wants."""

    job_id: int
    gpus: int
    cpus: float
    parents: tuple[Parent, ...]


@dataclass(frozen=True)
class Holding:
    """Slots of this machine that a live attempt holds."""

    job_id: int
    gpus: tuple[str, ...]
    cpus: float


def live_attempts(connection: Connection) -> list[LiveAttempt]:
    """Every attempt that has not ended, by job id."""
    rows = connection.execute(
        select(
            jobs.c.id,
            jobs.c.state,
            jobs.c.wish,
            jobs.c.config,
            jobs.c.reason,
            groups.c.name.label("group_name"),
            attempts.c.number,
            attempts.c.executor,
            attempts.c.gpus,
            attempts.c.cpus,
            environments.c.hash,
            environments.c.variables,
            environments.c.secrets,
        )
        .join(groups, groups.c.id == jobs.c.group_id)
        .join(attempts, and_(attempts.c.job_id == jobs.c.id, attempts.c.finished_at.is_(None)))
        .join(environments, environments.c.hash == jobs.c.environment)
        .where(jobs.c.state.in_(LIVE))
        .order_by(jobs.c.id)
    )
    return [
        LiveAttempt(
            job_id=row.id,
            group=row.group_name,
            number=row.number,
            state=JobState(row.state),
            executor=row.executor,
            gpus=tuple(row.gpus),
            cpus=row.cpus,
            config=_config(row.config),
            kill=row.wish in (KILL, FORCE_KILL),
            force=row.wish == FORCE_KILL,
            environment=row.hash,
            variables=row.variables,
            secrets=tuple(row.secrets),
            reason=row.reason,
        )
        for row in rows
    ]


def pending_jobs(connection: Connection) -> list[PendingJob]:
    """Every pending job that nobody wants killed, with what it waits for, oldest first."""
    parents: dict[int, list[Parent]] = defaultdict(list)
    parent, child, group = jobs.alias("parent"), jobs.alias("child"), groups.alias("parent_group")
    for row in connection.execute(
        select(
            dependencies.c.job_id,
            dependencies.c.kind,
            parent.c.id,
            parent.c.name,
            parent.c.state,
            (parent.c.group_id != child.c.group_id).label("elsewhere"),
            group.c.name.label("group_name"),
        )
        .join(child, child.c.id == dependencies.c.job_id)
        .join(parent, parent.c.id == dependencies.c.parent_id)
        .join(group, group.c.id == parent.c.group_id)
        .where(child.c.state == JobState.PENDING, child.c.wish.is_(None))
        .order_by(parent.c.id)
    ):
        label = f"{row.group_name}/{row.name}" if row.elsewhere else row.name
        parents[row.job_id].append(Parent(row.id, label, JobState(row.state), DependencyKind(row.kind)))
    rows = connection.execute(
        select(jobs.c.id, jobs.c.config["gpus"].as_integer(), jobs.c.config["cpus"].as_float())
        .where(jobs.c.state == JobState.PENDING, jobs.c.wish.is_(None))
        .order_by(jobs.c.id)
    )
    return [PendingJob(job_id, gpus, cpus, tuple(parents[job_id])) for job_id, gpus, cpus in rows]


def holdings(connection: Connection) -> list[Holding]:
    """The slots of this machine that are held, by job id."""
    rows = connection.execute(
        select(attempts.c.job_id, attempts.c.gpus, attempts.c.cpus)
        .where(attempts.c.finished_at.is_(None), attempts.c.executor == "local")
        .order_by(attempts.c.job_id)
    )
    return [Holding(row.job_id, tuple(row.gpus), row.cpus) for row in rows]


def _config(stored: dict[str, Any]) -> JobConfig:
    return JobConfig.model_validate(stored)


def unfinished_states(connection: Connection) -> set[JobState]:
    """The states, among pending and live ones, that some job is in; empty when there is nothing to do."""
    rows = connection.execute(select(jobs.c.state).where(jobs.c.state.in_(LIVE | {JobState.PENDING})).distinct())
    wishes = connection.execute(select(jobs.c.state).where(jobs.c.wish.is_not(None)).distinct())
    return {JobState(state) for state in [*rows.scalars(), *wishes.scalars()]}
