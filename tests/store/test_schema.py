from __future__ import annotations

import re
import sqlite3
from pathlib import Path

import pytest
from sqlalchemy import create_engine

from metta_jobs.store.engine import Store
from metta_jobs.store.migrate import HEAD, migrations_folder
from metta_jobs.store.schema import metadata


def _schema(path: Path) -> dict[str, str]:
    rows = sqlite3.connect(path).execute(
        "SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL AND name NOT LIKE 'sqlite_%'"
    )
    return {name: re.sub(r"\s+", " ", sql).replace("( ", "(").replace(" )", ")") for name, sql in rows}


def test_migrations_and_tables_say_the_same_to_the_letter(tmp_path: Path) -> None:
    Store(tmp_path / "migrated.sqlite").close()
    engine = create_engine(f"sqlite:///{tmp_path / 'declared.sqlite'}")
    metadata.create_all(engine)
    engine.dispose()
    migrated = _schema(tmp_path / "migrated.sqlite")
    del migrated["alembic_version"]
    assert migrated == _schema(tmp_path / "declared.sqlite")


def test_head_is_the_newest_migration() -> None:
    revisions = sorted(path.name[:4] for path in (migrations_folder() / "versions").glob("[0-9]*.py"))
    assert revisions[-1] == HEAD
    assert len(set(revisions)) == len(revisions)


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE jobs SET state = 'sleeping'",
        "UPDATE jobs SET state = 'succeeded'",  # an end without its time
        "UPDATE jobs SET finished_at = '2026-01-01'",  # a time without an end
        "UPDATE jobs SET state = 'running'",  # running without an attempt
        "UPDATE jobs SET wish = 'maybe'",
        "INSERT INTO jobs (group_id, name, state, config, environment, created_at) "
        "SELECT group_id, name, state, config, environment, created_at FROM jobs",
        "INSERT INTO dependencies VALUES (1, 1, 'afterok')",
        "INSERT INTO dependencies VALUES (1, 99, 'afterok')",
        "INSERT INTO attempts (job_id, number, state, executor, gpus, cpus, claimed_at) VALUES "
        "(1, 1, 'running', 'local', '[]', 1, ''), (1, 2, 'launching', 'local', '[]', 1, '')",
        "INSERT INTO attempts (job_id, number, state, executor, gpus, cpus, claimed_at) VALUES "
        "(1, 1, 'pending', 'local', '[]', 1, '')",
    ],
)
def test_the_schema_refuses_the_impossible(tmp_path: Path, statement: str) -> None:
    Store(tmp_path / "jobs.sqlite").close()
    connection = sqlite3.connect(tmp_path / "jobs.sqlite")
    connection.execute("PRAGMA foreign_keys = ON")
    connection.executescript(
        """
        INSERT INTO environments VALUES ('h', '{}', '[]');
        INSERT INTO groups (name, created_at) VALUES ('g', '');
        INSERT INTO jobs (group_id, name, state, config, environment, created_at)
        VALUES (1, 'a', 'pending', '{}', 'h', '');
        """
    )
    with pytest.raises(sqlite3.IntegrityError):
        connection.execute(statement)
