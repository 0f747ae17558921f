"""Errors that metta-jobs raises on purpose.

MettaError                 every error of ours; `exit_code` is what the CLI ends with
├── InvalidInput           a value that the user gave cannot be used; nothing was stored
│   ├── NoState            a folder that holds no queue yet
│   ├── UnknownName        a name that does not exist; the message offers the nearest ones
│   └── DependencyCycle    jobs that would wait for each other
├── AlreadyExists          a name that is taken
├── StoreError             the database cannot be read or written
│   └── StoreTooNew        it was written by a newer metta-jobs
├── DaemonError            the daemon could not be started, stopped or reached
├── MissingExtra           an optional package is not installed
└── RunFailed              what ran, failed (exit code 1)
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class MettaError(Exception):
    """Base of all errors of metta-jobs. The message says what happened and what to do next."""

    exit_code = 2


class InvalidInput(MettaError):
    """A value that cannot be used."""


class UnknownName(InvalidInput):
    """A group, job, recipe or field that does not exist."""


class NoState(InvalidInput):
    """A folder that holds no queue yet."""


class DependencyCycle(InvalidInput):
    """Jobs that would wait for each other."""


class AlreadyExists(MettaError):
    """A name that is taken."""


class StoreError(MettaError):
    """The database cannot be read or written."""


class StoreTooNew(StoreError):
    """The database was written by a newer metta-jobs."""


class DaemonError(MettaError):
    """The daemon could not be started, stopped or reached."""


class MissingExtra(MettaError):
    """An optional package is not installed."""


class RunFailed(MettaError):
    """Something that ran has failed."""

    exit_code = 1


def nearest(name: str, known: Iterable[str]) -> str:
    """Return " Did you mean 'x'?" for the closest of `known`, or an empty string when none is close."""
    close = difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)
    return f" Did you mean {close[0]!r}?" if close else ""
