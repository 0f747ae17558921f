from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from metta_jobs.errors import StoreError, StoreTooNew
from metta_jobs.job import JobConfig
from metta_jobs.store import migrate
from metta_jobs.store.engine import Store
from metta_jobs.testing import add, make_house


def test_a_file_that_is_no_database_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "jobs.sqlite"
    path.write_text("dear diary, " * 100)
    with pytest.raises(StoreError, match=r"not a metta-jobs database.*--state-dir"):
        Store(path)
    assert path.read_text().startswith("dear diary")


def test_another_program_s_database_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "jobs.sqlite"
    other = sqlite3.connect(path)
    other.execute("CREATE TABLE recipes (soup)")
    other.commit()
    with pytest.raises(StoreError, match="not a metta-jobs database"):
        Store(path)
    assert other.execute("SELECT name FROM sqlite_master").fetchall() == [("recipes",)]


def test_a_newer_database_is_refused_with_both_versions(tmp_path: Path) -> None:
    path = tmp_path / "jobs.sqlite"
    Store(path).close()
    connection = sqlite3.connect(path)
    connection.execute("UPDATE alembic_version SET version_num = '9999'")
    connection.commit()
    with pytest.raises(StoreTooNew, match=f"9999.*{migrate.HEAD}"):
        Store(path)


def test_a_copy_is_kept_before_a_migration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "jobs.sqlite"
    Store(path).close()
    connection = sqlite3.connect(path)
    connection.execute("UPDATE alembic_version SET version_num = '0000'")
    connection.commit()
    connection.close()
    ran = []
    monkeypatch.setattr(migrate, "upgrade", lambda where: ran.append(where))
    Store(path).close()
    copy = sqlite3.connect(path.with_name(f"jobs.sqlite.before-{migrate.HEAD}"))
    assert copy.execute("SELECT version_num FROM alembic_version").fetchall() == [("0000",)]
    assert ran == [path]


def test_many_processes_may_come_first(tmp_path: Path) -> None:
    path = tmp_path / "jobs.sqlite"
    code = f"from pathlib import Path; from metta_jobs.store.engine import Store; Store(Path({str(path)!r}))"
    with ThreadPoolExecutor(4) as pool:
        done = list(
            pool.map(
                lambda _: subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False),
                range(4),
            )
        )
    assert [run.stderr for run in done] == [""] * 4


def test_a_full_disk_is_a_sentence_and_nothing_is_half_stored(tmp_path: Path) -> None:
    house = make_house(tmp_path)
    add(house, JobConfig(name="first", command=("x",)))
    with house.store.read() as connection:
        pages = connection.execute("PRAGMA page_count").fetchone()[0]
    connection = house.store._connect()
    connection.execute(f"PRAGMA max_page_count = {pages}")
    big = [JobConfig(name=f"j{i}", command=("x" * 2000,)) for i in range(50)]
    with pytest.raises(StoreError, match="disk is full and nothing was stored"):
        add(house, *big)
    connection.execute("PRAGMA max_page_count = 1000000")
    with house.store.read() as connection:
        assert [row["name"] for row in connection.execute("SELECT name FROM jobs")] == ["first"]
    assert add(house, *big)[0] == 2


@pytest.fixture
def others_folder() -> Iterator[Path]:
    """A database in a folder of another user's, seen by somebody who may only read."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        Store(folder / "jobs.sqlite").close()
        root = os.geteuid() == 0
        folder.chmod(0o555)
        for path in folder.iterdir():
            path.chmod(0o444)
        if root:
            os.seteuid(65534)
        yield folder
        if root:
            os.seteuid(0)
        folder.chmod(0o755)


def test_a_read_only_database_is_a_sentence(others_folder: Path) -> None:
    with (
        pytest.raises(StoreError, match=r"(read-only|cannot be opened).*--state-dir"),
        Store(others_folder / "jobs.sqlite").write() as connection,
    ):
        connection.execute("INSERT INTO groups (name, created_at) VALUES ('g', '')")


def test_a_write_that_raises_leaves_nothing(tmp_path: Path) -> None:
    house = make_house(tmp_path)
    with pytest.raises(ZeroDivisionError), house.store.write() as connection:
        connection.execute("INSERT INTO groups (name, created_at) VALUES ('half', '')")
        raise ZeroDivisionError
    with house.store.read() as connection:
        assert connection.execute("SELECT count(*) FROM groups").fetchone()[0] == 0
