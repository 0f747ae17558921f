"""Every row that can still be read out of a damaged database, put into a new one of the same schema."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from metta_jobs.store.pages import Pages, Row, Value

#: In the order in which rows refer to each other.
TABLES = (
    *("environments", "groups", "jobs", "attempts", "dependencies", "events", "deliveries", "capacity", "silences"),
    *("progress", "health", "sweeps", "trials"),
)
_REVISION = re.compile(r"\d{4}")


@dataclass
class Salvaged:
    """What became of one table. `torn`: a part of it is out of reach, and nobody can say how many rows that had."""

    table: str
    saved: int = 0
    torn: bool = False
    unreadable: list[int] = field(default_factory=list)
    refused: int = 0

    @property
    def whole(self) -> bool:
        """True when every row that the file holds was saved."""
        return not (self.torn or self.unreadable or self.refused)

    def __str__(self) -> str:
        """A sentence: "jobs: 120 rows saved; 2 cannot be read (ids 14, 15)"."""
        parts = [f"{self.table}: {self.saved} row{'' if self.saved == 1 else 's'} saved"]
        if self.unreadable:
            shown = ", ".join(map(str, self.unreadable[:10])) + (", …" if len(self.unreadable) > 10 else "")
            ids = f" (ids {shown})" if self.table in ("jobs", "groups", "events", "deliveries") else ""
            parts.append(f"{len(self.unreadable)} cannot be read{ids}")
        if self.refused:
            parts.append(f"{self.refused} make no sense and were left out")
        if self.torn:
            parts.append("others may be missing, for a part of the table is damaged")
        return "; ".join(parts)


@dataclass(frozen=True)
class _Column:
    kind: str
    required: bool
    is_rowid: bool

    def fits(self, value: Value) -> bool:
        """True when a stored value may stand here."""
        if value is None or self.is_rowid:
            return value is None and (self.is_rowid or not self.required)
        if self.kind.startswith("INT"):
            return isinstance(value, int)
        return isinstance(value, int | float) if self.kind == "FLOAT" else isinstance(value, str)


class Wreck:
    """A damaged database file with its write-ahead log, opened without SQLite and left as it is."""

    def __init__(self, path: Path) -> None:
        self._pages = Pages(path)
        self._roots = {
            str(values[1]): values[3]
            for leaf in self._pages.leaves(1)[0]
            for _, values in self._pages.rows(leaf)
            if values is not None and len(values) == 5 and values[0] == "table" and isinstance(values[3], int)
        }
        self.revision = self._revision()

    def _revision(self) -> str | None:
        """The schema's revision; None when nothing tells it."""
        leaves, _ = self._tree("alembic_version")
        for leaf in leaves or self._pages.all_leaves():
            for _, values in self._pages.rows(leaf):
                match values:
                    case [str(told)] if _REVISION.fullmatch(told):
                        return told
        return None

    def strangers(self) -> list[str]:
        """The tables of a database that is not ours; none when it is, or when nobody can tell."""
        return [] if self._roots.keys() & set(TABLES) else sorted(self._roots)

    def _tree(self, table: str) -> tuple[list[int], bool]:
        root = self._roots.get(table)
        return ([], False) if root is None else self._pages.leaves(root)

    def pour(self, target: sqlite3.Connection) -> list[Salvaged]:
        """Insert all that can be read into `target`, an empty database of this revision, in its open transaction.

        Foreign keys must be off: rows that others refer to may be among the lost.
        """
        there = {row[0] for row in target.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        columns = {table: _columns(target, table) for table in TABLES if table in there}
        reached = {table: self._tree(table) for table in columns}
        strays = self._strays(reached, columns) if not all(whole for _, whole in reached.values()) else {}
        report = []
        for table, shape in columns.items():
            leaves, whole = reached[table]
            one = Salvaged(table, torn=not whole)
            for leaf in leaves:
                for rowid, values in self._pages.rows(leaf):
                    _insert(target, one, shape, rowid, values)
            for rowid, values in strays.get(table, ()):
                _insert(target, one, shape, rowid, values, stray=True)
            report.append(one)
        self._sequences(target)
        return report

    def _strays(
        self, reached: dict[str, tuple[list[int], bool]], columns: dict[str, list[_Column]]
    ) -> dict[str, list[Row]]:
        """Rows in leaves that no tree leads to any more, by the one torn table that they can belong to."""
        known = {leaf for leaves, _ in reached.values() for leaf in leaves}
        known |= {
            leaf for root in self._roots.values() if isinstance(root, int) for leaf in self._pages.leaves(root)[0]
        }
        torn = [table for table, (_, whole) in reached.items() if not whole]
        found: dict[str, list[Row]] = {table: [] for table in torn}
        for leaf in self._pages.all_leaves():
            if leaf in known:
                continue
            for rowid, values in self._pages.rows(leaf):
                homes = [table for table in torn if values is not None and _fits(values, columns[table])]
                if len(homes) == 1:
                    found[homes[0]].append((rowid, values))
        return found

    def _sequences(self, target: sqlite3.Connection) -> None:
        for leaf in self._tree("sqlite_sequence")[0]:
            for _, values in self._pages.rows(leaf):
                match values:
                    case [str(table), int(newest)] if table in TABLES:
                        raise_sequence(target, table, newest)


def raise_sequence(connection: sqlite3.Connection, table: str, newest: int) -> None:
    """See to it that ids of `table` up to `newest` are never given out (again)."""
    changed = connection.execute("UPDATE sqlite_sequence SET seq = max(seq, ?) WHERE name = ?", (newest, table))
    if changed.rowcount == 0:
        connection.execute("INSERT INTO sqlite_sequence (name, seq) VALUES (?, ?)", (table, newest))


def _columns(connection: sqlite3.Connection, table: str) -> list[_Column]:
    found = connection.execute(f"PRAGMA table_info({table})").fetchall()
    keys = sum(1 for row in found if row[5])
    return [_Column(row[2].upper(), bool(row[3]), bool(row[5]) and keys == 1 and row[2] == "INTEGER") for row in found]


def _fits(values: Sequence[Value], columns: Sequence[_Column]) -> bool:
    return len(values) == len(columns) and all(c.fits(v) for c, v in zip(columns, values, strict=True))


def _insert(
    target: sqlite3.Connection,
    report: Salvaged,
    columns: Sequence[_Column],
    rowid: int | None,
    values: list[Value] | None,
    *,
    stray: bool = False,
) -> None:
    if rowid is None:
        report.torn = True
    elif values is None:
        report.unreadable.append(rowid)
    elif len(values) != len(columns):
        report.refused += 1
    else:
        row = [rowid if column.is_rowid else value for column, value in zip(columns, values, strict=True)]
        try:
            target.execute(f"INSERT INTO {report.table} VALUES ({', '.join('?' for _ in columns)})", row)
            report.saved += 1
        except (sqlite3.IntegrityError, OverflowError):
            report.refused += not stray  # of a stray, a later version is there already
