"""The first schema: groups, jobs, attempts, dependencies, events."""

from __future__ import annotations

from alembic import op

revision = "0001"
down_revision = None

# A released schema never changes again, so it stands here as text and not as the program's present tables.
STATEMENTS = (
    """
CREATE TABLE capacity (
    id INTEGER NOT NULL,
    cpus FLOAT NOT NULL,
    gpus JSON NOT NULL,
    max_parallel INTEGER,
    found_at VARCHAR(32) NOT NULL,
    PRIMARY KEY (id),
    CONSTRAINT ck_capacity_one CHECK (id = 1)
)
""",
    """
CREATE TABLE environments (
    hash VARCHAR(64) NOT NULL,
    variables JSON NOT NULL,
    secrets JSON NOT NULL,
    PRIMARY KEY (hash)
)
""",
    """
CREATE TABLE groups (
    id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
    name VARCHAR(128) NOT NULL,
    created_at VARCHAR(32) NOT NULL,
    UNIQUE (name)
)
""",
    """
CREATE TABLE jobs (
    id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
    group_id INTEGER NOT NULL,
    name VARCHAR(128) NOT NULL,
    state VARCHAR(16) NOT NULL,
    config JSON NOT NULL,
    environment VARCHAR(64) NOT NULL,
    attempt INTEGER DEFAULT 0 NOT NULL,
    exit_code INTEGER,
    reason TEXT,
    wish VARCHAR(16),
    created_at VARCHAR(32) NOT NULL,
    finished_at VARCHAR(32),
    CONSTRAINT uq_jobs_group_name UNIQUE (group_id, name),
    CONSTRAINT ck_jobs_state CHECK (state IN ('failed', 'killed', 'launching', 'lost', 'pending', 'running', 'skipped', 'succeeded', 'timed_out')),
    CONSTRAINT ck_jobs_finished CHECK ((finished_at IS NOT NULL) = (state IN ('failed', 'killed', 'lost', 'skipped', 'succeeded', 'timed_out'))),
    CONSTRAINT ck_jobs_attempt CHECK (attempt > 0 OR NOT (state IN ('launching', 'running'))),
    CONSTRAINT ck_jobs_wish CHECK (wish IN ('kill', 'force_kill', 'retry')),
    FOREIGN KEY(group_id) REFERENCES groups (id),
    FOREIGN KEY(environment) REFERENCES environments (hash)
)
""",
    "CREATE INDEX ix_jobs_state ON jobs (state)",
    "CREATE INDEX ix_jobs_wish ON jobs (wish) WHERE wish IS NOT NULL",
    """
CREATE TABLE attempts (
    job_id INTEGER NOT NULL,
    number INTEGER NOT NULL,
    state VARCHAR(16) NOT NULL,
    executor VARCHAR(16) NOT NULL,
    gpus JSON NOT NULL,
    cpus FLOAT NOT NULL,
    claimed_at VARCHAR(32) NOT NULL,
    started_at VARCHAR(32),
    finished_at VARCHAR(32),
    duration_s FLOAT,
    exit_code INTEGER,
    reason TEXT,
    PRIMARY KEY (job_id, number),
    CONSTRAINT ck_attempts_state CHECK (state IN ('failed', 'killed', 'launching', 'lost', 'running', 'succeeded', 'timed_out')),
    CONSTRAINT ck_attempts_finished CHECK ((finished_at IS NOT NULL) = (state IN ('failed', 'killed', 'lost', 'skipped', 'succeeded', 'timed_out'))),
    FOREIGN KEY(job_id) REFERENCES jobs (id)
)
""",
    "CREATE UNIQUE INDEX uq_attempts_live ON attempts (job_id) WHERE finished_at IS NULL",
    """
CREATE TABLE dependencies (
    job_id INTEGER NOT NULL,
    parent_id INTEGER NOT NULL,
    kind VARCHAR(16) NOT NULL,
    PRIMARY KEY (job_id, parent_id),
    CONSTRAINT ck_dependencies_kind CHECK (kind IN ('afterany', 'afternotok', 'afterok')),
    CONSTRAINT ck_dependencies_self CHECK (job_id <> parent_id),
    FOREIGN KEY(job_id) REFERENCES jobs (id),
    FOREIGN KEY(parent_id) REFERENCES jobs (id)
)
""",
    "CREATE INDEX ix_dependencies_parent ON dependencies (parent_id)",
    """
CREATE TABLE events (
    id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
    at VARCHAR(32) NOT NULL,
    job_id INTEGER NOT NULL,
    attempt INTEGER,
    kind VARCHAR(16) NOT NULL,
    from_state VARCHAR(16),
    to_state VARCHAR(16),
    reason TEXT,
    FOREIGN KEY(job_id) REFERENCES jobs (id)
)
""",
    "CREATE INDEX ix_events_job ON events (job_id)",
)


def upgrade() -> None:
    for statement in STATEMENTS:
        op.execute(statement)
