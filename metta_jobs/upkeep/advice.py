"""What to do about an error that a check met: the remedy follows from what went wrong."""

from __future__ import annotations

import errno
import sqlite3

from metta_jobs.errors import MettaError, StoreTooNew
from metta_jobs.paths import PROGRAM

REPAIR = f"`{PROGRAM} doctor --repair` saves what can be saved"
ROOM = f"`{PROGRAM} job prune --older-than 30d` makes room"
_UPGRADE = "upgrade metta-jobs"
_RIGHTS = "make it yours again (`ls -l` shows its owner and its permissions)"
_DISK = "the disk or its file system fails: `dmesg` tells more"
_ERRNOS = {
    errno.EACCES: _RIGHTS,
    errno.EPERM: _RIGHTS,
    errno.EROFS: "its file system can only be read: `dmesg` tells whether the disk fails",
    errno.ENOSPC: ROOM,
    errno.EDQUOT: ROOM,
    errno.EIO: _DISK,
    errno.ESTALE: "the file server has lost it: mount the file system again",
    errno.EMFILE: "`ulimit -n 4096`: this shell allows too few open files",
    errno.ENFILE: "the whole machine has too many files open: end something",
    errno.ENOMEM: "the machine has no memory left: end something",
    errno.ENOENT: f"somebody removes files meanwhile: `{PROGRAM} doctor` again",
}
#: By the beginnings of SQLite's names of errors.
_SQLITE = (
    ("SQLITE_BUSY", "another program holds the database: end it (`fuser -v` on the file names it)"),
    ("SQLITE_READONLY", _RIGHTS),
    ("SQLITE_CANTOPEN", _RIGHTS),
    ("SQLITE_PERM", _RIGHTS),
    ("SQLITE_FULL", ROOM),
    ("SQLITE_IOERR", _DISK),
)


def remedy(error: Exception) -> str:
    """What to do about it."""
    if isinstance(error, StoreTooNew):
        return _UPGRADE
    if isinstance(error, MettaError):
        return f"do as it says, and look again with `{PROGRAM} doctor`"
    if isinstance(error, OSError):
        return _ERRNOS.get(error.errno or 0, _DISK)
    if isinstance(error, sqlite3.Error):
        name = getattr(error, "sqlite_errorname", "")
        found = [advice for beginning, advice in _SQLITE if name.startswith(beginning)]
        return found[0] if found else REPAIR
    return REPAIR  # what should be text is none
