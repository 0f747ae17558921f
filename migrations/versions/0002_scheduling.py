"""Scheduling, retries, hooks: priorities, limits, pauses, lanes, memory, what blocks a job, events of groups, deliveries."""

from __future__ import annotations

from alembic import op

revision = "0002"
down_revision = "0001"

# SQLite cannot add constraints to a table, so each is made anew around its rows, in one transaction.
COPIED = {
    "groups": "id, name, created_at",
    "jobs": "id, group_id, name, state, config, environment, attempt, exit_code, reason, wish, created_at, finished_at",
    "attempts": "job_id, number, state, executor, gpus, cpus, claimed_at, started_at, finished_at, duration_s, "
    "exit_code, reason",
    "dependencies": "job_id, parent_id, kind",
    "events": "id, at, job_id, attempt, kind, from_state, to_state, reason",
}

STATEMENTS = (
    """
CREATE TABLE capacity (
    id INTEGER NOT NULL,
    cpus FLOAT NOT NULL,
    memory_gb FLOAT NOT NULL,
    gpus JSON NOT NULL,
    busy_gpus JSON NOT NULL,
    max_parallel INTEGER,
    reserve_after_s FLOAT NOT NULL,
    found_at VARCHAR(32) NOT NULL,
    PRIMARY KEY (id),
    CONSTRAINT ck_capacity_one CHECK (id = 1)
)
""",
    """
CREATE TABLE groups (
    id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
    name VARCHAR(128) NOT NULL,
    created_at VARCHAR(32) NOT NULL,
    priority INTEGER DEFAULT 0 NOT NULL,
    max_parallel INTEGER,
    max_failures INTEGER,
    on_end JSON DEFAULT '[]' NOT NULL,
    paused_at VARCHAR(32),
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
    attempts_before INTEGER DEFAULT 0 NOT NULL,
    exit_code INTEGER,
    reason TEXT,
    wish VARCHAR(16),
    executor VARCHAR(16) DEFAULT 'local' NOT NULL,
    gpus FLOAT DEFAULT 0 NOT NULL,
    cpus FLOAT DEFAULT 1 NOT NULL,
    memory_gb FLOAT DEFAULT 0 NOT NULL,
    queue_timeout_s FLOAT,
    rank INTEGER DEFAULT 0 NOT NULL,
    place FLOAT NOT NULL,
    blocked_by INTEGER,
    ready_at VARCHAR(32),
    not_before VARCHAR(32),
    created_at VARCHAR(32) NOT NULL,
    finished_at VARCHAR(32),
    CONSTRAINT uq_jobs_group_name UNIQUE (group_id, name),
    CONSTRAINT ck_jobs_state CHECK (state IN ('failed', 'killed', 'launching', 'lost', 'pending', 'running', 'skipped', 'succeeded', 'timed_out')),
    CONSTRAINT ck_jobs_finished CHECK ((finished_at IS NOT NULL) = (state IN ('failed', 'killed', 'lost', 'skipped', 'succeeded', 'timed_out'))),
    CONSTRAINT ck_jobs_attempt CHECK (attempt > 0 OR NOT (state IN ('launching', 'running'))),
    CONSTRAINT ck_jobs_wish CHECK (wish IN ('kill', 'force_kill', 'retry')),
    CONSTRAINT ck_jobs_blocked CHECK (blocked_by IS NULL OR state = 'pending'),
    FOREIGN KEY(group_id) REFERENCES groups (id),
    FOREIGN KEY(environment) REFERENCES environments (hash),
    FOREIGN KEY(blocked_by) REFERENCES jobs (id)
)
""",
    "CREATE INDEX ix_jobs_blocked_by ON jobs (blocked_by) WHERE blocked_by IS NOT NULL",
    "CREATE INDEX ix_jobs_group_state ON jobs (group_id, state)",
    "CREATE INDEX ix_jobs_queue ON jobs (rank DESC, place, id) WHERE state = 'pending' AND blocked_by IS NULL",
    "CREATE INDEX ix_jobs_unfinished ON jobs (state) WHERE finished_at IS NULL",
    "CREATE INDEX ix_jobs_wish ON jobs (wish) WHERE wish IS NOT NULL",
    """
CREATE TABLE attempts (
    job_id INTEGER NOT NULL,
    number INTEGER NOT NULL,
    state VARCHAR(16) NOT NULL,
    executor VARCHAR(16) NOT NULL,
    lane VARCHAR(64) DEFAULT '' NOT NULL,
    boot VARCHAR(64) DEFAULT '' NOT NULL,
    gpus JSON NOT NULL,
    gpu_share FLOAT DEFAULT 1 NOT NULL,
    cpus FLOAT NOT NULL,
    memory_gb FLOAT DEFAULT 0 NOT NULL,
    claimed_at VARCHAR(32) NOT NULL,
    started_at VARCHAR(32),
    finished_at VARCHAR(32),
    duration_s FLOAT,
    exit_code INTEGER,
    reason TEXT,
    remote JSON,
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
    of_group INTEGER,
    PRIMARY KEY (job_id, parent_id),
    CONSTRAINT ck_dependencies_kind CHECK (kind IN ('afterany', 'afternotok', 'afterok')),
    CONSTRAINT ck_dependencies_self CHECK (job_id <> parent_id),
    FOREIGN KEY(job_id) REFERENCES jobs (id),
    FOREIGN KEY(parent_id) REFERENCES jobs (id),
    FOREIGN KEY(of_group) REFERENCES groups (id)
)
""",
    "CREATE INDEX ix_dependencies_parent ON dependencies (parent_id, kind)",
    """
CREATE TABLE events (
    id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
    at VARCHAR(32) NOT NULL,
    group_id INTEGER NOT NULL,
    job_id INTEGER,
    attempt INTEGER,
    kind VARCHAR(16) NOT NULL,
    from_state VARCHAR(16),
    to_state VARCHAR(16),
    reason TEXT,
    FOREIGN KEY(group_id) REFERENCES groups (id),
    FOREIGN KEY(job_id) REFERENCES jobs (id)
)
""",
    "CREATE INDEX ix_events_job ON events (job_id)",
    """
CREATE TABLE deliveries (
    id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
    group_id INTEGER NOT NULL,
    job_id INTEGER,
    hook JSON NOT NULL,
    facts JSON NOT NULL,
    state VARCHAR(16) NOT NULL,
    tries INTEGER DEFAULT 0 NOT NULL,
    error TEXT,
    created_at VARCHAR(32) NOT NULL,
    not_before VARCHAR(32),
    finished_at VARCHAR(32),
    CONSTRAINT ck_deliveries_state CHECK (state IN ('delivered', 'given_up', 'waiting')),
    FOREIGN KEY(group_id) REFERENCES groups (id),
    FOREIGN KEY(job_id) REFERENCES jobs (id)
)
""",
    "CREATE INDEX ix_deliveries_waiting ON deliveries (state) WHERE finished_at IS NULL",
)

FILL = (
    "INSERT INTO groups (id, name, created_at) SELECT id, name, created_at FROM old_groups",
    """
INSERT INTO jobs (id, group_id, name, state, config, environment, attempt, exit_code, reason, wish, created_at,
                  finished_at, place, gpus, cpus)
SELECT id, group_id, name, state, config, environment, attempt, exit_code, reason, wish, created_at, finished_at, id,
       coalesce(json_extract(config, '$.gpus'), 0), coalesce(json_extract(config, '$.cpus'), 1)
FROM old_jobs
""",
    """
INSERT INTO attempts (job_id, number, state, executor, gpus, cpus, claimed_at, started_at, finished_at, duration_s,
                      exit_code, reason)
SELECT job_id, number, state, executor, gpus, cpus, claimed_at, started_at, finished_at, duration_s, exit_code, reason
FROM old_attempts
""",
    "INSERT INTO dependencies (job_id, parent_id, kind) SELECT job_id, parent_id, kind FROM old_dependencies",
    """
INSERT INTO events (id, at, group_id, job_id, attempt, kind, from_state, to_state, reason)
SELECT e.id, e.at, j.group_id, e.job_id, e.attempt, e.kind, e.from_state, e.to_state, e.reason
FROM old_events AS e JOIN old_jobs AS j ON j.id = e.job_id
""",
    """
UPDATE jobs SET blocked_by = (
    SELECT max(p.id) FROM dependencies AS d JOIN jobs AS p ON p.id = d.parent_id
    WHERE d.job_id = jobs.id AND NOT (p.finished_at IS NOT NULL AND (
        d.kind = 'afterany' OR (d.kind = 'afterok') = (p.state = 'succeeded')))
) WHERE state = 'pending'
""",
    "UPDATE jobs SET ready_at = created_at WHERE state = 'pending' AND blocked_by IS NULL",
)


def upgrade() -> None:
    for table, columns in COPIED.items():
        op.execute(f"CREATE TEMP TABLE old_{table} AS SELECT {columns} FROM {table}")
    for table in ("capacity", "events", "dependencies", "attempts", "jobs", "groups"):
        op.execute(f"DROP TABLE {table}")
    for statement in (*STATEMENTS, *FILL):
        op.execute(statement)
    for table in COPIED:
        op.execute(f"DROP TABLE temp.old_{table}")
