"""Jobs elsewhere: who of those that run them does not answer."""

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
)


def upgrade() -> None:
    for statement in STATEMENTS:
        op.execute(statement)
