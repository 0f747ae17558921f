"""Finished jobs by the hundred thousand: copies of a job that the program itself has run, with all its rows.

What the rows hold is read from the file and not known here, so that they stay what the program would have written.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path

_NUMBERS = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < :count)"
PER_GROUP = 100


def fill(database: Path, count: int, per_group: int | None = PER_GROUP) -> None:
    """Add `count` copies of the newest job that succeeded, each a second older than the next, with its attempts and
    events; a new group for every `per_group`, or all in the job's own group. Raises RuntimeError when that breaks a
    reference."""
    with closing(sqlite3.connect(database, isolation_level=None, timeout=60)) as connection:
        connection.execute("PRAGMA foreign_keys = ON")
        connection.execute("BEGIN IMMEDIATE")
        _fill(connection, count, per_group)
        connection.execute("COMMIT")
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        if broken := connection.execute("PRAGMA foreign_key_check").fetchall():
            raise RuntimeError(f"the history made has broken references: {broken[:3]}")


def _fill(connection: sqlite3.Connection, count: int, per_group: int | None) -> None:
    job, group, last_job, last_group = connection.execute(
        "SELECT id, group_id, (SELECT max(id) FROM jobs), (SELECT max(id) FROM groups) FROM jobs "
        "WHERE state = 'succeeded' ORDER BY id DESC LIMIT 1"
    ).fetchone()
    new_job = f"({last_job} + n.i)"
    new_group = str(group)
    if per_group is not None:
        new_group = f"({last_group + 1} + (n.i - 1) / {per_group})"
        made = {"id": f"({last_group} + n.i)", "name": "'past.' || n.i"}
        _copy(connection, "groups", f"t.id = {group}", made, -(-count // per_group), each_s=per_group)
    made = {"id": new_job, "group_id": new_group, "name": "'past.' || n.i", "place": f"1.0 * {new_job}"}
    _copy(connection, "jobs", f"t.id = {job}", made, count)
    _copy(connection, "attempts", f"t.job_id = {job}", {"job_id": new_job}, count)
    _copy(connection, "events", f"t.job_id = {job}", {"id": None, "job_id": new_job, "group_id": new_group}, count)


def _copy(
    connection: sqlite3.Connection,
    table: str,
    where: str,
    made: Mapping[str, str | None],
    count: int,
    *,
    each_s: int = 1,
) -> None:
    """Insert `count` copies of the rows that `where` names, with the values in `made` (None: left to the table)."""
    columns = [str(row[1]) for row in connection.execute(f"PRAGMA table_info({table})")]
    values = {column: value for column in columns if (value := made.get(column, _kept(column, each_s))) is not None}
    connection.execute(
        f"{_NUMBERS} INSERT INTO {table} ({', '.join(values)}) "
        f"SELECT {', '.join(values.values())} FROM n CROSS JOIN {table} t WHERE {where} ORDER BY n.i, t.rowid",
        {"count": count},
    )


def _kept(column: str, each_s: int) -> str:
    if not column.endswith("_at") and column != "at":
        return f"t.{column}"
    ago = f"'-' || ({each_s} * (:count - n.i + 1)) || ' seconds'"
    return f"strftime('%Y-%m-%dT%H:%M:%S', t.{column}, {ago}) || substr(t.{column}, 20)"
