"""A state folder with groups of known ages, rows and files."""

from __future__ import annotations

import os
from datetime import timedelta
from pathlib import Path

from metta_jobs.paths import StateDir
from metta_jobs.store.audit import audit
from metta_jobs.upkeep import folders, prune
from tests.store.rows import NOW, Rows, S, ago, fresh_store

MONTH = timedelta(days=30)


class World:
    """A state folder with groups of known ages."""

    def __init__(self, root: Path) -> None:
        self.dir = StateDir(root)
        self.store = fresh_store(self.dir.database)
        self.rows = Rows(self.store)

    def group(self, name: str, days: float, *paths: tuple[S, ...], environment: str = "h") -> list[int]:
        """A group whose jobs went through these states so many days ago; each has a folder with 100 kB in it."""
        group = self.rows.group(name, at=ago(days=days))
        ids = [
            self.rows.job(group, f"j{n}", *path, at=ago(days=days), environment=environment)
            for n, path in enumerate(paths)
        ]
        for job in ids:
            self.folder(job, days)
        return ids

    def folder(self, job: int, days: float) -> Path:
        attempt = self.dir.attempt(job, 1)
        attempt.mkdir(parents=True)
        (attempt / "output.log").write_bytes(b"x" * 100_000)
        for path in (attempt / "output.log", attempt, attempt.parent):
            os.utime(path, (ago(days=days).timestamp(),) * 2)
        return attempt.parent

    def plan(self, older_than: timedelta = MONTH, keep_last: int = 0) -> prune.Plan:
        return prune.plan(self.dir, self.store, NOW, older_than, keep_last)

    def prune(self, older_than: timedelta = MONTH, keep_last: int = 0) -> prune.Done:
        return prune.carry_out(self.dir, self.dir.database, self.plan(older_than, keep_last))

    def names(self) -> list[str]:
        with self.store.read() as connection:
            assert audit(connection) == []
            return [row[0] for row in connection.execute("SELECT name FROM groups ORDER BY id")]

    def folders(self) -> set[int]:
        return set(folders.job_folders(self.dir))

    def counts(self) -> dict[str, int]:
        tables = ("groups", "jobs", "attempts", "events", "dependencies", "deliveries", "environments")
        with self.store.read() as connection:
            return {t: connection.execute(f"SELECT count(*) FROM {t}").fetchone()[0] for t in tables}
