"""How far runs are: the newest values of each attempt's metrics, as the daemon has read them."""

from __future__ import annotations

import json
import math
import sqlite3
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

from metta_jobs.store.words import to_json, to_text, to_time
from metta_jobs.views import Progress, json_number

Key = tuple[int, int]

#: The names under which a reward and a speed that SQLite cannot hold as numbers (NaN) stand among the metrics.
_REWARD, _SPS = "\0reward", "\0sps"


def save(connection: sqlite3.Connection, rows: Mapping[Key, tuple[Progress, bool]]) -> None:
    """Store what was read of these attempts, and whether that was after their end; of jobs that are gone, nothing."""
    connection.executemany(
        "INSERT INTO progress (job_id, attempt, steps, total, reward, sps, updated_at, metrics, final) "
        "SELECT ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9 WHERE EXISTS (SELECT 1 FROM jobs WHERE id = ?1) "
        "ON CONFLICT (job_id, attempt) DO UPDATE SET steps = ?3, total = ?4, reward = ?5, sps = ?6, "
        "updated_at = ?7, metrics = ?8, final = ?9",
        [
            (*key, *map(_column, (p.steps, p.total, p.reward, p.sps)), _moment(p.updated_at), _metrics(p), final)
            for key, (p, final) in rows.items()
        ],
    )


def _column(value: float | None) -> float | None:
    return None if value is None or not math.isfinite(value) else value


def _metrics(progress: Progress) -> str:
    odd = {_REWARD: progress.reward, _SPS: progress.sps}
    odd = {name: value for name, value in odd.items() if value is not None and not math.isfinite(value)}
    return to_json({name: json_number(value) for name, value in {**progress.values, **odd}.items()})


def _moment(since_epoch: float | None) -> str | None:
    """A job may log any number as its time."""
    try:
        return None if since_epoch is None else to_text(datetime.fromtimestamp(since_epoch, UTC))
    except (OverflowError, ValueError, OSError):
        return None


def load(connection: sqlite3.Connection, which: str, value: object) -> dict[int, Progress]:
    """Job → progress of its newest attempt, of the jobs `j` for which the condition `which` holds."""
    rows = connection.execute(
        "SELECT p.* FROM jobs AS j JOIN progress AS p ON p.job_id = j.id AND p.attempt = j.attempt "
        f"WHERE {which} AND j.state <> 'pending'",
        (value,),
    )
    return {row["job_id"]: _progress(row) for row in rows}


def _progress(row: sqlite3.Row) -> Progress:
    values = {name: float(value) for name, value in json.loads(row["metrics"]).items()}
    reward, sps = values.pop(_REWARD, row["reward"]), values.pop(_SPS, row["sps"])
    updated = to_time(row["updated_at"])
    return Progress(row["steps"], row["total"], reward, sps, updated.timestamp() if updated else None, values)


def load_health(connection: sqlite3.Connection, which: str, value: object) -> dict[int, tuple[str, ...]]:
    """Job → what rules have found wrong with its newest attempt, oldest first."""
    found: dict[int, tuple[str, ...]] = {}
    for row in connection.execute(
        "SELECT h.job_id, h.said FROM jobs AS j JOIN health AS h ON h.job_id = j.id AND h.attempt = j.attempt "
        f"WHERE {which} AND j.state <> 'pending' ORDER BY h.job_id, h.at",
        (value,),
    ):
        found[row["job_id"]] = (*found.get(row["job_id"], ()), row["said"])
    return found


def unread_ends(connection: sqlite3.Connection) -> list[tuple[Key, Sequence[str]]]:
    """The attempts that have ended and were last read before that, with the keys to follow."""
    rows = connection.execute(
        "SELECT p.job_id, p.attempt, json_extract(j.config, '$.metrics') AS metrics FROM progress AS p "
        "JOIN attempts AS a ON a.job_id = p.job_id AND a.number = p.attempt JOIN jobs AS j ON j.id = p.job_id "
        "WHERE p.final = 0 AND a.finished_at IS NOT NULL"
    )
    return [((row["job_id"], row["attempt"]), json.loads(row["metrics"] or "[]")) for row in rows]
