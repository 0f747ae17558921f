"""The database file: opened, migrated, and used in transactions that begin as what they are."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, create_engine, event
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import NullPool

from metta_jobs.errors import StoreError
from metta_jobs.store.migrate import bring_up_to_date

BUSY_TIMEOUT_S = 30.0


class Store:
    """The one SQLite file. Any number of processes may hold one open.

    `read()` gives a consistent snapshot, `write()` a transaction that holds the write lock from its first statement
    (BEGIN IMMEDIATE), so that it never fails half-way because another writer came between. Both raise StoreError
    with a sentence when the file cannot be used. Never wait for anything inside `write()`.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            with _explained(path):
                bring_up_to_date(path)
        except OSError as error:
            raise StoreError(
                f"{path} cannot be opened: {error.strerror}. Check the folder's permissions, or name another with "
                "--state-dir."
            ) from error
        self._engine = create_engine(f"sqlite:///{path}", poolclass=NullPool, connect_args={"timeout": BUSY_TIMEOUT_S})
        event.listen(self._engine, "connect", _prepare)
        self._connection: Connection | None = None
        self._writes = 0

    def version(self) -> tuple[int, int]:
        """Something that differs whenever anything in the database may have changed since."""
        with _explained(self.path):
            others = self._connect().exec_driver_sql("PRAGMA data_version").scalar_one()
        return int(others), self._writes

    def _connect(self) -> Connection:
        if self._connection is None:
            self._connection = self._engine.connect().execution_options(isolation_level="AUTOCOMMIT")
        return self._connection

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A read transaction: everything read inside is of one moment."""
        with self._transaction("BEGIN DEFERRED") as connection:
            yield connection

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """A write transaction: committed at the end of the block, rolled back when it raises."""
        self._writes += 1
        with self._transaction("BEGIN IMMEDIATE") as connection:
            yield connection

    @contextmanager
    def _transaction(self, begin: str) -> Iterator[Connection]:
        with _explained(self.path):
            connection = self._connect()
            connection.exec_driver_sql(begin)
            try:
                yield connection
                connection.exec_driver_sql("COMMIT")
            except BaseException:
                # A full disk or an interrupt may have ended the transaction already.
                if _driver(connection).in_transaction:
                    connection.exec_driver_sql("ROLLBACK")
                raise

    def close(self) -> None:
        """Let go of the file."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None
        self._engine.dispose()


def _driver(connection: Connection) -> sqlite3.Connection:
    driver: Any = connection.connection.driver_connection
    assert isinstance(driver, sqlite3.Connection)
    return driver


def _prepare(connection: sqlite3.Connection, _record: object) -> None:
    connection.isolation_level = None  # we say BEGIN ourselves
    for pragma in (
        "journal_mode = WAL",
        "synchronous = FULL",  # a submit that returned survives a power cut
        "foreign_keys = ON",
    ):
        connection.execute(f"PRAGMA {pragma}")


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    """Turn the driver's errors about the file into sentences that say what to do."""
    try:
        yield
    except (DBAPIError, sqlite3.Error) as error:
        cause = error.orig if isinstance(error, DBAPIError) and error.orig else error
        text = str(cause).lower()
        if isinstance(cause, sqlite3.IntegrityError | sqlite3.ProgrammingError | sqlite3.InterfaceError):
            raise  # a defect of ours, not of the file
        for sign, sentence in _SENTENCES.items():
            if sign in text:
                raise StoreError(f"{path}: {sentence}") from error
        raise StoreError(f"{path} cannot be used: {cause}.") from error


_SENTENCES = {
    "not a database": "this file is not a metta-jobs database. Move it away, or name another folder with --state-dir.",
    "malformed": "the database is damaged. Move it away; copies made before migrations lie beside it.",
    "disk is full": "the disk is full and nothing was stored. Free some space and try again.",
    "disk i/o": "the disk cannot be read or written (a full or failing disk, or a network file system).",
    "readonly": "the database is read-only for you. Check its owner and permissions, or name another folder with "
    "--state-dir.",
    "unable to open": "the database cannot be opened. Check the folder's permissions, or name another with "
    "--state-dir.",
    "locked": f"the database has been locked by another process for {BUSY_TIMEOUT_S:.0f} s. Try again; "
    "`metta daemon status` tells whether the daemon is alive.",
}
