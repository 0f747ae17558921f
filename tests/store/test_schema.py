from __future__ import annotations

import contextlib
import re
import sqlite3
from pathlib import Path

import pytest
from sqlalchemy import create_engine

from metta_jobs.store import queue, silences
from metta_jobs.store.audit import audit
from metta_jobs.store.engine import Store
from metta_jobs.store.migrate import HEAD, migrations_folder, upgrade
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
        "UPDATE jobs SET state = 'skipped', finished_at = '2026-01-01', blocked_by = 1",  # it waits no more
        "UPDATE jobs SET blocked_by = 99",
        "INSERT INTO jobs (group_id, name, state, config, environment, created_at, place) "
        "SELECT group_id, name, state, config, environment, created_at, 2 FROM jobs",
        "INSERT INTO dependencies VALUES (1, 1, 'afterok', NULL)",
        "INSERT INTO dependencies VALUES (1, 99, 'afterok', NULL)",
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
        INSERT INTO jobs (group_id, name, state, config, environment, created_at, place)
        VALUES (1, 'a', 'pending', '{}', 'h', '', 1);
        """
    )
    with pytest.raises(sqlite3.IntegrityError):
        connection.execute(statement)


def test_a_database_of_the_first_schema_opens_with_its_data_intact(tmp_path: Path) -> None:
    path = tmp_path / "jobs.sqlite"
    old = sqlite3.connect(path)
    old.executescript((Path(__file__).parent / "assets" / "schema-0001.sql").read_text())
    kept = ("id, name, state, config, attempt, exit_code, reason, created_at, finished_at", "jobs")
    before = old.execute(f"SELECT {kept[0]} FROM {kept[1]} ORDER BY id").fetchall()
    events = old.execute("SELECT id, at, job_id, kind, from_state, to_state FROM events ORDER BY id").fetchall()
    old.close()
    store = Store(path)
    with store.read() as connection:
        rows = connection.execute(f"SELECT {kept[0]} FROM {kept[1]} ORDER BY id")
        assert [tuple(row) for row in rows] == before
        rows = connection.execute("SELECT id, at, job_id, kind, from_state, to_state FROM events ORDER BY id")
        assert [tuple(row) for row in rows] == events
        waiting = dict(connection.execute("SELECT name, blocked_by FROM jobs WHERE state = 'pending'").fetchall())
        ready = {job.job_id: job.need for job in queue.ready_jobs(connection)}
        assert audit(connection) == []
    assert waiting == {"waits": 5, "any": 5, "free": None}
    assert ready == {8: queue.Need(0, 2, 0)}
    copy = sqlite3.connect(path.with_name(f"jobs.sqlite.before-{HEAD}"))
    assert copy.execute("SELECT count(*) FROM jobs").fetchone() == (8,)


def test_a_database_of_the_second_schema_goes_on_where_it_was(tmp_path: Path) -> None:
    path = tmp_path / "jobs.sqlite"
    upgrade(path, "0002")
    with contextlib.closing(sqlite3.connect(path)) as old:
        old.executescript(
            """
            INSERT INTO environments VALUES ('h', '{}', '[]');
            INSERT INTO groups (name, created_at) VALUES ('g', '2026-01-01T00:00:00+00:00');
            INSERT INTO jobs (group_id, name, state, attempt, config, environment, created_at, place)
            VALUES (1, 'a', 'running', 1, '{}', 'h', '2026-01-01T00:00:00+00:00', 1);
            INSERT INTO attempts (job_id, number, state, executor, gpus, cpus, claimed_at)
            VALUES (1, 1, 'running', 'skypilot', '[]', 1, '2026-01-01T00:00:00+00:00');
            """
        )
    store = Store(path)
    with store.read() as connection:
        assert [tuple(row) for row in connection.execute("SELECT id, state, attempt FROM jobs")] == [(1, "running", 1)]
        assert silences.load(connection) == []
    store.close()
    assert path.with_name(f"jobs.sqlite.before-{HEAD}").exists()
