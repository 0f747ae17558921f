"""The tables. The schema refuses what must never be: unknown states, an end without a time, two live attempts.

They are declared with SQLAlchemy, which the migrations are held against and programs may read them with. The queue
itself talks to SQLite directly: importing SQLAlchemy takes longer than all of `metta job list` may.
"""

from __future__ import annotations

from enum import StrEnum

from sqlalchemy import (
    JSON,
    CheckConstraint,
    Column,
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

from metta_jobs.states import LIVE, TERMINAL, DependencyKind, JobState
from metta_jobs.store.words import FORCE_KILL, KILL, RETRY, DeliveryState, Origin, SweepState, TrialState

metadata = MetaData()

#: A moment in UTC as ISO 8601 text with its zone, so that the order of texts is the order of times.
Utc = String(32)


def _among(column: str, values: frozenset[JobState] | type[StrEnum]) -> str:
    return f"{column} IN ({', '.join(sorted(repr(value.value) for value in values))})"


_UNFINISHED = text("finished_at IS NULL")

capacity = Table(
    "capacity",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("cpus", Float, nullable=False),
    Column("memory_gb", Float, nullable=False),
    Column("gpus", JSON, nullable=False),
    Column("busy_gpus", JSON, nullable=False),  # GPU → what somebody else's program does there
    Column("max_parallel", Integer),
    Column("reserve_after_s", Float, nullable=False),
    Column("found_at", Utc, nullable=False),
    CheckConstraint("id = 1", name="ck_capacity_one"),
)

silences = Table(
    "silences",
    metadata,
    Column("executor", String(16), primary_key=True),
    Column("who", String(32), nullable=False),
    Column("since", Utc, nullable=False),
    Column("why", Text, nullable=False),
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
    Column("created_at", Utc, nullable=False),
    Column("priority", Integer, nullable=False, server_default=text("0")),
    Column("max_parallel", Integer),
    Column("max_failures", Integer),
    Column("on_end", JSON, nullable=False, server_default=text("'[]'")),
    Column("paused_at", Utc),
    Column("health", JSON, nullable=False, server_default=text("'[]'")),
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
    Column("attempts_before", Integer, nullable=False, server_default=text("0")),  # when a person last (re)tried it
    Column("exit_code", Integer),
    Column("reason", Text),
    Column("wish", String(16)),
    Column("executor", String(16), nullable=False, server_default=text("'local'")),  # where it is to run
    Column("gpus", Float, nullable=False, server_default=text("0")),  # slots, out of its config
    Column("cpus", Float, nullable=False, server_default=text("1")),
    Column("memory_gb", Float, nullable=False, server_default=text("0")),
    Column("queue_timeout_s", Float),
    Column("rank", Integer, nullable=False, server_default=text("0")),  # its priority plus its group's
    Column("place", Float, nullable=False),  # order within a rank: by default the id, which is age
    Column("blocked_by", ForeignKey("jobs.id")),  # a parent that it still waits for; none: it waits for slots only
    Column("ready_at", Utc),  # since when it waits for slots only
    Column("not_before", Utc),  # the end of the pause before another attempt
    Column("created_at", Utc, nullable=False),
    Column("finished_at", Utc),
    UniqueConstraint("group_id", "name", name="uq_jobs_group_name"),
    CheckConstraint(_among("state", JobState), name="ck_jobs_state"),
    CheckConstraint(f"(finished_at IS NOT NULL) = ({_among('state', TERMINAL)})", name="ck_jobs_finished"),
    CheckConstraint(f"attempt > 0 OR NOT ({_among('state', LIVE)})", name="ck_jobs_attempt"),
    CheckConstraint(f"wish IN ('{KILL}', '{FORCE_KILL}', '{RETRY}')", name="ck_jobs_wish"),
    CheckConstraint(f"blocked_by IS NULL OR state = '{JobState.PENDING}'", name="ck_jobs_blocked"),
    Index("ix_jobs_group_state", "group_id", "state"),
    Index("ix_jobs_unfinished", "state", sqlite_where=_UNFINISHED),
    Index("ix_jobs_wish", "wish", sqlite_where=text("wish IS NOT NULL")),
    Index("ix_jobs_blocked_by", "blocked_by", sqlite_where=text("blocked_by IS NOT NULL")),
    Index(
        "ix_jobs_queue",
        text("rank DESC"),
        "place",
        "id",
        sqlite_where=text(f"state = '{JobState.PENDING}' AND blocked_by IS NULL"),
    ),
    sqlite_autoincrement=True,
)

attempts = Table(
    "attempts",
    metadata,
    Column("job_id", ForeignKey("jobs.id"), primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("state", String(16), nullable=False),
    Column("executor", String(16), nullable=False),
    Column("lane", String(64), nullable=False, server_default=text("''")),  # attempts of one lane follow one another
    Column("boot", String(64), nullable=False, server_default=text("''")),  # the machine's boot that it was claimed in
    Column("gpus", JSON, nullable=False),  # the devices given to it
    Column("gpu_share", Float, nullable=False, server_default=text("1")),  # of each of them
    Column("cpus", Float, nullable=False),
    Column("memory_gb", Float, nullable=False, server_default=text("0")),
    Column("claimed_at", Utc, nullable=False),
    Column("started_at", Utc),
    Column("finished_at", Utc),
    Column("duration_s", Float),
    Column("exit_code", Integer),
    Column("reason", Text),
    Column("remote", JSON),  # what its executor knows of it elsewhere: views.RemoteFacts
    CheckConstraint(_among("state", LIVE | TERMINAL - {JobState.SKIPPED}), name="ck_attempts_state"),
    CheckConstraint(f"(finished_at IS NOT NULL) = ({_among('state', TERMINAL)})", name="ck_attempts_finished"),
    Index("uq_attempts_live", "job_id", unique=True, sqlite_where=_UNFINISHED),
)

progress = Table(
    "progress",
    metadata,
    Column("job_id", ForeignKey("jobs.id"), primary_key=True),
    Column("attempt", Integer, primary_key=True),
    Column("steps", Float),
    Column("total", Float),
    Column("reward", Float),
    Column("sps", Float),
    Column("updated_at", Utc),  # when the run last logged
    Column("metrics", JSON, nullable=False),  # the last value of each that is followed; "NaN" is one
    Column("final", Integer, nullable=False),  # read when the attempt had ended
    Index("ix_progress_open", "job_id", sqlite_where=text("final = 0")),
)

health = Table(
    "health",
    metadata,
    Column("job_id", ForeignKey("jobs.id"), primary_key=True),
    Column("attempt", Integer, primary_key=True),
    Column("rule", String(1000), primary_key=True),  # the rule itself, as JSON
    Column("action", String(16), nullable=False),  # what was done
    Column("said", Text, nullable=False),
    Column("at", Utc, nullable=False),
    Column("well_at", Utc),  # when nothing was wrong yet
)

dependencies = Table(
    "dependencies",
    metadata,
    Column("job_id", ForeignKey("jobs.id"), primary_key=True),
    Column("parent_id", ForeignKey("jobs.id"), primary_key=True),
    Column("kind", String(16), nullable=False),
    Column("of_group", ForeignKey("groups.id")),  # set when the job waits for a whole group, of which this is a part
    CheckConstraint(_among("kind", DependencyKind), name="ck_dependencies_kind"),
    CheckConstraint("job_id <> parent_id", name="ck_dependencies_self"),
    Index("ix_dependencies_parent", "parent_id", "kind"),
)

events = Table(
    "events",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("at", Utc, nullable=False),
    Column("group_id", ForeignKey("groups.id"), nullable=False),
    Column("job_id", ForeignKey("jobs.id")),  # none: it happened to the group
    Column("attempt", Integer),
    Column("kind", String(16), nullable=False),  # submitted, state, wish, edit, note, hook, health
    Column("from_state", String(16)),
    Column("to_state", String(16)),
    Column("reason", Text),
    Index("ix_events_job", "job_id"),
    sqlite_autoincrement=True,
)

deliveries = Table(
    "deliveries",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("group_id", ForeignKey("groups.id"), nullable=False),
    Column("job_id", ForeignKey("jobs.id")),  # none: the whole group has ended
    Column("hook", JSON, nullable=False),
    Column("facts", JSON, nullable=False),
    Column("state", String(16), nullable=False),
    Column("tries", Integer, nullable=False, server_default=text("0")),
    Column("error", Text),
    Column("created_at", Utc, nullable=False),
    Column("not_before", Utc),
    Column("finished_at", Utc),
    CheckConstraint(_among("state", DeliveryState), name="ck_deliveries_state"),
    Index("ix_deliveries_waiting", "state", sqlite_where=_UNFINISHED),
    sqlite_autoincrement=True,
)

sweeps = Table(
    "sweeps",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("name", String(128), nullable=False, unique=True),  # of its group of jobs, too
    Column("state", String(16), nullable=False),
    Column("reason", Text),  # why it has ended
    Column("definition", JSON, nullable=False),
    Column("revision", Integer, nullable=False, server_default=text("0")),  # another one with each change of a trial
    Column("created_at", Utc, nullable=False),
    Column("resumed_at", Utc, nullable=False),  # failures in a row count from here
    Column("paused_at", Utc),
    Column("finished_at", Utc),
    CheckConstraint(_among("state", SweepState), name="ck_sweeps_state"),
    CheckConstraint("(finished_at IS NOT NULL) = (state IN ('ended', 'stopped'))", name="ck_sweeps_finished"),
    sqlite_autoincrement=True,
)

trials = Table(
    "trials",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("sweep_id", ForeignKey("sweeps.id"), nullable=False),
    Column("number", Integer, nullable=False),
    Column("origin", String(16), nullable=False),
    Column("state", String(16), nullable=False),
    Column("phase", String(128)),
    Column("params", JSON, nullable=False),
    Column("suggestion", JSON),  # source, why, prediction
    Column("job", String(128)),  # the name of its training's job
    Column("of_trial", Integer),  # the number of the trial that it runs again
    Column("seed", Integer),
    Column("score", Float),
    Column("cost", Float),
    Column("seconds", Float),
    Column("dollars", Float),
    Column("reason", Text),
    Column("source", String(256)),  # where it was imported from: once
    Column("created_at", Utc, nullable=False),
    Column("finished_at", Utc),
    UniqueConstraint("sweep_id", "number", name="uq_trials_number"),
    CheckConstraint(_among("origin", Origin), name="ck_trials_origin"),
    CheckConstraint(_among("state", TrialState), name="ck_trials_state"),
    CheckConstraint("(finished_at IS NOT NULL) = (state <> 'open')", name="ck_trials_finished"),
    CheckConstraint("(score IS NOT NULL) = (state IN ('finished', 'stopped'))", name="ck_trials_score"),
    Index("uq_trials_source", "sweep_id", "source", unique=True, sqlite_where=text("source IS NOT NULL")),
    sqlite_autoincrement=True,
)
