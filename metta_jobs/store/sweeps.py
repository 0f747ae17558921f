"""Sweeps and their trials. Every change is guarded by what it changes, and raises the sweep's revision.

Who asks for a trial reads, thinks without holding a lock, and stores with `claim`, which refuses when anything has
changed since: so asking and storing are as one transaction, and the daemon never waits for a model to be fitted.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from metta_jobs.errors import AlreadyExists
from metta_jobs.store.words import Origin, SweepState, TrialState, to_json, to_text, to_time

_ENDED = (SweepState.ENDED, SweepState.STOPPED)


@dataclass(frozen=True)
class SweepRow:
    """One sweep. `revision` is another one with each change; times are UTC."""

    id: int
    name: str
    state: SweepState
    reason: str | None
    definition: dict[str, Any]
    revision: int
    created_at: datetime
    resumed_at: datetime
    paused_at: datetime | None
    finished_at: datetime | None


@dataclass(frozen=True)
class TrialRow:
    """One trial. `cost` is in the sweep's unit; `seconds` and `dollars` are what all its jobs took together."""

    id: int
    number: int
    origin: Origin
    state: TrialState
    phase: str | None
    params: dict[str, Any]
    suggestion: dict[str, Any] | None
    job: str | None
    of_trial: int | None
    seed: int | None
    score: float | None
    cost: float | None
    seconds: float | None
    dollars: float | None
    reason: str | None
    source: str | None
    created_at: datetime
    finished_at: datetime | None


@dataclass(frozen=True)
class NewTrial:
    """A trial that is to be stored. With `ended` it is not OPEN but has ended so."""

    params: Mapping[str, Any]
    origin: Origin
    phase: str | None = None
    suggestion: Mapping[str, Any] | None = None
    of_trial: int | None = None
    seed: int | None = None
    source: str | None = None
    job: str | None = None
    ended: Ending | None = None


@dataclass(frozen=True)
class Ending:
    """How a trial has ended: a score where it is FINISHED or STOPPED, a reason elsewhere."""

    state: TrialState
    score: float | None = None
    cost: float | None = None
    seconds: float | None = None
    dollars: float | None = None
    reason: str | None = None


def create(connection: sqlite3.Connection, now: datetime, name: str, definition: Mapping[str, Any]) -> None:
    """Store a new sweep. Raises AlreadyExists."""
    try:
        connection.execute(
            "INSERT INTO sweeps (name, state, definition, created_at, resumed_at) VALUES (?, ?, ?, ?, ?)",
            (name, SweepState.RUNNING, to_json(dict(definition)), to_text(now), to_text(now)),
        )
    except sqlite3.IntegrityError as error:
        raise AlreadyExists(f"There is a sweep {name!r} already: choose another name.") from error


def find(connection: sqlite3.Connection, name: str) -> SweepRow | None:
    """The sweep of this name, None when there is none."""
    row = connection.execute("SELECT * FROM sweeps WHERE name = ?", (name,)).fetchone()
    return None if row is None else _sweep(row)


def all_sweeps(connection: sqlite3.Connection) -> list[SweepRow]:
    """All sweeps, newest last."""
    return [_sweep(row) for row in connection.execute("SELECT * FROM sweeps ORDER BY id")]


def trials_of(connection: sqlite3.Connection, sweep_id: int) -> list[TrialRow]:
    """The trials of a sweep, by number."""
    return [
        _trial(row)
        for row in connection.execute("SELECT * FROM trials WHERE sweep_id = ? ORDER BY number", (sweep_id,))
    ]


def claim(connection: sqlite3.Connection, sweep: SweepRow) -> bool:
    """Be the one who changes the sweep as it was read; False when anything of it has changed since."""
    changed = connection.execute(
        "UPDATE sweeps SET revision = revision + 1 WHERE id = ? AND revision = ?", (sweep.id, sweep.revision)
    )
    return bool(changed.rowcount)


def add(connection: sqlite3.Connection, now: datetime, sweep_id: int, new: Sequence[NewTrial]) -> list[int]:
    """Store trials and return their numbers; those whose source is there already are passed over."""
    (last,) = connection.execute("SELECT ifnull(max(number), 0) FROM trials WHERE sweep_id = ?", (sweep_id,)).fetchone()
    numbers = []
    for trial in new:
        end = trial.ended or Ending(TrialState.OPEN)
        done = connection.execute(
            "INSERT INTO trials (sweep_id, number, origin, state, phase, params, suggestion, job, of_trial, seed, "
            "score, cost, seconds, dollars, reason, source, created_at, finished_at) "
            "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) "
            "ON CONFLICT (sweep_id, source) WHERE source IS NOT NULL DO NOTHING",
            (
                *(sweep_id, last + 1, trial.origin, end.state, trial.phase, to_json(dict(trial.params))),
                None if trial.suggestion is None else to_json(dict(trial.suggestion)),
                trial.job if trial.job is not None or trial.ended else job_name(last + 1),
                *(trial.of_trial, trial.seed, end.score, end.cost, end.seconds, end.dollars, end.reason),
                *(trial.source, to_text(now), to_text(now) if trial.ended else None),
            ),
        )
        if done.rowcount:
            last += 1
            numbers.append(last)
    return numbers


def job_name(number: int) -> str:
    """The name of the job of a trial: "t001"."""
    return f"t{number:03d}"


def draft(params: Mapping[str, Any]) -> TrialRow:
    """A first trial as it would be stored, for previews."""
    return TrialRow(
        id=0,
        number=1,
        origin=Origin.SUGGESTED,
        state=TrialState.OPEN,
        phase=None,
        params=dict(params),
        suggestion=None,
        job=job_name(1),
        of_trial=None,
        seed=None,
        score=None,
        cost=None,
        seconds=None,
        dollars=None,
        reason=None,
        source=None,
        created_at=datetime.now(UTC),
        finished_at=None,
    )


def end(connection: sqlite3.Connection, now: datetime, trial_id: int, ending: Ending) -> bool:
    """Record how an open trial has ended; False when that was recorded before, which stays as it is."""
    changed = connection.execute(
        "UPDATE trials SET state = ?, score = ?, cost = ?, seconds = ?, dollars = ?, reason = ?, finished_at = ? "
        "WHERE id = ? AND state = 'open'",
        (
            *(ending.state, ending.score, ending.cost, ending.seconds, ending.dollars, ending.reason),
            *(to_text(now), trial_id),
        ),
    ).rowcount
    if changed:
        connection.execute(
            "UPDATE sweeps SET revision = revision + 1 WHERE id = (SELECT sweep_id FROM trials WHERE id = ?)",
            (trial_id,),
        )
    return bool(changed)


def note(connection: sqlite3.Connection, trial_id: int, reason: str) -> bool:
    """Say of an open trial why it is about to be ended early; False when that was said, or it has ended."""
    changed = connection.execute(
        "UPDATE trials SET reason = ? WHERE id = ? AND state = 'open' AND reason IS NULL", (reason, trial_id)
    )
    return bool(changed.rowcount)


def move(
    connection: sqlite3.Connection,
    now: datetime,
    sweep_id: int,
    origins: Sequence[SweepState],
    to: SweepState,
    reason: str | None,
) -> bool:
    """Give the sweep another state, from one of these; False when it is in none of them."""
    ended = to in _ENDED
    changed = connection.execute(
        "UPDATE sweeps SET state = ?1, reason = ?2, revision = revision + 1, "
        "resumed_at = CASE WHEN ?1 = 'running' THEN ?3 ELSE resumed_at END, "
        "finished_at = CASE WHEN ?4 THEN ?3 END "
        "WHERE id = ?5 AND state IN (SELECT value FROM json_each(?6))",
        (to, reason, to_text(now), ended, sweep_id, to_json([state.value for state in origins])),
    )
    return bool(changed.rowcount)


def pause(connection: sqlite3.Connection, now: datetime, sweep_id: int, *, paused: bool) -> bool:
    """Ask for no more trials, or ask again; False when it was so already."""
    changed = connection.execute(
        "UPDATE sweeps SET paused_at = ?, revision = revision + 1 "
        f"WHERE id = ? AND paused_at IS {'' if paused else 'NOT '}NULL",
        (to_text(now) if paused else None, sweep_id),
    )
    return bool(changed.rowcount)


def redefine(connection: sqlite3.Connection, sweep: SweepRow, definition: Mapping[str, Any]) -> bool:
    """Give the sweep, as it was read, another definition; False when anything of it has changed since."""
    if not claim(connection, sweep):
        return False
    connection.execute("UPDATE sweeps SET definition = ? WHERE id = ?", (to_json(dict(definition)), sweep.id))
    return True


def seconds_of(connection: sqlite3.Connection, job_ids: Sequence[int]) -> dict[int, float]:
    """Job → seconds that all its attempts ran."""
    rows = connection.execute(
        "SELECT job_id, sum(duration_s) AS ran FROM attempts "
        "WHERE job_id IN (SELECT value FROM json_each(?)) AND duration_s IS NOT NULL GROUP BY job_id",
        (to_json(list(job_ids)),),
    )
    return {row["job_id"]: row["ran"] for row in rows}


def _sweep(row: sqlite3.Row) -> SweepRow:
    return SweepRow(
        row["id"],
        row["name"],
        SweepState(row["state"]),
        row["reason"],
        json.loads(row["definition"]),
        row["revision"],
        datetime.fromisoformat(row["created_at"]),
        datetime.fromisoformat(row["resumed_at"]),
        to_time(row["paused_at"]),
        to_time(row["finished_at"]),
    )


def _trial(row: sqlite3.Row) -> TrialRow:
    values = {key: row[key] for key in row.keys() if key != "sweep_id"}  # noqa: SIM118 - a Row is no mapping
    values |= {
        "origin": Origin(row["origin"]),
        "state": TrialState(row["state"]),
        "params": json.loads(row["params"]),
        "suggestion": json.loads(row["suggestion"] or "null"),
        "created_at": datetime.fromisoformat(row["created_at"]),
        "finished_at": to_time(row["finished_at"]),
    }
    return TrialRow(**values)
