"""What follows for other jobs when one has ended or is tried again: some can start, some never will.

`jobs.blocked_by` names one parent that a pending job still waits for (the newest, which is likely to end last) and is
NULL when there is none. So the end of a job looks only at those that wait for it, not at all that are pending.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from datetime import datetime

from metta_jobs.states import JobState
from metta_jobs.store.words import to_json, to_text

# One parent `p` under the dependency `d`. For "not ok" of a whole group the parents are looked at together, in _VAIN.
_UNMET = """(p.finished_at IS NULL
    OR (d.kind = 'afterok' AND p.state <> 'succeeded')
    OR (d.kind = 'afternotok' AND d.of_group IS NULL AND p.state = 'succeeded'))"""

_BLOCK = f"""
UPDATE jobs SET blocked_by = (
    SELECT p.id FROM dependencies AS d JOIN jobs AS p ON p.id = d.parent_id
    WHERE d.job_id = jobs.id AND {_UNMET} ORDER BY d.parent_id DESC LIMIT 1
) WHERE id IN (SELECT value FROM json_each(?)) AND state = 'pending'
"""

_READY = """
UPDATE jobs SET ready_at = CASE WHEN blocked_by IS NULL THEN coalesce(ready_at, ?) END
WHERE id IN (SELECT value FROM json_each(?)) AND state = 'pending'
"""

_DOOMED = """
SELECT d.job_id, p.name, p.state, g.name AS elsewhere
FROM dependencies AS d
JOIN jobs AS p ON p.id = d.parent_id
JOIN jobs AS c ON c.id = d.job_id AND c.state = 'pending'
LEFT JOIN groups AS g ON g.id = p.group_id AND p.group_id <> c.group_id
WHERE d.{side} IN (SELECT value FROM json_each(?)) AND p.finished_at IS NOT NULL
    AND d.kind = CASE p.state WHEN 'succeeded' THEN 'afternotok' ELSE 'afterok' END
    AND (d.of_group IS NULL OR d.kind = 'afterok')
ORDER BY d.job_id, p.id
"""

_VAIN = """
SELECT d.job_id, g.name FROM dependencies AS d
JOIN jobs AS c ON c.id = d.job_id AND c.state = 'pending' AND c.blocked_by IS NULL
JOIN jobs AS p ON p.id = d.parent_id
JOIN groups AS g ON g.id = d.of_group
WHERE d.job_id IN (SELECT value FROM json_each(?)) AND d.kind = 'afternotok'
GROUP BY d.job_id, d.of_group HAVING sum(p.state <> 'succeeded') = 0
"""


def block(connection: sqlite3.Connection, now: datetime, job_ids: Iterable[int]) -> None:
    """Find out anew what these pending jobs wait for."""
    ids = to_json(sorted(job_ids))
    connection.execute(_BLOCK, (ids,))
    connection.execute(_READY, (to_text(now), ids))


def waiting_for(connection: sqlite3.Connection, job_ids: Iterable[int]) -> list[int]:
    """The pending jobs that wait for one of these by name."""
    ids = to_json(sorted(job_ids))
    rows = connection.execute(
        "SELECT id FROM jobs WHERE blocked_by IN (SELECT value FROM json_each(?)) AND blocked_by IS NOT NULL", (ids,)
    )
    return [row[0] for row in rows]


def doomed_by(connection: sqlite3.Connection, parent_ids: Iterable[int]) -> dict[int, str]:
    """Pending jobs that these parents' ends have ruled out, and why."""
    return _reasons(connection.execute(_DOOMED.format(side="parent_id"), (to_json(sorted(parent_ids)),)))


def doomed_among(connection: sqlite3.Connection, job_ids: Iterable[int]) -> dict[int, str]:
    """Those of these pending jobs that are ruled out by how their parents have ended already, and why."""
    ids = to_json(sorted(job_ids))
    return {**vain_among(connection, job_ids), **_reasons(connection.execute(_DOOMED.format(side="job_id"), (ids,)))}


def vain_among(connection: sqlite3.Connection, job_ids: Iterable[int]) -> dict[int, str]:
    """Those of these pending jobs that wait for a failure in a group where all have succeeded."""
    rows = connection.execute(_VAIN, (to_json(sorted(job_ids)),))
    return {row["job_id"]: f"all of {row['name']} succeeded" for row in rows}


def _reasons(rows: Iterable[sqlite3.Row]) -> dict[int, str]:
    found: dict[int, str] = {}
    for row in rows:
        name = f"{row['elsewhere']}/{row['name']}" if row["elsewhere"] else row["name"]
        found.setdefault(row["job_id"], f"{name} {past(JobState(row['state']))}")
    return found


def children(connection: sqlite3.Connection, parent_ids: Sequence[int], state: JobState) -> list[int]:
    """The jobs in this state that depend on one of these."""
    rows = connection.execute(
        "SELECT DISTINCT d.job_id FROM dependencies AS d JOIN jobs AS c ON c.id = d.job_id "
        "WHERE d.parent_id IN (SELECT value FROM json_each(?)) AND c.state = ?",
        (to_json(list(parent_ids)), state),
    )
    return [row[0] for row in rows]


def past(state: JobState) -> str:
    """What has become of a job in this state."""
    return {
        JobState.TIMED_OUT: "timed out",
        JobState.KILLED: "was killed",
        JobState.LOST: "was lost",
        JobState.SKIPPED: "was skipped",
    }.get(state, state.value)
