"""Damaged databases to be looked at: laid out, used as a program would, counted."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from metta_jobs.errors import StoreError
from metta_jobs.paths import StateDir
from metta_jobs.store.audit import rows_and_history
from metta_jobs.store.engine import Store
from metta_jobs.store.pages import Pages
from metta_jobs.store.salvage import TABLES

PAGE = 4096
TOLD = "metta doctor --repair"
JOBS = 60


def lay(state: StateDir, data: bytes | None, log: bytes | None = None) -> None:
    """Put these bytes there, and nothing else."""
    for path in state.root.glob("jobs.sqlite*"):
        path.unlink()
    if data is not None:
        state.database.write_bytes(data)
    if log is not None:
        state.database.with_name("jobs.sqlite-wal").write_bytes(log)


def use(state: StateDir, *, write: bool = True) -> str | None:
    """Read everything and write something; return what was said when that cannot be done. All else is raised."""
    try:
        store = Store(state.database)
        try:
            with store.read() as connection:
                for table in TABLES:
                    for row in connection.execute(f"SELECT * FROM {table}"):
                        tuple(row)
            if not write:
                return None
            with store.write() as connection:
                connection.execute("INSERT INTO environments VALUES ('new', '{}', '[]')")
                group = connection.execute("INSERT INTO groups (name, created_at) VALUES ('new', 'x')").lastrowid
                for number in range(20):
                    connection.execute(
                        "INSERT INTO jobs (group_id, name, state, config, environment, place, ready_at, created_at) "
                        "VALUES (?, ?, 'pending', '{}', 'new', 1, 'x', 'x')",
                        (group, f"n{number}"),
                    )
                connection.execute("UPDATE jobs SET place = place + 1")
                sweep = connection.execute(
                    "INSERT INTO sweeps (name, state, definition, created_at, resumed_at) "
                    "VALUES ('new', 'running', '{}', 'x', 'x')"
                ).lastrowid
                connection.execute(
                    "INSERT INTO trials (sweep_id, number, origin, state, params, source, created_at) "
                    "VALUES (?, 1, 'suggested', 'open', '{}', 'x', 'x')",
                    (sweep,),
                )
        finally:
            store.close()
    except StoreError as error:
        return str(error)
    return None


def count(state: StateDir) -> dict[str, int]:
    connection = sqlite3.connect(state.database)
    found = {table: connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0] for table in TABLES}
    assert rows_and_history(connection) == []
    assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    connection.close()
    return found


def owners(data: bytes, path: Path) -> dict[int, str]:
    """The table whose rows a page holds."""
    path.write_bytes(data)
    connection = sqlite3.connect(path)
    roots = connection.execute("SELECT name, rootpage FROM sqlite_master WHERE type = 'table'").fetchall()
    pages = Pages(path)
    return {leaf: name for name, root in roots for leaf in pages.leaves(root)[0]}


def zeroed(data: bytes, page: int) -> bytes:
    return data[: (page - 1) * PAGE] + bytes(PAGE) + data[page * PAGE :]
