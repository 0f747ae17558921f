"""Looking a state folder over: everything that `metta doctor` asks, and nothing that changes anything."""

from __future__ import annotations

import os
import platform
import sqlite3
import stat
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta

from metta_jobs import __version__, filesystem
from metta_jobs.disk import amount
from metta_jobs.errors import MettaError, StoreError
from metta_jobs.executors.devices import find_gpus
from metta_jobs.paths import StateDir, find_project
from metta_jobs.settings import Settings
from metta_jobs.store.audit import rows_and_history, slots
from metta_jobs.store.migrate import HEAD, refuse_to_begin_anew
from metta_jobs.store.words import to_time
from metta_jobs.upkeep import attendance, sizes
from metta_jobs.upkeep.findings import Finding, broken, counted, fine, warning
from metta_jobs.upkeep.folders import job_folders, without_rows

REPAIR = "`metta doctor --repair` saves what can be saved"
LEAST_FREE = 10_000_000
LITTLE_FREE = 1_000_000_000
SHOWN = 10
_FUTURE = timedelta(minutes=2)


class Patient:
    """A state folder under examination. `connection` is None where the database cannot be read."""

    def __init__(self, state_dir: StateDir, now: datetime) -> None:
        self.dir = state_dir
        self.now = now
        self.connection: sqlite3.Connection | None = None
        self.current = False  # the schema is the one that we know

    def close(self) -> None:
        """Let go of the database."""
        if self.connection is not None:
            self.connection.close()


def examine(state_dir: StateDir, now: datetime) -> Iterator[Finding]:
    """Look at one thing after the other; yields a finding for each as soon as it is known."""
    if not state_dir.root.exists():
        yield fine("state folder", f"{state_dir.root} is not there yet: no job was ever submitted here")
        yield from _guarded("settings", _settings, Patient(state_dir, now))
        return
    patient = Patient(state_dir, now)
    try:
        for name, check in _CHECKS:
            yield from _guarded(name, check, patient)
    finally:
        patient.close()


def _guarded(name: str, check: Callable[[Patient], Iterator[Finding]], patient: Patient) -> Iterator[Finding]:
    """Whatever goes wrong in one check is a finding, and the others go on."""
    try:
        yield from check(patient)
    except (OSError, sqlite3.Error, MettaError, UnicodeDecodeError) as error:
        says = f"cannot be looked at: {error}".rstrip(".")
        yield broken(name, says, "check its owner, its permissions and the disk")


def _folder(patient: Patient) -> Iterator[Finding]:
    root, name = patient.dir.root, "state folder"
    status = root.stat()
    if status.st_uid != os.geteuid():
        yield warning(name, f"{root} belongs to another user", "use a state folder of your own: --state-dir")
        return
    open_to_others = [root] if stat.S_IMODE(status.st_mode) & 0o077 else []
    inside = [patient.dir.doorbell, *sorted((root / "runners").glob("*.sock")), root / "salt"]
    open_inside = [path for path in inside if path.exists() and stat.S_IMODE(path.lstat().st_mode) & 0o077]
    if open_to_others:
        yield warning(name, f"other users may look into {root}", f"`chmod 700 {root}`")
    elif open_inside:
        yield warning(name, f"other users may use {open_inside[0]}", f"`chmod 600 {open_inside[0]}`")
    else:
        yield fine(name, str(root))


def _file_system(patient: Patient) -> Iterator[Finding]:
    kind = filesystem.kind(patient.dir.root)
    if filesystem.is_network(kind):
        allowed = Settings.load(find_project(patient.dir.root.parent)).allow_network_fs
        yield (warning if allowed else broken)(
            "file system",
            f"{kind} is a network file system, where locks and shared memory do not hold",
            "move the folder to a local disk and name it with METTA_JOB_STATE",
        )
    else:
        yield fine("file system", kind or "its type cannot be told on this system")


def _space(patient: Patient) -> Iterator[Finding]:
    found = os.statvfs(patient.dir.root)
    free, total = found.f_bavail * found.f_frsize, found.f_blocks * found.f_frsize
    says = f"{amount(free)} of {amount(total)} are free"
    remedy = "`metta job prune --older-than 30d` makes room"
    if free < LEAST_FREE:
        yield broken("disk space", says, remedy)
    elif found.f_files and found.f_favail < SHOWN:
        yield broken("disk space", "no more files can be made (no inodes are free)", remedy)
    elif free < LITTLE_FREE:
        yield warning("disk space", says, remedy)
    else:
        yield fine("disk space", says)


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


def _devices(patient: Patient) -> Iterator[Finding]:
    settings = Settings.load(find_project(patient.dir.root.parent))
    gpus = find_gpus(settings)
    whence = "by the settings" if settings.gpus is not None else "found"
    yield fine("GPUs", f"{len(gpus)} {whence}: {', '.join(gpus)}" if gpus else f"none {whence}")


def _settings(patient: Patient) -> Iterator[Finding]:
    try:
        Settings.load(find_project(patient.dir.root.parent))
    except MettaError as error:
        yield broken("settings", str(error).rstrip("."), "correct it: nothing can be submitted before")
    else:
        yield fine("settings", "can be read")


def _clock(patient: Patient) -> Iterator[Finding]:
    now, remedy = patient.now, "set the clock (`timedatectl`); no job is harmed, but times and ages are wrong"
    newest = None
    if patient.connection is not None:
        newest = patient.connection.execute("SELECT at FROM events ORDER BY id DESC LIMIT 1").fetchone()
    last = to_time(newest[0]) if newest else None
    if now.year < 2025:
        yield broken("clock", f"it is {now:%Y-%m-%d %H:%M} UTC, says the machine", remedy)
    elif last is not None and last - now > _FUTURE:
        yield warning("clock", f"the newest event is of {last:%Y-%m-%d %H:%M} UTC, which is yet to come", remedy)
    else:
        yield fine("clock", f"{now:%Y-%m-%d %H:%M} UTC")


def _versions(_: Patient) -> Iterator[Finding]:
    says = f"metta-jobs {__version__}, Python {platform.python_version()}, SQLite {sqlite3.sqlite_version}"
    if sqlite3.sqlite_version_info < (3, 35):
        yield broken("versions", says, "use a Python with SQLite 3.35 or newer")
    else:
        yield fine("versions", says)


def _attendance(patient: Patient) -> Iterator[Finding]:
    yield attendance.look(patient.dir, patient.connection, patient.now)


def _sizes(patient: Patient) -> Iterator[Finding]:
    yield sizes.look(patient.dir, patient.connection)


_CHECKS: tuple[tuple[str, Callable[[Patient], Iterator[Finding]]], ...] = (
    ("versions", _versions),
    ("state folder", _folder),
    ("file system", _file_system),
    ("disk space", _space),
    ("settings", _settings),
    ("database", _damaged),
    ("queue", _rows),
    ("hooks", _hooks),
    ("folders", _leftovers),
    ("daemon", _attendance),
    ("GPUs", _devices),
    ("clock", _clock),
    ("sizes", _sizes),
)
