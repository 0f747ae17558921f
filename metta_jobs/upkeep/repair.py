"""Mending a state folder: a database that is damaged, gone, or wrong in itself. Nothing is ever thrown away.

What is damaged is kept beside the new database. The new one is built aside and takes its place by renaming, so that a
repair that is cut off anywhere can be done again.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

from metta_jobs import __version__
from metta_jobs.daemon.lock import DaemonLock, holder
from metta_jobs.errors import DaemonError, StoreError, StoreTooNew
from metta_jobs.paths import StateDir
from metta_jobs.store.audit import rows_and_history
from metta_jobs.store.engine import explained
from metta_jobs.store.mend import mend
from metta_jobs.store.migrate import HEAD, SMALLEST, bring_up_to_date, keep_copy, migration_lock, upgrade
from metta_jobs.store.salvage import TABLES, Salvaged, Wreck, raise_sequence
from metta_jobs.upkeep.folders import job_folders, without_rows


def repair(state_dir: StateDir, now: datetime) -> list[str]:
    """Mend what is wrong with the database; return what was found, saved and lost, in sentences.

    Raises DaemonError while a daemon runs or somebody else has the database open, StoreTooNew, and StoreError when the
    new database cannot be written.
    """
    database = state_dir.database
    try:
        with _alone(state_dir, now), explained(database):
            with migration_lock(database):
                said = list(_finish_moving(database))
                damage = damage_of(database)
                if damage is not None:
                    said += [damage, *_rebuild(state_dir, now)]
            bring_up_to_date(database)
            with migration_lock(database):
                said += _mend_in_place(state_dir, now)
    except OSError as error:
        raise StoreError(f"Nothing was repaired: {error.filename or database}: {error.strerror or error}.") from error
    return said or ["Nothing was found to repair."]


def damage_of(database: Path) -> str | None:
    """What is wrong with the file itself, in a sentence; None when SQLite can read all of it.

    Raises sqlite3.OperationalError when it is locked, or may not be opened.
    """
    if not database.exists() or database.stat().st_size < SMALLEST:
        return f"{database.name} is {'empty' if database.exists() else 'gone'}."
    connection = sqlite3.connect(f"{database.absolute().as_uri()}?mode=rw", uri=True, timeout=30)
    try:
        found = [row[0] for row in connection.execute("PRAGMA integrity_check(3)")]
        tables = connection.execute("SELECT count(*) FROM alembic_version").fetchone()[0]
        there = {row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        for table in there & set(TABLES):  # may hold text that is none
            for _ in connection.execute(f"SELECT * FROM {table}"):
                pass
    except sqlite3.OperationalError as error:
        if any(sign in str(error) for sign in ("locked", "unable to open", "readonly", "disk I/O", "full")):
            raise
        return f"{database.name} is damaged: {error}."
    except (sqlite3.DatabaseError, UnicodeDecodeError) as error:
        return f"{database.name} is damaged: {error}."
    finally:
        connection.close()
    if found != ["ok"]:
        return f"{database.name} is damaged: {' '.join(found[0].split())}."
    return None if tables else f"{database.name} is damaged: it does not tell the version of its schema."


@contextlib.contextmanager
def _alone(state_dir: StateDir, now: datetime) -> Iterator[None]:
    """Nobody else works here meanwhile: no daemon, and no process that has the database open."""
    lock = DaemonLock(state_dir.daemon_lock)
    running = holder(state_dir.daemon_lock)
    record = {"pid": os.getpid(), "started_at": now.isoformat(), "version": __version__, "schema": HEAD}
    if running is not None or not lock.acquire(record):
        raise DaemonError(
            f"A daemon runs{f' (pid {running.pid})' if running else ''}, and nothing can be repaired under it: "
            "`metta daemon stop` ends it, and running jobs go on without it."
        )
    try:
        _refuse_users(state_dir.database)
        yield
    finally:
        lock.release()


def _refuse_users(database: Path) -> None:
    if users := [pid for pid in _users(database) if pid != os.getpid()]:
        shown = ", ".join(map(str, users[:5]))
        raise DaemonError(
            f"{database.name} is in use by process{'es' if len(users) > 1 else ''} {shown}: a monitor, or a program of "
            "yours. End it first; what it writes now would be lost."
        )


def _users(path: Path) -> list[int]:
    """The processes that have this file open, as far as the system tells us."""
    try:
        wanted = path.stat()
        processes = [name for name in os.listdir("/proc") if name.isdigit()]  # noqa: PTH208
    except OSError:
        return []
    found = []
    for pid in processes:
        with contextlib.suppress(OSError), os.scandir(f"/proc/{pid}/fd") as descriptors:
            if any(_same(descriptor, wanted) for descriptor in descriptors):
                found.append(int(pid))
    return sorted(found)


def _same(descriptor: os.DirEntry[str], wanted: os.stat_result) -> bool:
    try:
        return os.path.samestat(os.stat(descriptor.path), wanted)  # noqa: PTH116
    except OSError:
        return False


# ---------------------------------------------------------------------------------------------------- a new database


def _rebuild(state_dir: StateDir, now: datetime) -> list[str]:
    try:
        return list(_rebuilt(state_dir, now))
    except Exception:
        _clear(_mending(state_dir.database))  # on a full disk it would be in the way
        raise


def _rebuilt(state_dir: StateDir, now: datetime) -> Iterator[str]:
    database = state_dir.database
    before = _fingerprint(database)
    wreck = Wreck(database)
    _refuse_strangers(database, wreck)
    report, connection = _pour(database, wreck)
    source = ""
    if not _worth_something(report):
        for copy in _copies(database):
            connection.close()
            other, connection = _pour(database, Wreck(copy))
            if _worth_something(other):
                report, source = other, copy.name
                break
    try:
        done = _settle(state_dir, connection, report, now)
    finally:
        connection.close()
    _refuse_users(database)
    if _fingerprint(database) != before:
        raise StoreError(f"Somebody has written to {database} meanwhile, so nothing was replaced. Try again.")
    _mending(database).rename(_mended(database))
    kept = _move(database, now)
    yield from _tell(state_dir, report, source, kept)
    yield from done


def _refuse_strangers(database: Path, wreck: Wreck) -> None:
    if wreck.revision is not None and wreck.revision > HEAD:
        raise StoreTooNew(f"{database} has schema {wreck.revision}, but this metta-jobs knows only up to {HEAD}.")
    if strangers := wreck.strangers():
        raise StoreError(
            f"{database} is a database of another program (it has a table {strangers[0]!r}). Move it away, or name "
            "another folder with --state-dir."
        )


def _pour(database: Path, wreck: Wreck) -> tuple[list[Salvaged], sqlite3.Connection]:
    """A new database beside the damaged one, with all that could be read, at the newest schema."""
    new = _mending(database)
    _clear(new)
    revision = wreck.revision or HEAD
    upgrade(new, revision)
    connection = _open(new)
    connection.execute("BEGIN IMMEDIATE")
    report = wreck.pour(connection)
    connection.execute("COMMIT")
    if revision != HEAD:
        connection.close()
        upgrade(new)
        connection = _open(new)
    return report, connection


def _open(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, isolation_level=None, timeout=30)
    connection.execute("PRAGMA foreign_keys = OFF")
    return connection


def _settle(state_dir: StateDir, connection: sqlite3.Connection, report: list[Salvaged], now: datetime) -> list[str]:
    """Put the rows right among each other, and everything on disk."""
    lost = any(not one.whole for one in report if one.table in ("jobs", "dependencies"))
    connection.execute("BEGIN IMMEDIATE")
    done = mend(connection, now, dependencies_lost=lost)
    raise_sequence(connection, "jobs", max(job_folders(state_dir), default=0))
    connection.execute("COMMIT")
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    done += [f"Still wrong: {sentence}" for sentence in rows_and_history(connection)]
    return done


def _fingerprint(database: Path) -> list[tuple[int, int] | None]:
    """Something that differs when anybody has written to the database."""
    files = (database, database.with_name(f"{database.name}-wal"))
    return [(path.stat().st_mtime_ns, path.stat().st_size) if path.exists() else None for path in files]


def _worth_something(report: list[Salvaged]) -> bool:
    return any(one.saved for one in report if one.table in ("jobs", "groups"))


def _copies(database: Path) -> list[Path]:
    found = [
        path for path in database.parent.glob(f"{database.name}.before-*") if not path.name.endswith(("-wal", "-shm"))
    ]
    return sorted(found, key=lambda path: path.stat().st_mtime, reverse=True)


def _tell(state_dir: StateDir, report: list[Salvaged], source: str, kept: Path | None) -> Iterator[str]:
    if kept is not None:
        yield f"The file as it was is kept as {kept.name}."
    if source:
        yield f"No job could be read. The new database begins with the copy {source}: what happened since is gone."
    elif not _worth_something(report):
        newest = max(job_folders(state_dir), default=0)
        yield (
            "No job could be saved: the history is gone, and a new one begins. "
            + (f"The next job is {newest + 1}, so no folder of an old one is used again. " if newest else "")
        ).strip()
    yield from (f"{one}." for one in report if one.saved or not one.whole)


# ---------------------------------------------------------------------------------------------------- moving files


def _mending(database: Path) -> Path:
    return database.with_name(f"{database.name}.mending")


def _clear(path: Path) -> None:
    for suffix in ("", "-wal", "-shm", "-journal"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)


def _mended(database: Path) -> Path:
    return database.with_name(f"{database.name}.mended")


def _move(database: Path, now: datetime) -> Path | None:
    """Set the damaged files aside and let the mended one take their place; return where the damaged one is."""
    kept = _free(database, f"damaged-{now:%Y%m%d-%H%M%S}")
    existed = database.exists()
    if existed:
        _mended(database).chmod(database.stat().st_mode & 0o777)
        database.rename(kept)
    else:
        _mended(database).chmod(0o600)
    log = database.with_name(f"{database.name}-wal")
    if log.exists():
        log.rename(kept.with_name(f"{kept.name}-wal"))
    database.with_name(f"{database.name}-shm").unlink(missing_ok=True)
    _mended(database).rename(database)
    folder = os.open(database.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
    return kept if existed or kept.with_name(f"{kept.name}-wal").exists() else None


def _finish_moving(database: Path) -> Iterator[str]:
    """An earlier repair was cut off while it moved files."""
    if not _mended(database).exists():
        return
    if database.exists():
        _mended(database).unlink()  # made before what is there now: it is made again if it is needed
        return
    for suffix in ("-wal", "-shm"):
        left = database.with_name(database.name + suffix)
        if left.exists():
            left.rename(_free(database, f"left{suffix}"))
    _mended(database).rename(database)
    yield "An earlier repair was cut off; the database that it had made is in its place now."


def _free(database: Path, suffix: str) -> Path:
    path, number = database.with_name(f"{database.name}.{suffix}"), 1
    while path.exists():
        number += 1
        path = database.with_name(f"{database.name}.{suffix}-{number}")
    return path


# ---------------------------------------------------------------------------------------------------- in place


def _mend_in_place(state_dir: StateDir, now: datetime) -> Iterator[str]:
    """What is wrong among rows that can all be read, and what the folders tell."""
    database = state_dir.database
    connection = _open(database)
    try:
        folders = job_folders(state_dir)
        newest = max(folders, default=0)
        row = connection.execute("SELECT seq FROM sqlite_sequence WHERE name = 'jobs'").fetchone()
        wrong, given = rows_and_history(connection), row[0] if row else 0
        if wrong:
            copy = _free(database, f"before-repair-{now:%Y%m%d-%H%M%S}")
            keep_copy(database, copy)
            yield f"The database as it was is kept as {copy.name}."
            yield from wrong
        if wrong or newest > given:
            connection.execute("BEGIN IMMEDIATE")
            yield from mend(connection, now)
            raise_sequence(connection, "jobs", newest)
            connection.execute("COMMIT")
            yield from (f"Still wrong: {sentence}" for sentence in rows_and_history(connection))
        if newest > given:
            yield f"There are folders up to job {newest}, but ids up to {given} were given: the next is {newest + 1}."
        if left := without_rows(connection, folders):
            shown = ", ".join(map(str, list(left)[:20])) + (", …" if len(left) > 20 else "")
            yield f"Folders in jobs/ without a stored job, left there: {shown}. `metta job prune` removes old ones."
    finally:
        connection.close()
