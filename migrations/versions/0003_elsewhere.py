"""Jobs elsewhere: who of those that run them does not answer. Progress and health of runs."""

from __future__ import annotations

from alembic import op

revision = "0003"
down_revision = "0002"

STATEMENTS = (
    """
CREATE TABLE silences (
    executor VARCHAR(16) NOT NULL,
    who VARCHAR(32) NOT NULL,
    since VARCHAR(32) NOT NULL,
    why TEXT NOT NULL,
    PRIMARY KEY (executor)
)
""",
    "ALTER TABLE groups ADD COLUMN health JSON DEFAULT '[]' NOT NULL",
    """
CREATE TABLE progress (
    job_id INTEGER NOT NULL,
    attempt INTEGER NOT NULL,
    steps FLOAT,
    total FLOAT,
    reward FLOAT,
    sps FLOAT,
    updated_at VARCHAR(32),
    metrics JSON NOT NULL,
    final INTEGER NOT NULL,
    PRIMARY KEY (job_id, attempt),
    FOREIGN KEY(job_id) REFERENCES jobs (id)
)
""",
    "CREATE INDEX ix_progress_open ON progress (job_id) WHERE final = 0",
    """
CREATE TABLE health (
    job_id INTEGER NOT NULL,
    attempt INTEGER NOT NULL,
    rule VARCHAR(1000) NOT NULL,
    action VARCHAR(16) NOT NULL,
    said TEXT NOT NULL,
    at VARCHAR(32) NOT NULL,
    well_at VARCHAR(32),
    PRIMARY KEY (job_id, attempt, rule),
    FOREIGN KEY(job_id) REFERENCES jobs (id)
)
""",
)


def upgrade() -> None:
    for statement in STATEMENTS:
        op.execute(statement)
