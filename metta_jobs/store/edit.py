"""Changing what waits: a pending job's configuration, its place in the queue, a group's limits. No state changes."""

from __future__ import annotations

import itertools
import json
import sqlite3
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from metta_jobs.errors import InvalidInput
from metta_jobs.job import JobConfig
from metta_jobs.policy import GroupConfig
from metta_jobs.store.transitions import failures_of, record
from metta_jobs.store.words import to_json, to_text


def config_of(connection: sqlite3.Connection, job_id: int) -> JobConfig:
    """The stored configuration of a job."""
    (text,) = connection.execute("SELECT config FROM jobs WHERE id = ?", (job_id,)).fetchone()
    return JobConfig.model_validate_json(text)


def edit_job(
    connection: sqlite3.Connection,
    now: datetime,
    job_id: int,
    config: JobConfig,
    what: str,
    *,
    pending_only: bool = False,
) -> bool:
    """Give a job that is pending or has ended another configuration; False when it runs (or is about to).

    What it depends on is not changed by this, nor its place in the queue, unless its priority is another one.
    """
    guard = "state = 'pending'" if pending_only else "(state = 'pending' OR finished_at IS NOT NULL)"
    changed = connection.execute(
        "UPDATE jobs SET config = ?1, gpus = ?2, cpus = ?3, memory_gb = ?4, queue_timeout_s = ?5, "
        "rank = CASE WHEN coalesce(json_extract(config, '$.priority'), 0) = ?6 THEN rank "
        "ELSE ?6 + (SELECT priority FROM groups WHERE id = group_id) END "
        f"WHERE id = ?7 AND {guard}",
        (config.model_dump_json(), *config.slots, config.queue_timeout_s, config.priority, job_id),
    ).rowcount
    if changed:
        record(connection, now, [job_id], "edit", reason=what)
    return bool(changed)


def place_jobs(
    connection: sqlite3.Connection, now: datetime, job_ids: Sequence[int], *, before: int | None
) -> list[int]:
    """Put pending jobs into the queue just before another pending one, or first of all; return those moved.

    They stand there in the order given, with the other's rank, so that no priority undoes it.
    """
    ids = to_json(list(job_ids))
    rows = connection.execute(
        "SELECT e.value FROM json_each(?) AS e JOIN jobs AS j ON j.id = e.value WHERE j.state = 'pending' "
        "ORDER BY e.key",
        (ids,),
    )
    moved = [row["value"] for row in rows]
    if before is None:
        target = connection.execute(
            "SELECT rank, place, id FROM jobs WHERE state = 'pending' "  # the first of the others; of these, if none is
            "ORDER BY id IN (SELECT value FROM json_each(?)), rank DESC, place, id LIMIT 1",
            (ids,),
        ).fetchone()
    else:
        target = connection.execute("SELECT rank, place, id FROM jobs WHERE id = ?", (before,)).fetchone()
    if target is None or not moved:
        return []
    places = _places_before(connection, target, ids, len(moved))
    connection.executemany(
        "UPDATE jobs SET rank = ?, place = ? WHERE id = ?",
        [(target["rank"], place, job_id) for place, job_id in zip(places, moved, strict=True)],
    )
    record(connection, now, moved, "edit", reason="moved first" if before is None else f"moved before {before}")
    return moved


def _places_before(connection: sqlite3.Connection, target: sqlite3.Row, ids: str, count: int) -> list[float]:
    """So many different places between a job and the pending one before it; those to be moved do not count."""
    previous = connection.execute(
        "SELECT place FROM jobs WHERE state = 'pending' AND rank = ? AND (place, id) < (?, ?) "
        "AND id NOT IN (SELECT value FROM json_each(?)) ORDER BY place DESC, id DESC LIMIT 1",
        (*target, ids),
    ).fetchone()
    high = target["place"]
    low = high - 1 if previous is None else previous["place"]
    places = [low + position * (high - low) / (count + 1) for position in range(1, count + 1)]
    if all(one < other for one, other in itertools.pairwise([low, *places, high])):
        return places
    connection.execute(  # no number is left between the two: all that comes before makes room, in its order
        "UPDATE jobs SET place = ?2 - n.back FROM "
        "(SELECT id, row_number() OVER (ORDER BY place DESC, id DESC) AS back FROM jobs "
        "WHERE rank = ?1 AND (place, id) < (?2, ?3)) AS n WHERE n.id = jobs.id",
        tuple(target),
    )
    return _places_before(connection, target, ids, count)


def set_group(connection: sqlite3.Connection, now: datetime, group_id: int, config: GroupConfig) -> None:
    """Change what `config` sets of a group; what is None there stays."""
    given = {name: value for name in GroupConfig.model_fields if (value := getattr(config, name)) is not None}
    set_columns(connection, now, group_id, columns(given))


def columns(given: dict[str, Any]) -> dict[str, Any]:
    """Fields of a GroupConfig as they are stored; None takes a limit away."""
    values = dict(given)
    if "priority" in values:
        values["priority"] = values["priority"] or 0
    for name in {"on_end", "health"} & values.keys():
        values[name] = to_json([entry.model_dump(mode="json") for entry in values[name] or ()])
    return values


def set_columns(connection: sqlite3.Connection, now: datetime, group_id: int, values: dict[str, Any]) -> None:
    """Set these columns of a group, also to None; the ranks of its pending jobs follow.

    Raises InvalidInput for a max_failures that is reached already.
    """
    if not values:
        return
    (priority,) = connection.execute("SELECT priority FROM groups WHERE id = ?", (group_id,)).fetchone()
    if (limit := values.get("max_failures")) is not None and (failures := failures_of(connection, group_id)) >= limit:
        raise InvalidInput(
            f"max_failures={limit} would stop the group at once: {failures} of its jobs failed. Set it higher, or end "
            "the rest with `metta job kill`."
        )
    connection.execute(
        f"UPDATE groups SET {', '.join(f'{name} = :{name}' for name in values)} WHERE id = :id",
        {**values, "id": group_id},
    )
    if values.get("priority", priority) != priority:
        connection.execute(
            "UPDATE jobs SET rank = coalesce(json_extract(config, '$.priority'), 0) + ? WHERE group_id = ?",
            (values["priority"], group_id),
        )
    what = ", ".join(f"{name}={json.dumps(value) if value is None else value}" for name, value in values.items())
    _group_event(connection, now, group_id, what)


def pause_group(connection: sqlite3.Connection, now: datetime, group_id: int, *, paused: bool) -> bool:
    """Start no more jobs of the group, or start them again; False when it was so already."""
    changed = connection.execute(
        f"UPDATE groups SET paused_at = ? WHERE id = ? AND paused_at IS {'' if paused else 'NOT '}NULL",
        (to_text(now) if paused else None, group_id),
    ).rowcount
    if changed:
        if not paused:  # its jobs have not waited for slots meanwhile
            connection.execute(
                "UPDATE jobs SET ready_at = ? WHERE group_id = ? AND state = 'pending' AND blocked_by IS NULL",
                (to_text(now), group_id),
            )
        _group_event(connection, now, group_id, "paused" if paused else "resumed")
    return bool(changed)


def _group_event(connection: sqlite3.Connection, now: datetime, group_id: int, what: str) -> None:
    connection.execute(
        "INSERT INTO events (at, group_id, kind, reason) VALUES (?, ?, 'edit', ?)", (to_text(now), group_id, what)
    )
