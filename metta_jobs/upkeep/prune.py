"""Removing old groups, rows and files together: planned, shown, and then done group by group.

Rows go first. Whoever dies between rows and files leaves folders that belong to no job, which the next prune finds.
Snapshots of code and configurations of trainings may belong to many jobs and go when the last of them is gone.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from metta_jobs.code.orphans import orphaned, take_away
from metta_jobs.disk import usage
from metta_jobs.errors import InvalidInput
from metta_jobs.paths import StateDir
from metta_jobs.store import prune
from metta_jobs.store.engine import Store
from metta_jobs.store.prune import OldGroup
from metta_jobs.store.words import to_time
from metta_jobs.upkeep.folders import job_folders, remove, without_rows

_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


def parse_span(text: str) -> timedelta:
    """Read "30d", "12h", "90m", "45s" or "2w". Raises InvalidInput."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([smhdw])", text.strip())
    try:
        if found:
            return timedelta(**{_UNITS[found[2]]: float(found[1])})
    except OverflowError:
        pass
    raise InvalidInput(f"{text!r} is no span of time: say 45s, 90m, 12h, 30d or 2w.")


@dataclass(frozen=True)
class Group:
    """A group that goes: when it had ended, and the bytes that its files take up."""

    row: OldGroup
    ended_at: datetime
    size: int

    def to_dict(self) -> dict[str, Any]:
        """The stable JSON form."""
        jobs = len(self.row.jobs)
        return {"group": self.row.name, "jobs": jobs, "ended_at": self.ended_at.isoformat(), "bytes": self.size}


@dataclass(frozen=True)
class Plan:
    """What would go. `orphans` are old folders and snapshots without a job, with their bytes; `kept` says why old
    groups stay."""

    before: datetime
    batches: tuple[tuple[Group, ...], ...]
    orphans: dict[Path, int]
    kept: dict[str, str]
    newest_delivery: int

    @property
    def groups(self) -> list[Group]:
        """All groups that go, oldest first."""
        return sorted((group for batch in self.batches for group in batch), key=lambda group: group.row.id)

    @property
    def size(self) -> int:
        """Bytes of all files that go."""
        return sum(group.size for group in self.groups) + sum(self.orphans.values())


@dataclass
class Done:
    """What has gone, what stays after all and why, and what could not be removed."""

    groups: list[Group] = field(default_factory=list)
    spared: dict[str, str] = field(default_factory=dict)
    size: int = 0
    troubles: list[str] = field(default_factory=list)


def plan(state_dir: StateDir, store: Store, now: datetime, older_than: timedelta, keep_last: int) -> Plan:
    """Find the groups that ended longer ago than that, but for the newest `keep_last` of all, and measure them.

    Raises InvalidInput, StoreError, and OSError when the folders cannot be listed.
    """
    try:
        before = now - older_than
    except OverflowError:
        raise InvalidInput("Nothing is that old.") from None
    folders = job_folders(state_dir)
    with store.read() as connection:
        found = prune.select(connection, before, keep_last)
        orphans = [*without_rows(connection, folders).values(), *_snapshots(state_dir, connection)]
    measured = {folder: usage(folder) for folder in orphans}
    return Plan(
        before,
        tuple(tuple(_measured(group, folders) for group in batch) for batch in found.batches),
        {folder: u.size for folder, u in measured.items() if u.changed < before.timestamp()},
        found.kept,
        found.newest_delivery,
    )


def _measured(row: OldGroup, folders: dict[int, Path]) -> Group:
    size = sum(usage(folders[job]).size for job in row.jobs if job in folders)
    return Group(row, to_time(row.ended_at) or datetime.now(UTC), size)


def carry_out(
    state_dir: StateDir, path: Path, planned: Plan, on_group: Callable[[Group], None] = lambda _: None
) -> Done:
    """Remove what was planned from the database at `path` and from the disk; `on_group` hears of each group removed.

    A group that somebody has used meanwhile is spared. Raises StoreError; what had been removed by then is gone.
    """
    done = Done()
    store = Store(path, foreign_keys=False)
    try:
        for batch in planned.batches:
            _remove_batch(state_dir, store, planned, batch, done, on_group)
        with store.write() as connection:
            prune.drop_unused_environments(connection)
        with store.read() as connection:
            # Those that were planned, as far as nobody has used them since, and those of the groups that have gone.
            snapshots = _snapshots(state_dir, connection)
    finally:
        store.close()
    for folder, size in planned.orphans.items():
        if folder.parent not in (state_dir.snapshots, state_dir.configs):
            _remove_folder(folder, size, done)
    for snapshot in snapshots:
        found = usage(snapshot)
        if found.changed < planned.before.timestamp() and (aside := take_away(snapshot)) is not None:
            _remove_folder(aside, found.size, done)
    return done


def _snapshots(state_dir: StateDir, connection: sqlite3.Connection) -> list[Path]:
    return orphaned(state_dir.root, prune.named_snapshots(connection))


def _remove_batch(
    state_dir: StateDir,
    store: Store,
    planned: Plan,
    batch: Sequence[Group],
    done: Done,
    on_group: Callable[[Group], None],
) -> None:
    with store.write() as connection:
        rows = [group.row for group in batch]
        why = prune.delete(connection, rows, planned.before, planned.newest_delivery)
    if why is not None:
        done.spared |= {group.row.name: why for group in batch}
        return
    for group in batch:
        troubles = len(done.troubles)
        for job in group.row.jobs:
            _remove_folder(state_dir.root / "jobs" / str(job), 0, done)
        done.groups.append(group)
        done.size += group.size if len(done.troubles) == troubles else 0
        on_group(group)


def _remove_folder(folder: Path, size: int, done: Done) -> None:
    trouble = remove(folder)
    if trouble is None:
        done.size += size
    else:
        done.troubles.append(trouble)
