"""What is stored: the database, the promises that its rows keep, messages that wait, folders of jobs."""

from __future__ import annotations

import sqlite3

XX

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


def _damaged(patient: Patient) -> Iterator[Finding]:
    try:
        yield from _database(patient)
    except (sqlite3.DatabaseError, UnicodeDecodeError) as error:
        patient.close()
        patient.connection = None
        if isinstance(error, sqlite3.OperationalError) and "no such" not in str(error):
            raise
        yield broken("database", f"{patient.dir.database} is damaged ({error})", REPAIR)


def _rows(patient: Patient) -> Iterator[Finding]:
    if patient.connection is None or not patient.current:
        return
    if wrong := rows_and_history(patient.connection):
        yield broken("queue", f"{counted(len(wrong), 'broken promise')} in the database", REPAIR, *wrong)
    else:
        yield fine("queue", "states, attempts, dependencies and histories agree")
    if over := slots(patient.connection):
        yield warning(
            "slots",
            "more is given out than there is",
            "nothing, where a setting was lowered while jobs were running: it passes when they end",
            *over,
        )


def _hooks(patient: Patient) -> Iterator[Finding]:
    if patient.connection is None or not patient.current:
        return
    rows = patient.connection.execute(
        """SELECT g.name, d.tries, d.error FROM deliveries AS d JOIN groups AS g ON g.id = d.group_id
        WHERE d.finished_at IS NULL ORDER BY d.id"""
    ).fetchall()
    failing = [row for row in rows if row[1]]
    if failing:
        yield warning(
            "hooks",
            f"{counted(len(failing), 'message')} could not be delivered yet",
            "see to it that the command, the webhook or the desktop can be reached",
            *(f"{group}: {error} (tried {tries} times)" for group, tries, error in failing[:SHOWN]),
        )
    else:
        yield fine("hooks", f"{counted(len(rows), 'message')} to be delivered" if rows else "nothing to be delivered")


def _leftovers(patient: Patient) -> Iterator[Finding]:
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


