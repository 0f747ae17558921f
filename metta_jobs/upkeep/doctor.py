"""Looking a state folder over: everything that `metta doctor` asks, and nothing that changes anything."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator

from metta_jobs.errors import MettaError
from metta_jobs.upkeep import advice, attendance, logins, machine, sizes, stored
from metta_jobs.upkeep.findings import Finding, broken, fine
from metta_jobs.upkeep.patient import Patient

Check = Callable[[Patient], Iterator[Finding]]


def examine(patient: Patient) -> Iterator[Finding]:
    """Look at one thing after the other; yields a finding for each as soon as it is known."""
    for name, check in _CHECKS if patient.dir.root.exists() else _CHECKS_WITHOUT_STATE:
        yield from guarded(name, check, patient)


def guarded(name: str, check: Check, patient: Patient) -> Iterator[Finding]:
    """Whatever goes wrong in one check is a finding, and the others go on."""
    try:
        yield from check(patient)
    except (OSError, sqlite3.Error, MettaError, UnicodeDecodeError) as error:
        yield broken(name, f"cannot be looked at: {error}".rstrip("."), advice.remedy(error))


def _nothing_yet(patient: Patient) -> Iterator[Finding]:
    yield fine("state folder", f"{patient.dir.root} is not there yet: no job was ever submitted here")


def _attendance(patient: Patient) -> Iterator[Finding]:
    yield attendance.look(patient.dir, patient.connection, patient.now)


def _sizes(patient: Patient) -> Iterator[Finding]:
    yield sizes.look(patient.dir, patient.connection)


_CHECKS: tuple[tuple[str, Check], ...] = (
    ("versions", machine.versions),
    ("state folder", machine.folder),
    ("file system", machine.file_system),
    ("disk space", machine.space),
    ("settings", machine.settings),
    ("database", stored.database),
    ("queue", stored.queue),
    ("hooks", stored.hooks),
    ("folders", stored.leftovers),
    ("daemon", _attendance),
    ("GPUs", machine.devices),
    ("clock", machine.clock),
    ("sizes", _sizes),
    ("wandb", logins.look),
)

_CHECKS_WITHOUT_STATE: tuple[tuple[str, Check], ...] = (
    ("versions", machine.versions),
    ("state folder", _nothing_yet),
    ("disk space", machine.space),
    ("settings", machine.settings),
    ("GPUs", machine.devices),
    ("clock", machine.clock),
    ("wandb", logins.look),
)
