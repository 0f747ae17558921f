"""Database files read without SQLite, held against what SQLite reads."""

from __future__ import annotations

import random
import sqlite3
from pathlib import Path

import pytest

from metta_jobs.paths import StateDir
from metta_jobs.store.engine import Store
from metta_jobs.store.pages import Pages
from metta_jobs.store.salvage import TABLES
from tests.store.wrecks import PAGE, lay, zeroed


def test_every_row_is_read_as_sqlite_reads_it(whole: bytes, state: StateDir) -> None:
    lay(state, whole)
    connection = sqlite3.connect(state.database)
    pages = Pages(state.database)
    roots = connection.execute("SELECT name, rootpage FROM sqlite_master WHERE type = 'table'").fetchall()
    assert len(roots) == len(TABLES) + 2
    for table, root in roots:
        leaves, complete = pages.leaves(root)
        assert complete
        found = {rowid: values for leaf in leaves for rowid, values in pages.rows(leaf)}
        for rowid, *values in connection.execute(f"SELECT rowid, * FROM {table}"):
            read = found.pop(rowid)
            assert read is not None
            assert [rowid if r is None and v == rowid else r for r, v in zip(read, values, strict=True)] == values
        assert found == {}


@pytest.mark.parametrize(
    "value",
    [0, 1, -1, 127, 128, -129, 2**15, 2**23, -(2**31), 2**40, 2**47, 2**62, -(2**63), 0.5, 1e300, "", "ü", "x" * 20_000]
    + [None, "x" * 4061, "x" * 4062, "x" * 4057, "x" * 500_000],
)
@pytest.mark.parametrize("page_size", [512, 4096, 65536])
def test_every_kind_of_value_in_every_size_of_page(tmp_path: Path, value: object, page_size: int) -> None:
    connection = sqlite3.connect(tmp_path / "x.sqlite")
    connection.execute(f"PRAGMA page_size = {page_size}")
    connection.execute("CREATE TABLE t (a, b)")
    connection.executemany("INSERT INTO t VALUES (?, ?)", [(value, n) for n in range(3)])
    connection.execute("INSERT INTO t (rowid, a, b) VALUES (-7, 1, 2)")
    connection.commit()
    pages = Pages(tmp_path / "x.sqlite")
    rows = [row for leaf in pages.leaves(2)[0] for row in pages.rows(leaf)]
    assert rows == [(-7, [1, 2]), *((n + 1, [value, n]) for n in range(3))]


def test_a_log_counts_up_to_its_last_whole_transaction(
    growing: tuple[bytes, bytes, list[int]], state: StateDir
) -> None:
    data, log, ends = growing
    choose = random.Random(1)
    cuts = [0, 1, 31, 32, 33, 56, *ends, *(end - 1 for end in ends), *(choose.randrange(len(log)) for _ in range(15))]
    lay(state, data, log)
    store = Store(state.database)
    with store.read() as connection:
        (root,) = connection.execute("SELECT rootpage FROM sqlite_master WHERE name = 'groups'").fetchone()
    store.close()
    for cut in cuts:
        for rest in (b"", bytes(len(log) - cut), b"\x55" * 5000):
            lay(state, data, log[:cut] + rest)
            read = sum(1 for leaf in Pages(state.database).leaves(root)[0] for _ in Pages(state.database).rows(leaf))
            store = Store(state.database)
            with store.read() as connection:
                (asked,) = connection.execute("SELECT count(*) FROM groups").fetchone()
            store.close()
            assert asked == read == 3 + sum(end <= cut for end in ends), cut


def test_a_row_whose_end_is_gone_is_not_read_as_zeros(tmp_path: Path) -> None:
    path = tmp_path / "x.sqlite"
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE t (a, b)")
    connection.executemany("INSERT INTO t VALUES (?, 7)", [("x" * 10,), ("y" * 9000,), ("z" * 10,)])
    connection.commit()
    connection.close()
    data = path.read_bytes()
    ends = [page for page in range(3, len(data) // PAGE + 1) if b"yy" in data[(page - 1) * PAGE : page * PAGE]]
    assert len(ends) == 2
    for page in ends:
        path.write_bytes(zeroed(data, page))
        pages = Pages(path)
        rows = [row for leaf in pages.leaves(2)[0] for row in pages.rows(leaf)]
        assert rows == [(1, ["x" * 10, 7]), (2, None), (3, ["z" * 10, 7])]
