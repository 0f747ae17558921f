"""What a state folder takes up on the disk, and by whom."""

from __future__ import annotations

import sqlite3
from collections import Counter

from metta_jobs.disk import Usage, amount, usage
from metta_jobs.paths import StateDir
from metta_jobs.upkeep.findings import Finding, counted, fine, warning
from metta_jobs.upkeep.folders import job_folders

LARGEST = 5
LARGE_LOG = 256_000_000


def look(state_dir: StateDir, connection: sqlite3.Connection | None) -> Finding:
    """Measure everything; the largest groups are named."""
    database = state_dir.database
    log = usage(database.with_name(f"{database.name}-wal")).size
    copies = sorted(path for path in database.parent.glob(f"{database.name}.*"))
    folders, logs = _folders(state_dir)
    total = Usage()
    for one in folders.values():
        total.add(one)
    details = [
        f"database {amount(usage(database).size)}{_free(connection)}, its write-ahead log {amount(log)}",
        f"folders of jobs {amount(total.size)} in {counted(total.files, 'file')}, of which output.log {amount(logs)}",
        f"the daemon's and the runners' logs {amount(_logs(state_dir))}",
    ]
    details += [f"copy {path.name} {amount(usage(path).size)}" for path in copies]
    details += _by_group(connection, folders)
    says = f"{amount(usage(state_dir.root).size)} in all"
    if log > LARGE_LOG:
        remedy = "end programs that keep the database open; the log shrinks when nobody reads in it any more"
        return warning("sizes", f"{says}; the write-ahead log of the database is large", remedy, *details)
    return fine("sizes", says, *details)


def _folders(state_dir: StateDir) -> tuple[dict[int, Usage], int]:
    found, logs = {}, 0
    for job, folder in job_folders(state_dir).items():
        found[job] = usage(folder)
        logs += sum(usage(path).size for path in folder.glob("*/output.log"))
    return found, logs


def _logs(state_dir: StateDir) -> int:
    root = state_dir.root
    return sum(usage(path).size for path in (*root.glob("daemon.*"), *root.glob("runners/*.log")) if path.is_file())


def _free(connection: sqlite3.Connection | None) -> str:
    if connection is None:
        return ""
    (pages,) = connection.execute("PRAGMA freelist_count").fetchone()
    (size,) = connection.execute("PRAGMA page_size").fetchone()
    return f" ({amount(pages * size)} of it free for new rows)" if pages else ""


def _by_group(connection: sqlite3.Connection | None, folders: dict[int, Usage]) -> list[str]:
    if connection is None:
        return []
    sizes: Counter[str] = Counter()
    names = dict(connection.execute("SELECT j.id, g.name FROM jobs AS j JOIN groups AS g ON g.id = j.group_id"))
    left = 0
    for job, one in folders.items():
        if job in names:
            sizes[names[job]] += one.size
        else:
            left += one.size
    told = [f"group {name} {amount(size)}" for name, size in sizes.most_common(LARGEST)]
    return [*told, f"folders without a job {amount(left)}"] if left else told
