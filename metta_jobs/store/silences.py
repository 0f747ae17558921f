"""Who has stopped answering the daemon, for readers to know that what they see of some jobs is old."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from datetime import datetime

from metta_jobs.store.words import to_text
from metta_jobs.views import Silence


def save(connection: sqlite3.Connection, silences: Mapping[str, Silence]) -> None:
    """Replace what is stored: silences by the executor's name."""
    connection.execute("DELETE FROM silences")
    connection.executemany(
        "INSERT INTO silences (executor, who, since, why) VALUES (?, ?, ?, ?)",
        [(executor, row.who, to_text(row.since), row.why) for executor, row in silences.items()],
    )


def load(connection: sqlite3.Connection) -> list[Silence]:
    """Who does not answer now."""
    return [
        Silence(row["who"], datetime.fromisoformat(row["since"]), row["why"])
        for row in connection.execute("SELECT who, since, why FROM silences ORDER BY executor")
    ]
