"""A database with something of everything, to be damaged."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from metta_jobs.job import Dependency, JobConfig
from metta_jobs.paths import StateDir
from metta_jobs.states import JobState
from metta_jobs.store import migrate
from metta_jobs.store.audit import audit
from metta_jobs.upkeep import repair as upkeep
from tests.store.rows import ENDED_BADLY, ENDED_WELL, RUNNING, Rows, S, fresh_store
from tests.store.world import World
from tests.store.wrecks import JOBS, lay


@pytest.fixture(scope="session")
def whole(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A database of 60 jobs with all that belongs to them, some with configurations larger than a page."""
    store = fresh_store(tmp_path_factory.mktemp("whole") / "jobs.sqlite")
    rows = Rows(store)
    rows.capacity()
    groups = [rows.group(name) for name in ("g0", "g1", "g2")]
    for number in range(1, JOBS + 1):
        waits = number % 6 == 0
        config = JobConfig(
            name=f"j{number}",
            command=("train", "x" * (9000 if number % 20 == 7 else 60)),
            depends_on=(Dependency(job=number - 1),) if waits else (),
        )
        paths: list[tuple[JobState, ...]] = [ENDED_WELL, ENDED_BADLY, (*ENDED_BADLY, S.PENDING, *ENDED_WELL), (), ()]
        path = RUNNING if number in (20, 21) else () if waits else paths[number % 5]
        parent = number - 1 if waits and paths[(number - 1) % 5] != ENDED_WELL else None
        parent = None if waits and (number - 1) % 5 == 2 else parent  # it was tried again, and succeeded
        job = rows.job(
            groups[number % 3], config.name, *path, config=config, environment=f"h{number % 3}", blocked_by=parent
        )
        if waits:
            rows.depends(job, number - 1)
    with store.read() as connection:
        assert audit(connection) == []
    store.close()
    return store.path.read_bytes()


@pytest.fixture
def quick_upgrade(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A repair makes a new database by running the migrations, which takes most of a second: a copy does as well."""
    empty = tmp_path / "template" / "jobs.sqlite"
    fresh_store(empty).close()

    def copied(path: Path, revision: str = "head") -> None:
        assert revision in ("head", migrate.HEAD)
        shutil.copy(empty, path)

    monkeypatch.setattr(upkeep, "upgrade", copied)


@pytest.fixture
def state(tmp_path: Path) -> StateDir:
    root = tmp_path / "job_state"
    root.mkdir(mode=0o700)
    return StateDir(root)


@pytest.fixture
def growing(whole: bytes, state: StateDir) -> Iterator[tuple[bytes, bytes, list[int]]]:
    """A database, its log that was never written back, and where in the log each of ten transactions ends."""
    lay(state, whole)
    connection = sqlite3.connect(state.database, isolation_level=None)
    connection.execute("PRAGMA wal_autocheckpoint = 0")
    log, ends = state.database.with_name("jobs.sqlite-wal"), []
    for number in range(10):
        connection.execute("BEGIN IMMEDIATE")
        connection.execute("INSERT INTO groups (name, created_at) VALUES (?, 'x')", (f"late{number}",))
        connection.execute("UPDATE jobs SET place = place + 1")
        connection.execute("COMMIT")
        ends.append(log.stat().st_size)
    data = state.database.read_bytes()
    assert data == whole
    yield data, log.read_bytes(), ends
    connection.close()


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path / "job_state")
