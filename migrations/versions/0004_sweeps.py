"""Sweeps and their trials."""

from __future__ import annotations

from alembic import op

revision = "0004"
down_revision = "0003"

STATEMENTS = (
    """
CREATE TABLE sweeps (
    id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
    name VARCHAR(128) NOT NULL,
    state VARCHAR(16) NOT NULL,
    reason TEXT,
    definition JSON NOT NULL,
    revision INTEGER DEFAULT 0 NOT NULL,
    created_at VARCHAR(32) NOT NULL,
    resumed_at VARCHAR(32) NOT NULL,
    paused_at VARCHAR(32),
    finished_at VARCHAR(32),
    CONSTRAINT ck_sweeps_state CHECK (state IN ('ended', 'running', 'stopped', 'validating')),
    CONSTRAINT ck_sweeps_finished CHECK ((finished_at IS NOT NULL) = (state IN ('ended', 'stopped'))),
    UNIQUE (name)
)
""",
    """
CREATE TABLE trials (
    id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
    sweep_id INTEGER NOT NULL,
    number INTEGER NOT NULL,
    origin VARCHAR(16) NOT NULL,
    state VARCHAR(16) NOT NULL,
    phase VARCHAR(128),
    params JSON NOT NULL,
    suggestion JSON,
    job VARCHAR(128),
    of_trial INTEGER,
    seed INTEGER,
    score FLOAT,
    cost FLOAT,
    seconds FLOAT,
    dollars FLOAT,
    reason TEXT,
    source VARCHAR(256),
    created_at VARCHAR(32) NOT NULL,
    finished_at VARCHAR(32),
    CONSTRAINT uq_trials_number UNIQUE (sweep_id, number),
    CONSTRAINT ck_trials_origin CHECK (origin IN ('imported', 'suggested', 'told', 'validation')),
    CONSTRAINT ck_trials_state CHECK (state IN ('dropped', 'failed', 'finished', 'lost', 'open', 'stopped')),
    CONSTRAINT ck_trials_finished CHECK ((finished_at IS NOT NULL) = (state <> 'open')),
    CONSTRAINT ck_trials_score CHECK ((score IS NOT NULL) = (state IN ('finished', 'stopped'))),
    FOREIGN KEY(sweep_id) REFERENCES sweeps (id)
)
""",
    "CREATE UNIQUE INDEX uq_trials_source ON trials (sweep_id, source) WHERE source IS NOT NULL",
)


def upgrade() -> None:
    for statement in STATEMENTS:
        op.execute(statement)
