"""The schema's versions: whoever opens the database first brings it up to date, after keeping a copy."""

from __future__ import annotations

import contextlib
import fcntl
import sqlite3
from collections.abc import Iterator
from pathlib import Path

from metta_jobs.errors import StoreError, StoreTooNew

#: The newest revision in migrations/versions; a test holds it against the folder.
HEAD = "0004"
#: No database is smaller, in bytes: one page of the smallest size.
SMALLEST = 512


def migrations_folder() -> Path:
    """The alembic scripts: inside the package in a wheel, beside it in a checkout."""
    package = Path(__file__).resolve().parent.parent
    inside = package / "migrations"
    return inside if inside.is_dir() else package.parent / "migrations"


def bring_up_to_date(path: Path) -> None:
    """Create or migrate the database at `path`; cheap when there is nothing to do.

    One process migrates at a time. The file is copied to `<name>.before-<HEAD>` first. Raises StoreTooNew when a newer
    metta-jobs has migrated it, and StoreError where there has been a database, but its file is gone or empty.
    """
    with contextlib.suppress(sqlite3.Error):  # another process may be making it: look again under the lock
        if _revision(path) == HEAD:
            return
    with migration_lock(path):
        found = _revision(path)
        if found == HEAD:
            return
        if found is not None and found > HEAD:
            raise StoreTooNew(
                f"{path} has schema {found}, but this metta-jobs knows only up to {HEAD}. Upgrade metta-jobs, or name "
                "another folder with --state-dir."
            )
        if found is None:
            refuse_to_begin_anew(path)
        else:
            keep_copy(path, path.with_name(f"{path.name}.before-{HEAD}"))
        upgrade(path)


@contextlib.contextmanager
def migration_lock(path: Path) -> Iterator[None]:
    """Let nobody else create, migrate or replace the database at `path`."""
    with (path.parent / "migrate.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def refuse_to_begin_anew(path: Path) -> None:
    """Raise StoreError when something lies beside the missing or empty file at `path` that an earlier one has left.

    A new one would give the same ids out again, and nobody would learn that a history was lost.
    """
    if remains := _remains(path):
        raise StoreError(
            f"{path} is {'empty' if path.exists() else 'gone'}, but {remains} beside it: there has been a queue here. "
            "Put the file back, or let `metta doctor --repair` save what is left; to forget it all, remove the whole "
            "state folder."
        )


def _remains(path: Path) -> str | None:
    log = path.with_name(f"{path.name}-wal")
    if log.exists() and log.stat().st_size and not (path.exists() and path.stat().st_size >= SMALLEST):
        return f"{log.name} lies"
    for aside in sorted(path.parent.glob(f"{path.name}.*")):
        return f"{aside.name} lies"
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        count = sum(folder.name.isdigit() for folder in (path.parent / "jobs").iterdir())
        return None if not count else "the folder of 1 job lies" if count == 1 else f"the folders of {count} jobs lie"
    return None


def upgrade(path: Path, revision: str = "head") -> None:
    """Run the migrations up to `revision`. Each is one transaction. Raises sqlite3.Error where the file is no good."""
    # Alembic takes most of a second to import and is needed once in a release.
    from alembic import command
    from alembic.config import Config
    from alembic.util import CommandError
    from sqlalchemy.exc import DBAPIError

    config = Config()
    config.set_main_option("script_location", str(migrations_folder()).replace("%", "%%"))
    config.attributes["path"] = path
    try:
        command.upgrade(config, revision)
    except DBAPIError as error:
        raise error.orig or error from error
    except CommandError as error:  # a revision that never was
        raise sqlite3.DatabaseError(f"malformed: {error}") from error


def _revision(path: Path) -> str | None:
    if not path.exists() or path.stat().st_size < SMALLEST:
        return None  # SQLite is not asked: it would delete a log that lies beside it
    connection = sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True, timeout=30)
    try:
        row = connection.execute("SELECT version_num FROM alembic_version").fetchone()
    except sqlite3.OperationalError as error:
        if "no such table" not in str(error):
            raise
        if connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
            raise sqlite3.DatabaseError("file is not a database of metta-jobs") from error
        return None
    finally:
        connection.close()
    if row is None:
        raise sqlite3.DatabaseError("malformed: the table alembic_version is empty")
    return str(row[0])


def keep_copy(path: Path, copy: Path) -> None:
    """Copy a database, with what its write-ahead log holds, to another file."""
    source, target = sqlite3.connect(path), sqlite3.connect(copy)
    try:
        source.backup(target)
    finally:
        source.close()
        target.close()
