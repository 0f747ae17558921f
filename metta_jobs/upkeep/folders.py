"""The folders of jobs: which there are, which belong to nobody any more, and removing them."""

from __future__ import annotations

import os
import shutil
import sqlite3
from pathlib import Path

from metta_jobs.paths import StateDir


def job_folders(state_dir: StateDir) -> dict[int, Path]:
    """The folder of each job that has one, by the job's id. Raises OSError when they cannot be listed."""
    try:
        with os.scandir(state_dir.root / "jobs") as entries:
            return {int(e.name): Path(e.path) for e in entries if e.name.isascii() and e.name.isdigit()}
    except FileNotFoundError:
        return {}


def without_rows(connection: sqlite3.Connection, folders: dict[int, Path]) -> dict[int, Path]:
    """Those folders whose jobs are not in the database.

    List the folders before the transaction begins: a job is stored before it gets a folder, so none that is new is
    taken for one that is left over.
    """
    stored = {row[0] for row in connection.execute("SELECT id FROM jobs")}
    return {job: folder for job, folder in sorted(folders.items()) if job not in stored}


def remove(folder: Path) -> str | None:
    """Remove a folder with all that is in it; None when it is gone, else why it is not. Links are not followed."""
    try:
        if folder.is_symlink():
            folder.unlink()
            return None
        try:
            shutil.rmtree(folder)
        except PermissionError:
            # A job may have taken its own right to write away.
            folder.chmod(0o700)
            for here, names, _ in os.walk(folder):
                for name in names:
                    path = Path(here, name)
                    if not path.is_symlink():
                        path.chmod(0o700)
            shutil.rmtree(folder)
    except FileNotFoundError:
        return None
    except OSError as error:
        return f"{folder} cannot be removed: {error.strerror or error}"
    return None
