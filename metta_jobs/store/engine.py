"""The database file: opened, migrated, and used in transactions that begin as what they are."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from metta_jobs.errors import StoreError
from metta_jobs.store.migrate import bring_up_to_date

BUSY_TIMEOUT_S = 30.0


class Store:
    """The one SQLite file. Any number of processes may hold one open.

    `read()` gives a consistent snapshot, `write()` a transaction that holds the write lock from its first statement
    (BEGIN IMMEDIATE), so that it never fails half-way because another writer came between. Both raise StoreError
    with a sentence when the file cannot be used. Never wait for anything inside `write()`. `foreign_keys` may be off
    for who deletes everything that refers to a row together with it: SQLite would search whole tables for each.
    """

    def __init__(self, path: Path, *, foreign_keys: bool = True) -> None:
        self.path = path
        self._foreign_keys = foreign_keys
        try:
            with explained(path):
                bring_up_to_date(path)
        except OSError as error:
            raise StoreError(
                f"{path} cannot be opened: {error.strerror}. Check the folder's permissions, or name another with "
                "--state-dir."
            ) from error
        self._connection: sqlite3.Connection | None = None
        self._writes = 0

    def version(self) -> tuple[int, int]:
        """Something that differs whenever anything in the database may have changed since."""
        with explained(self.path):
            (others,) = self._connect().execute("PRAGMA data_version").fetchone()
        return int(others), self._writes

    def _connect(self) -> sqlite3.Connection:
        if self._connection is None:
            # No file is made here: a database that vanished must be missed, not silently begun anew.
            uri = f"{self.path.absolute().as_uri()}?mode=rw"
            connection = sqlite3.connect(uri, uri=True, timeout=BUSY_TIMEOUT_S, isolation_level=None)
            connection.row_factory = sqlite3.Row
            for pragma in (
                "journal_mode = WAL",
                "synchronous = FULL",  # a submit that returned survives a power cut (docs/decisions/0005)
                f"foreign_keys = {'ON' if self._foreign_keys else 'OFF'}",
            ):
                connection.execute(f"PRAGMA {pragma}")
            self._connection = connection
        return self._connection

    @contextmanager
    def read(self) -> Iterator[sqlite3.Connection]:
        """A read transaction: everything read inside is of one moment."""
        with self._transaction("BEGIN DEFERRED") as connection:
            yield connection

    @contextmanager
    def write(self) -> Iterator[sqlite3.Connection]:
        """A write transaction: committed at the end of the block, rolled back when it raises."""
        self._writes += 1
        with self._transaction("BEGIN IMMEDIATE") as connection:
            yield connection

    @contextmanager
    def _transaction(self, begin: str) -> Iterator[sqlite3.Connection]:
        with explained(self.path):
            connection = self._connect()
            connection.execute(begin)
            try:
                yield connection
                connection.execute("COMMIT")
            except BaseException as error:
                # A full disk or an interrupt may have ended the transaction already.
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                if isinstance(error, sqlite3.IntegrityError) and _is_damaged(connection):
                    raise StoreError(f"{self.path}: {DAMAGED}") from error
                raise

    def close(self) -> None:
        """Let go of the file."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def _is_damaged(connection: sqlite3.Connection) -> bool:
    """Whether the file itself breaks the rules that a statement seemed to break."""
    if connection.execute("PRAGMA quick_check(1)").fetchone()[0] != "ok":
        return True
    return connection.execute("PRAGMA foreign_key_check").fetchone() is not None


@contextmanager
def explained(path: Path) -> Iterator[None]:
    """Turn the driver's errors about the file into sentences that say what to do."""
    try:
        yield
    except UnicodeDecodeError as error:
        if b"malformed" not in error.object:
            raise
        raise StoreError(f"{path}: {DAMAGED}") from error  # the driver stumbles over what SQLite quotes of the file
    except sqlite3.Error as error:
        text = str(error).lower()
        if isinstance(error, sqlite3.IntegrityError | sqlite3.ProgrammingError | sqlite3.InterfaceError):
            raise  # a defect of ours, not of the file
        for sign, sentence in _SENTENCES.items():
            if sign in text:
                raise StoreError(f"{path}: {sentence}") from error
        raise StoreError(f"{path} cannot be used: {error}. `metta doctor` tells whether it is damaged.") from error


#: What to say of a file that SQLite cannot read as what it was.
DAMAGED = (
    "the database is damaged. `metta doctor` says how, and `metta doctor --repair` saves everything that can still be "
    "read, keeping the damaged file."
)
_SENTENCES = {
    "not a database": "this file is not a metta-jobs database, or its beginning is damaged. `metta doctor --repair` "
    "saves what can be read; or move it away, or name another folder with --state-dir.",
    **dict.fromkeys(
        ("malformed", "unsupported file format", "could not decode", "no such table", "no such column", "too big"),
        DAMAGED,
    ),
    "disk is full": "the disk is full and nothing was stored. Free some space and try again.",
    "disk i/o": "the disk cannot be read or written (a full or failing disk, or a network file system).",
    "readonly": "the database is read-only for you. Check its owner and permissions, or name another folder with "
    "--state-dir.",
    "unable to open": "the database cannot be opened. Check the folder's permissions, or name another with "
    "--state-dir.",
    "locked": f"the database has been locked by another process for {BUSY_TIMEOUT_S:.0f} s. Try again; "
    "`metta daemon status` tells whether the daemon is alive.",
}
