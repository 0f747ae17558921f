"""The machine and who uses it: versions, the state folder's place, disk space, settings, GPUs, the clock."""

from __future__ import annotations

import logging
import os
import platform
import sqlite3
import stat
from collections.abc import Iterator, Sequence
from datetime import timedelta

from metta_jobs import __version__, filesystem
from metta_jobs.daemon import control
from metta_jobs.disk import amount
from metta_jobs.executors.devices import find_gpus
from metta_jobs.paths import PROGRAM
from metta_jobs.settings import Settings
from metta_jobs.store import capacity
from metta_jobs.store.words import to_time
from metta_jobs.upkeep.advice import ROOM
from metta_jobs.upkeep.findings import Finding, broken, fine, warning
from metta_jobs.upkeep.patient import Patient

LEAST_FREE = 10_000_000
LITTLE_FREE = 1_000_000_000
_FEWEST_INODES = 10
_FUTURE = timedelta(minutes=2)


def folder(patient: Patient) -> Iterator[Finding]:
    """Whose the state folder is, and who may look into it."""
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


def file_system(patient: Patient) -> Iterator[Finding]:
    """Whether locks hold where it lies."""
    kind = filesystem.kind(patient.dir.root)
    if filesystem.is_network(kind):
        allowed = patient.settings is not None and patient.settings.allow_network_fs
        yield (warning if allowed else broken)(
            "file system",
            f"{kind} is a network file system, where locks and shared memory do not hold",
            "move the folder to a local disk and name it with METTA_JOB_STATE",
        )
    else:
        yield fine("file system", kind or "its type cannot be told on this system")


def space(patient: Patient) -> Iterator[Finding]:
    """How much room is left."""
    root = patient.dir.root
    found = os.statvfs(next(folder for folder in (root, *root.parents) if folder.exists()))
    free, total = found.f_bavail * found.f_frsize, found.f_blocks * found.f_frsize
    says = f"{amount(free)} of {amount(total)} are free"
    if free < LEAST_FREE:
        yield broken("disk space", says, ROOM)
    elif found.f_files and found.f_favail < _FEWEST_INODES:
        yield broken("disk space", "no more files can be made (no inodes are free)", ROOM)
    elif free < LITTLE_FREE:
        yield warning("disk space", says, ROOM)
    else:
        yield fine("disk space", says)


def settings(patient: Patient) -> Iterator[Finding]:
    """Whether they can be read."""
    if patient.settings_error is not None:
        yield broken("settings", patient.settings_error.rstrip("."), "correct it: nothing can be submitted before")
    else:
        yield fine("settings", "can be read")


def devices(patient: Patient) -> Iterator[Finding]:
    """The GPUs that the daemon gives out; where none runs, those that one started here would."""
    machine = capacity.load(patient.rows) if patient.rows and control.status(patient.dir) else None
    here, complaints = _found_here(patient.settings)
    by_settings = patient.settings is not None and patient.settings.gpus is not None
    here_says = "" if here is None else _listed(here, "by the settings" if by_settings else "found")
    if machine is not None:
        says = _listed(machine.gpus, "given out by the daemon")
        details = [f"{gpu} is left alone: {why}" for gpu, why in machine.busy.items()]
        if here is None or set(here) == set(machine.gpus):
            yield fine("GPUs", says, *details)
            return
        details.append(f"in this shell: {here_says}; the daemon keeps what it found when it started")
        again = f"to give out these: `{PROGRAM} daemon stop`, then `{PROGRAM} daemon start` here; jobs go on meanwhile"
        yield warning("GPUs", says, again, *details, *complaints)
    elif here is None:
        yield warning("GPUs", "not looked for: the settings cannot be read", "correct the settings first")
    elif complaints:
        yield warning("GPUs", here_says, "see what `nvidia-smi` (`rocm-smi`) says", *complaints)
    else:
        yield fine("GPUs", here_says)


def _listed(gpus: Sequence[str], whence: str) -> str:
    return f"{len(gpus)} {whence}: {', '.join(gpus)}" if gpus else f"none {whence}"


def _found_here(settings: Settings | None) -> tuple[Sequence[str] | None, list[str]]:
    """The GPUs that a daemon of this shell would give out (None: the settings cannot be read), and what their drivers
    complain of, which a daemon would write into its log."""
    if settings is None:
        return None, []
    said = _Said()
    logger = logging.getLogger("metta_jobs.daemon")
    logger.addHandler(said)
    try:
        return find_gpus(settings), said.sentences
    finally:
        logger.removeHandler(said)


class _Said(logging.Handler):
    """Keeps what is said at a warning or above."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.sentences: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep it."""
        self.sentences.append(record.getMessage())


def clock(patient: Patient) -> Iterator[Finding]:
    """Whether the time can be true."""
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


def versions(_: Patient) -> Iterator[Finding]:
    """What runs here."""
    says = f"metta-jobs {__version__}, Python {platform.python_version()}, SQLite {sqlite3.sqlite_version}"
    if sqlite3.sqlite_version_info < (3, 35):
        yield broken("versions", says, "use a Python with SQLite 3.35 or newer")
    else:
        yield fine("versions", says)
