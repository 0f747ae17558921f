"""Forgetting old groups: which may go, and the rows of those that do. Never what anything that stays depends on.

The rows of a group go in one transaction, in which it is looked at again: who has submitted, retried or asked for
something meanwhile was first.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from metta_jobs.code.orphans import named_in
from metta_jobs.store.words import to_json, to_text


@dataclass(frozen=True)
class OldGroup:
    """A group that may go: its jobs, its messages, and when the last of its jobs ended (without any: it was made)."""

    id: int
    name: str
    jobs: tuple[int, ...]
    deliveries: tuple[int, ...]
    ended_at: str


@dataclass(frozen=True)
class Selection:
    """What may go, in batches that go together, dependent ones first; what is old enough but stays, and why."""

    batches: tuple[tuple[OldGroup, ...], ...]
    kept: dict[str, str]
    newest_delivery: int


_GROUPS = """
SELECT g.id, g.name, max(ifnull(j.finished_at, g.created_at)) AS ended_at,
       sum(j.id IS NOT NULL AND j.finished_at IS NULL) AS unfinished, sum(j.wish IS NOT NULL) AS wishes
FROM groups AS g LEFT JOIN jobs AS j ON j.group_id = g.id
WHERE ?1 IS NULL OR g.id IN (SELECT value FROM json_each(?1))
GROUP BY g.id ORDER BY g.id
"""
_EDGES = """
SELECT DISTINCT c.group_id AS child, p.group_id AS parent, cg.name AS name
FROM dependencies AS d JOIN jobs AS c ON c.id = d.job_id JOIN jobs AS p ON p.id = d.parent_id
JOIN groups AS cg ON cg.id = c.group_id WHERE c.group_id <> p.group_id
"""
_DEPENDENT = """
SELECT g.name FROM jobs AS p JOIN dependencies AS d ON d.parent_id = p.id JOIN jobs AS c ON c.id = d.job_id
JOIN groups AS g ON g.id = c.group_id
WHERE p.group_id IN (SELECT value FROM json_each(?1)) AND c.group_id NOT IN (SELECT value FROM json_each(?1)) LIMIT 1
"""


def select(connection: sqlite3.Connection, before: datetime, keep_last: int) -> Selection:
    """Find the groups all of whose jobs ended before this moment, but for the newest `keep_last` of all groups."""
    old, kept = _old(connection.execute(_GROUPS, (None,)).fetchall(), to_text(before))
    newest = {row["id"] for row in connection.execute("SELECT id FROM groups ORDER BY id DESC LIMIT ?", (keep_last,))}
    waiting = _waiting(connection)
    for group, row in list(old.items()):
        if group in newest:
            kept[row["name"]] = f"it is among the newest {keep_last}"
        elif group in waiting:
            kept[row["name"]] = _WAITING
        else:
            continue
        del old[group]
    needed_by: dict[int, dict[int, str]] = {}
    for child, parent, name in connection.execute(_EDGES):
        needed_by.setdefault(parent, {})[child] = name
    _drop_needed(old, needed_by, kept)
    ids = to_json(sorted(old))
    jobs = _by_group(connection, "jobs", ids)
    deliveries = _by_group(connection, "deliveries", ids)
    found = {
        group: OldGroup(group, row["name"], jobs.get(group, ()), deliveries.get(group, ()), row["ended_at"])
        for group, row in old.items()
    }
    (newest_delivery,) = connection.execute("SELECT ifnull(max(id), 0) FROM deliveries").fetchone()
    return Selection(tuple(_batches(found, needed_by)), kept, newest_delivery)


def delete(
    connection: sqlite3.Connection, batch: Sequence[OldGroup], before: datetime, newest_delivery: int
) -> str | None:
    """Delete the rows of these groups in the caller's write transaction; None when done, else why they stay.

    The connection's foreign keys may be off: everything that refers to them is deleted with them.
    """
    ids = to_json([group.id for group in batch])
    rows = connection.execute(_GROUPS, (ids,)).fetchall()
    old, kept = _old(rows, to_text(before))
    if len(rows) < len(batch):
        return "somebody else has removed it"
    if len(old) < len(batch):
        return next(iter(kept.values()), "it has jobs that have not ended, or not that long ago")
    if _waiting(connection) & set(old):
        return _WAITING
    if (needed := connection.execute(_DEPENDENT, (ids,)).fetchone()) is not None:
        return f"a job of {needed[0]} depends on it"
    these = "(SELECT value FROM json_each(?))"
    of_these = f"(SELECT id FROM jobs WHERE group_id IN {these})"
    connection.execute(f"DELETE FROM events WHERE job_id IN {of_these}", (ids,))
    connection.execute(f"DELETE FROM events WHERE job_id IS NULL AND group_id IN {these}", (ids,))
    told = to_json([delivery for group in batch for delivery in group.deliveries])
    connection.execute(f"DELETE FROM deliveries WHERE id IN {these}", (told,))
    connection.execute(f"DELETE FROM deliveries WHERE id > ? AND group_id IN {these}", (newest_delivery, ids))
    connection.execute(f"DELETE FROM dependencies WHERE job_id IN {of_these}", (ids,))
    for table in ("progress", "health", "attempts"):
        connection.execute(f"DELETE FROM {table} WHERE job_id IN {of_these}", (ids,))
    connection.execute(f"DELETE FROM jobs WHERE group_id IN {these}", (ids,))
    connection.execute(f"DELETE FROM groups WHERE id IN {these}", (ids,))
    return None


def named_snapshots(connection: sqlite3.Connection) -> set[str]:
    """The ids of the snapshots, and of the trainings' configurations, that the configurations of stored jobs name."""
    rows = connection.execute("SELECT config FROM jobs WHERE instr(config, 'snapshots/') OR instr(config, 'configs/')")
    return {snapshot for row in rows for snapshot in named_in(row[0])}


def drop_unused_environments(connection: sqlite3.Connection) -> int:
    """Delete the environments that no job has any more; return how many."""
    return connection.execute("DELETE FROM environments WHERE hash NOT IN (SELECT environment FROM jobs)").rowcount


_WAITING = "a message of its hooks is still to be delivered"


def _old(rows: Iterable[sqlite3.Row], before: str) -> tuple[dict[int, sqlite3.Row], dict[str, str]]:
    old, kept = {}, {}
    for row in rows:
        if row["unfinished"] or row["ended_at"] >= before:
            continue
        if row["wishes"]:
            kept[row["name"]] = "somebody has asked for a retry"
        else:
            old[row["id"]] = row
    return old, kept


def _waiting(connection: sqlite3.Connection) -> set[int]:
    return {row[0] for row in connection.execute("SELECT DISTINCT group_id FROM deliveries WHERE finished_at IS NULL")}


def _by_group(connection: sqlite3.Connection, table: str, groups: str) -> dict[int, tuple[int, ...]]:
    found: dict[int, list[int]] = {}
    for group, row in connection.execute(
        f"SELECT group_id, id FROM {table} WHERE group_id IN (SELECT value FROM json_each(?)) ORDER BY id", (groups,)
    ):
        found.setdefault(group, []).append(row)
    return {group: tuple(ids) for group, ids in found.items()}


def _drop_needed(old: dict[int, sqlite3.Row], needed_by: dict[int, dict[int, str]], kept: dict[str, str]) -> None:
    """Keep every group that a group which stays depends on, and what those depend on, and so on."""
    changed = True
    while changed:
        changed = False
        for group, row in list(old.items()):
            stays = [name for child, name in needed_by.get(group, {}).items() if child not in old]
            if stays:
                kept[row["name"]] = f"a job of {stays[0]} depends on it"
                del old[group]
                changed = True


def _batches(old: dict[int, OldGroup], needed_by: dict[int, dict[int, str]]) -> Iterable[tuple[OldGroup, ...]]:
    """Groups that nothing left depends on go alone; what is left in the end depends on each other and goes as one."""
    left = dict(old)
    while left:
        free = [group for group in left if not _still(needed_by.get(group, {}), left)]
        if not free:
            yield tuple(left.values())
            return
        for group in free:
            yield (left.pop(group),)


def _still(children: Collection[int], left: Collection[int]) -> bool:
    return any(child in left for child in children)
