"""The schema's versions: whoever opens the database first brings it up to date, after keeping a copy."""

from __future__ import annotations

import contextlib
import fcntl
import sqlite3
from pathlib import Path

from metta_jobs.errors import StoreTooNew

#: The newest revision in migrations/versions; a test holds it against the folder.
HEAD = "0001"


def migrations_folder() -> Path:
    """The alembic scripts: inside the package in a wheel, beside it in a checkout."""
    package = Path(__file__).resolve().parent.parent
    inside = package / "migrations"
    return inside if inside.is_dir() else package.parent / "migrations"


def bring_up_to_date(path: Path) -> None:
    """Create or migrate the database at `path`; cheap when there is nothing to do.

    One process migrates at a time. The file is copied to `<name>.before-<HEAD>` first. Raises StoreTooNew when a newer
    metta-jobs has migrated it.
    """
    with contextlib.suppress(sqlite3.Error):  # another process may be making it: look again under the lock
        if _revision(path) == HEAD:
            return
    with (path.parent / "migrate.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        found = _revision(path)
        if found == HEAD:
            return
        if found is not None and found > HEAD:
            raise StoreTooNew(
                f"{path} has schema {found}, but this metta-jobs knows only up to {HEAD}. Upgrade metta-jobs, or name "
                "another folder with --state-dir."
            )
        if found is not None:
            _keep_copy(path, path.with_name(f"{path.name}.before-{HEAD}"))
        upgrade(path)


def upgrade(path: Path, revision: str = "head") -> None:
    """Run the migrations up to `revision`. Each is one transaction."""
    # Alembic takes most of a second to import and is needed once in a release.
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(migrations_folder()).replace("%", "%%"))
    config.attributes["path"] = path
    command.upgrade(config, revision)


def _revision(path: Path) -> str | None:
    if not path.exists() or path.stat().st_size == 0:
        return None
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
    return str(row[0]) if row else None


def _keep_copy(path: Path, copy: Path) -> None:
    source, target = sqlite3.connect(path), sqlite3.connect(copy)
    try:
        source.backup(target)
    finally:
        source.close()
        target.close()
