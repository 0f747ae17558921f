"""The tables. The schema refuses what must never be: unknown states, an end without a time, two live attempts."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import (
    JSON,
    CheckConstraint,
    Column,
    Dialect,
    Float,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
    text,
)
from sqlalchemy.types import TypeDecorator

from metta_jobs.states import LIVE, TERMINAL, DependencyKind, JobState

metadata = MetaData()

#: Wishes that people leave for the daemon in `jobs.wish`.
KILL, FORCE_KILL, RETRY = "kill", "force_kill", "retry"


class UtcTime(TypeDecorator[datetime]):
    """A moment in UTC, stored as ISO 8601 text with its zone, so that text order is time order."""

    impl = String(32)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> str | None:
        return None if value is None else value.astimezone(UTC).isoformat(timespec="microseconds")

    def process_result_value(self, value: Any | None, dialect: Dialect) -> datetime | None:
        return None if value is None else datetime.fromisoformat(value)


def _among(column: str, values: frozenset[JobState] | type[JobState] | type[DependencyKind]) -> str:
    return f"{column} IN ({', '.join(sorted(repr(value.value) for value in values))})"


capacity = Table(
    "capacity",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("cpus", Float, nullable=False),
    Column("gpus", JSON, nullable=False),
    Column("max_parallel", Integer),
    Column("found_at", UtcTime, nullable=False),
    CheckConstraint("id = 1", name="ck_capacity_one"),
)

environments = Table(
    "environments",
    metadata,
    Column("hash", String(64), primary_key=True),
    Column("variables", JSON, nullable=False),
    Column("secrets", JSON, nullable=False),  # names only; the values are never stored
)

groups = Table(
    "groups",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("name", String(128), nullable=False, unique=True),
    Column("created_at", UtcTime, nullable=False),
    sqlite_autoincrement=True,
)

jobs = Table(
    "jobs",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("group_id", ForeignKey("groups.id"), nullable=False),
    Column("name", String(128), nullable=False),
    Column("state", String(16), nullable=False),
    Column("config", JSON, nullable=False),
    Column("environment", ForeignKey("environments.hash"), nullable=False),
    Column("attempt", Integer, nullable=False, server_default=text("0")),
    Column("exit_code", Integer),
    Column("reason", Text),
    Column("wish", String(16)),
    Column("created_at", UtcTime, nullable=False),
    Column("finished_at", UtcTime),
    UniqueConstraint("group_id", "name", name="uq_jobs_group_name"),
    CheckConstraint(_among("state", JobState), name="ck_jobs_state"),
    CheckConstraint(f"(finished_at IS NOT NULL) = ({_among('state', TERMINAL)})", name="ck_jobs_finished"),
    CheckConstraint(f"attempt > 0 OR NOT ({_among('state', LIVE)})", name="ck_jobs_attempt"),
    CheckConstraint(f"wish IN ('{KILL}', '{FORCE_KILL}', '{RETRY}')", name="ck_jobs_wish"),
    Index("ix_jobs_state", "state"),
    Index("ix_jobs_wish", "wish", sqlite_where=text("wish IS NOT NULL")),
    sqlite_autoincrement=True,
)

attempts = Table(
    "attempts",
    metadata,
    Column("job_id", ForeignKey("jobs.id"), primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("state", String(16), nullable=False),
    Column("executor", String(16), nullable=False),
    Column("gpus", JSON, nullable=False),  # the devices given to it
    Column("cpus", Float, nullable=False),
    Column("claimed_at", UtcTime, nullable=False),
    Column("started_at", UtcTime),
    Column("finished_at", UtcTime),
    Column("duration_s", Float),
    Column("exit_code", Integer),
    Column("reason", Text),
    CheckConstraint(_among("state", LIVE | TERMINAL - {JobState.SKIPPED}), name="ck_attempts_state"),
    CheckConstraint(f"(finished_at IS NOT NULL) = ({_among('state', TERMINAL)})", name="ck_attempts_finished"),
    Index("uq_attempts_live", "job_id", unique=True, sqlite_where=text("finished_at IS NULL")),
)

dependencies = Table(
    "dependencies",
    metadata,
    Column("job_id", ForeignKey("jobs.id"), primary_key=True),
    Column("parent_id", ForeignKey("jobs.id"), primary_key=True),
    Column("kind", String(16), nullable=False),
    CheckConstraint(_among("kind", DependencyKind), name="ck_dependencies_kind"),
    CheckConstraint("job_id <> parent_id", name="ck_dependencies_self"),
    Index("ix_dependencies_parent", "parent_id"),
)

events = Table(
    "events",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("at", UtcTime, nullable=False),
    Column("job_id", ForeignKey("jobs.id"), nullable=False),
    Column("attempt", Integer),
    Column("kind", String(16), nullable=False),  # submitted, state, wish, note
    Column("from_state", String(16)),
    Column("to_state", String(16)),
    Column("reason", Text),
    Index("ix_events_job", "job_id"),
    sqlite_autoincrement=True,
)
