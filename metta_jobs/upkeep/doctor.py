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
