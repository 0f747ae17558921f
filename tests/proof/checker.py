"""What must hold after anything that was killed: read from the database, the evidence, the kernel and a witness's log.

Each job of these tests is `witness(...)`: a shell that appends "<job> <attempt> start" to a file outside the state
folder, does what it is told, and appends "<job> <attempt> end".
"""

from __future__ import annotations

import sqlite3
from collections import Counter
from pathlib import Path
from typing import Any

from metta_jobs.job import JobConfig
from metta_jobs.states import ARROWS, JobState
from metta_jobs.store.audit import audit
from tests.processes import processes_of

_SCRIPT = (
    'echo "$METTA_JOB_ID $METTA_ATTEMPT start" >> "$0"; sleep "$1"; '
    'echo "$METTA_JOB_ID $METTA_ATTEMPT end" >> "$0"; exit "$2"'
)
_QUICK = 'echo "$METTA_JOB_ID $METTA_ATTEMPT start\n$METTA_JOB_ID $METTA_ATTEMPT end" >> "$0"; exit "$1"'


def witness(name: str, log: Path, seconds: float = 0, code: int = 0, **fields: Any) -> JobConfig:
    """A job that leaves its traces in `log`, runs for so long, and ends with this code."""
    if not seconds:
        return JobConfig(name=name, command=("/bin/sh", "-c", _QUICK, str(log), str(code)), **fields)
    return JobConfig(name=name, command=("/bin/sh", "-c", _SCRIPT, str(log), str(seconds), str(code)), **fields)


def broken(root: Path, log: Path, *, ended: bool = True) -> list[str]:
    """Every promise that does not hold, in sentences. `ended`: nothing should be left to run."""
    connection = sqlite3.connect(f"{(root / 'jobs.sqlite').as_uri()}?mode=ro", uri=True)
    connection.row_factory = sqlite3.Row
    try:
        found = audit(connection)
        found += _histories(connection)
        found += _against_the_witness(connection, log)
        if ended:
            rows = connection.execute("SELECT id, state FROM jobs WHERE finished_at IS NULL")
            found += [f"job {row['id']} is still {row['state']}" for row in rows]
    finally:
        connection.close()
    if ended:
        found += [f"process {pid} of some attempt is left" for pid in processes_of(root)]
    return found


def _histories(connection: sqlite3.Connection) -> list[str]:
    """Each job's events are a path along the arrows, and end where the job is."""
    found = []
    for job in connection.execute("SELECT id, state FROM jobs").fetchall():
        at: str | None = None
        for event in connection.execute(
            "SELECT kind, from_state, to_state FROM events WHERE job_id = ? AND to_state IS NOT NULL ORDER BY id",
            (job["id"],),
        ):
            if event["kind"] == "submitted":
                legal = at is None
            else:
                legal = at == event["from_state"] and JobState(event["to_state"]) in ARROWS[JobState(at)]
            if not legal:
                found.append(f"job {job['id']} went from {at} to {event['to_state']}")
            at = event["to_state"]
        if at != job["state"]:
            found.append(f"job {job['id']} is {job['state']}, its events say {at}")
    return found


def _against_the_witness(connection: sqlite3.Connection, log: Path) -> list[str]:
    lines = log.read_text().splitlines() if log.exists() else []
    traces = Counter(tuple(line.split()) for line in lines)
    found = [f"attempt {job}.{attempt} {what}ed {n} times" for (job, attempt, what), n in traces.items() if n > 1]
    attempts = {
        (str(row["job_id"]), str(row["number"])): row
        for row in connection.execute("SELECT job_id, number, state, exit_code, reason FROM attempts")
    }
    for job, attempt, _ in traces:
        if (job, attempt) not in attempts:
            found.append(f"attempt {job}.{attempt} ran and is not stored")
    for (job, attempt), row in attempts.items():
        ended = (job, attempt, "end") in traces
        if row["state"] == "succeeded" and not ended:
            found.append(f"attempt {job}.{attempt} is told to have succeeded and never ended by itself")
        if row["state"] == "lost" and ended:
            found.append(f"attempt {job}.{attempt} ended by itself and is told to be lost ({row['reason']})")
    return found
