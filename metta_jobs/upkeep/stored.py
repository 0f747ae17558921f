"""What is stored: the database, the promises that its rows keep, messages that wait, folders of jobs."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from datetime import timedelta

from metta_jobs.errors import StoreError
from metta_jobs.paths import PROGRAM
from metta_jobs.states import JobState
from metta_jobs.store.audit import rows_and_history, slots
from metta_jobs.store.migrate import HEAD, refuse_to_begin_anew
from metta_jobs.store.outbox import describe
from metta_jobs.store.words import DeliveryState, to_text
from metta_jobs.upkeep.advice import REPAIR
from metta_jobs.upkeep.findings import Finding, broken, counted, fine, warning
from metta_jobs.upkeep.folders import job_folders, without_rows
from metta_jobs.upkeep.patient import Patient

SHOWN = 10
#: Messages that were given up are told for so long.
_RECENT = timedelta(days=1)


def _database(patient: Patient) -> Iterator[Finding]:
    path, name = patient.dir.database, "database"
    if not path.exists() or path.stat().st_size == 0:
        try:
            refuse_to_begin_anew(path)
        except StoreError as error:
            yield broken(name, str(error).rstrip("."), REPAIR)
        else:
            yield fine(name, "there is none yet")
        return
    connection = sqlite3.connect(f"{path.absolute().as_uri()}?mode=rw", uri=True, timeout=30, isolation_level=None)
    connection.row_factory = sqlite3.Row
    patient.connection = connection
    connection.execute("BEGIN")
    wrong = [" ".join(str(row[0]).split()) for row in connection.execute(f"PRAGMA quick_check({SHOWN})")]
    if wrong != ["ok"]:
        raise sqlite3.DatabaseError(wrong[0])
    row = connection.execute("SELECT version_num FROM alembic_version").fetchone()
    if row is None or row[0] > HEAD:
        schema = row[0] if row else "of no version"
        yield broken(name, f"its schema is {schema}, and this metta-jobs knows up to {HEAD}", "upgrade metta-jobs")
        return
    (jobs,) = connection.execute("SELECT count(*) FROM jobs").fetchone()
    (events,) = connection.execute("SELECT count(*) FROM events").fetchone()
    patient.current = row[0] == HEAD
    later = "" if patient.current else f" (the next command migrates it to {HEAD})"
    yield fine(name, f"{counted(jobs, 'job')}, {counted(events, 'event')}, schema {row[0]}{later}, no damage")


def database(patient: Patient) -> Iterator[Finding]:
    """The file: whether it is whole and of which schema. Opens it for the checks that follow."""
    try:
        yield from _database(patient)
    except (sqlite3.DatabaseError, UnicodeDecodeError) as error:
        patient.close()
        if isinstance(error, sqlite3.OperationalError) and "no such" not in str(error):
            raise
        yield broken("database", f"{patient.dir.database} is damaged ({error})", REPAIR)


def queue(patient: Patient) -> Iterator[Finding]:
    """Whether the rows agree with each other, and with what there is to give out."""
    if patient.rows is None:
        return
    if wrong := rows_and_history(patient.rows):
        yield broken("queue", f"{counted(len(wrong), 'broken promise')} in the database", REPAIR, *wrong)
    else:
        yield fine("queue", "states, attempts, dependencies and histories agree")
    if over := slots(patient.rows):
        yield warning(
            "slots",
            "more is given out than there is",
            "nothing, where a setting was lowered while jobs were running: it passes when they end",
            *over,
        )


def hooks(patient: Patient) -> Iterator[Finding]:
    """Messages that wait, and those that could not be delivered: whose they are, whom they are for, what went wrong."""
    if patient.rows is None:
        return
    found = patient.rows.execute(
        """SELECT g.name AS group_name, j.id AS job_id, j.name AS job_name, d.hook, d.facts, d.tries, d.error, d.state
        FROM deliveries AS d JOIN groups AS g ON g.id = d.group_id LEFT JOIN jobs AS j ON j.id = d.job_id
        WHERE d.finished_at IS NULL OR (d.state = ? AND d.finished_at > ?) ORDER BY d.id""",
        (DeliveryState.GIVEN_UP, to_text(patient.now - _RECENT)),
    ).fetchall()
    given_up = [row for row in found if row["state"] == DeliveryState.GIVEN_UP]
    failing = [row for row in found if row["state"] != DeliveryState.GIVEN_UP and row["tries"]]
    if not given_up and not failing:
        says = f"{counted(len(found), 'message')} to be delivered" if found else "nothing to be delivered"
        yield fine("hooks", says)
        return
    parts = [f"{counted(len(failing), 'message')} could not be delivered yet"] if failing else []
    parts += [f"{counted(len(given_up), 'message')} given up within a day"] if given_up else []
    told = [*failing, *given_up]
    more = [f"… and {len(told) - SHOWN} more"] if len(told) > SHOWN else []
    yield warning("hooks", ", ".join(parts), _mending(patient, told), *map(_undelivered, told[:SHOWN]), *more)


def _undelivered(row: sqlite3.Row) -> str:
    whose = f"group {row['group_name']}"
    if row["job_id"] is not None:
        whose = f"job {row['job_id']} ({row['group_name']}/{row['job_name']})"
    end = json.loads(row["facts"]).get("state")
    news = f" {JobState(end).value}" if end in set(JobState) else ""
    what = "given up, tried" if row["state"] == DeliveryState.GIVEN_UP else "tried"
    times = "once" if row["tries"] == 1 else f"{row['tries']} times"
    return f"{whose}{news}, to {describe(row['hook'])}: {row['error']} ({what} {times})"


def _mending(patient: Patient, told: list[sqlite3.Row]) -> str:
    """What to do, by the kinds of receivers that were not reached."""
    kinds = [json.loads(row["hook"]) for row in told]
    ways = []
    if names := sorted({str(hook["webhook"]) for hook in kinds if hook.get("webhook")}):
        ways.append(f"see to it that [webhooks] in ~/.config/metta-jobs/config.toml gives the address of {names[0]}")
    if any(hook.get("command") for hook in kinds):
        ways.append(f"see what the command wrote in {patient.dir.root / 'hooks.log'}")
    if not ways:
        ways.append("a desktop can be reached only where somebody is logged in to one: use a webhook elsewhere")
    change = f"`{PROGRAM} job edit GROUP on_end=…` changes whom a group tells"
    return "; ".join((*ways, change))


def leftovers(patient: Patient) -> Iterator[Finding]:
    """Folders that no stored job owns."""
    folders = job_folders(patient.dir)
    if patient.connection is None:
        return
    left = without_rows(patient.connection, folders)
    row = patient.connection.execute("SELECT seq FROM sqlite_sequence WHERE name = 'jobs'").fetchone()
    given = row[0] if row else 0
    newer = [job for job in left if job > given]
    if newer:
        yield broken(
            "folders",
            f"there is a folder of job {newer[-1]}, but only ids up to {given} were ever given: the database is older "
            "than the folders",
            "put the newer database back; or `metta doctor --repair`, so that no folder is used again",
        )
    elif left:
        shown = ", ".join(map(str, list(left)[:SHOWN])) + (", …" if len(left) > SHOWN else "")
        yield warning(
            "folders",
            f"{counted(len(left), 'folder')} in jobs/ without a stored job: {shown}",
            "`metta job prune --older-than 30d` removes those that are old",
        )
    else:
        each = ", each of a stored job" if folders else ""
        yield fine("folders", f"{counted(len(folders), 'folder')} in jobs/{each}")
