"""What the doctor looks at: a state folder, its database where that can be read, and its settings."""

from __future__ import annotations

import sqlite3
from datetime import datetime

from metta_jobs.errors import InvalidInput
from metta_jobs.paths import StateDir, find_project
from metta_jobs.settings import Settings


class Patient:
    """A state folder under examination. `connection` is None where the database cannot be read, `settings` where they
    cannot; `settings_error` then says why."""

    def __init__(self, state_dir: StateDir, now: datetime) -> None:
        self.dir = state_dir
        self.now = now
        self.connection: sqlite3.Connection | None = None
        self.current = False  # the schema is the one that we know
        self.settings: Settings | None = None
        self.settings_error: str | None = None
        try:
            self.settings = Settings.load(find_project(state_dir.root.parent))
        except InvalidInput as error:
            self.settings_error = str(error)

    @property
    def rows(self) -> sqlite3.Connection | None:
        """The database, None where it is not there, damaged, or of a schema that is not ours."""
        return self.connection if self.current else None

    def remote_jobs(self) -> int:
        """How many jobs on other machines have not ended; 0 where that cannot be read."""
        if self.rows is None:
            return 0
        (count,) = self.rows.execute(
            "SELECT count(*) FROM jobs WHERE finished_at IS NULL AND json_extract(config, '$.remote') IS NOT NULL"
        ).fetchone()
        return int(count)

    def close(self) -> None:
        """Let go of the database."""
        if self.connection is not None:
            self.connection.close()
            self.connection = None
            self.current = False
