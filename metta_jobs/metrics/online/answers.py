"""What W&B has answered, and how often it may still be asked: a small SQLite file that many processes share.

It is a memory, no record: it may be deleted at any time, and a damaged one is begun anew.
"""

from __future__ import annotations

import json
import sqlite3
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

#: Requests a minute in the long run, and how many may come at once.
PER_MINUTE = 60.0
BURST = 30.0
_KEEP_S = 30 * 24 * 3600.0
_TABLES = """
CREATE TABLE IF NOT EXISTS answers (question TEXT PRIMARY KEY, at REAL NOT NULL, value BLOB NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS budget (id INTEGER PRIMARY KEY, tokens REAL NOT NULL, at REAL NOT NULL) STRICT;
"""


class Answers:
    """The file at `path`. `now` is the wall clock in seconds since the epoch."""

    def __init__(self, path: Path, now: Callable[[], float] = time.time) -> None:
        self.path = path
        self._now = now

    def get(self, question: str) -> tuple[float, Any] | None:
        """When this was answered, and how; None when it never was."""
        with self._open() as connection:
            row = connection.execute("SELECT at, value FROM answers WHERE question = ?", (question,)).fetchone()
        return None if row is None else (row[0], json.loads(zlib.decompress(row[1])))

    def put(self, question: str, value: Any) -> float:
        """Keep an answer; return when that was. What is a month old goes."""
        now, packed = self._now(), zlib.compress(json.dumps(value).encode(), 3)
        with self._open() as connection:
            connection.execute("INSERT OR REPLACE INTO answers VALUES (?, ?, ?)", (question, now, packed))
            connection.execute("DELETE FROM answers WHERE at < ?", (now - _KEEP_S,))
        return now

    def take(self, requests: float = 1) -> float:
        """Take requests from the budget; 0 when that was granted, else the seconds until it may be, and none is taken.

        More than a burst is granted when the budget is full, and paid back by those who come after.
        """
        with self._open() as connection:
            connection.execute("BEGIN IMMEDIATE")
            tokens = self._refilled(connection)
            granted = tokens >= min(requests, BURST)
            self._write(connection, tokens - requests if granted else tokens)
            connection.execute("COMMIT")
        return 0.0 if granted else (min(requests, BURST) - tokens) * 60 / PER_MINUTE

    def charge(self, requests: float) -> None:
        """Note requests that were made beyond what was taken."""
        with self._open() as connection:
            connection.execute("BEGIN IMMEDIATE")
            self._write(connection, self._refilled(connection) - requests)
            connection.execute("COMMIT")

    def _refilled(self, connection: sqlite3.Connection) -> float:
        row = connection.execute("SELECT tokens, at FROM budget").fetchone()
        if row is None:
            return BURST
        # A clock that was set back gives nothing, and takes nothing.
        return float(min(BURST, row[0] + max(0.0, self._now() - row[1]) * PER_MINUTE / 60))

    def _write(self, connection: sqlite3.Connection, tokens: float) -> None:
        connection.execute("INSERT OR REPLACE INTO budget VALUES (1, ?, ?)", (tokens, self._now()))

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        connection = self._connect()
        try:
            yield connection
        finally:
            connection.close()

    def _connect(self) -> sqlite3.Connection:
        try:
            return self._ready()
        except sqlite3.OperationalError:
            raise  # it is locked, or the disk is full
        except sqlite3.DatabaseError:
            self.path.unlink(missing_ok=True)  # damaged
            for suffix in ("-wal", "-shm"):
                self.path.with_name(self.path.name + suffix).unlink(missing_ok=True)
            return self._ready()

    def _ready(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self.path, timeout=10, isolation_level=None)
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = OFF")
            connection.executescript(_TABLES)
        except sqlite3.Error:
            connection.close()
            raise
        return connection
