"""Whether the daemon is there, hears us, and what it complained of last."""

from __future__ import annotations

import re
import sqlite3
from datetime import UTC, datetime, timedelta
from pathlib import Path

from metta_jobs import __version__
from metta_jobs.daemon import control
from metta_jobs.daemon.doorbell import ring
from metta_jobs.paths import PROGRAM, StateDir
from metta_jobs.upkeep.findings import Finding, fine, warning

NAME = "daemon"
LOG_LINES = 2000
_RECENT = timedelta(days=1)
_LINE = re.compile(r"(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d),\d+ (?:ERROR|CRITICAL) (.*)")


def look(state_dir: StateDir, connection: sqlite3.Connection | None, now: datetime) -> Finding:
    """Say how it is with the daemon of this state folder."""
    running = control.status(state_dir)
    unfinished = 0
    if connection is not None:
        (unfinished,) = connection.execute("SELECT count(*) FROM jobs WHERE finished_at IS NULL").fetchone()
    jobs = f"{unfinished} job{' has' if unfinished == 1 else 's have'} not ended"
    if running is None:
        if unfinished:
            return warning(NAME, f"none runs, and {jobs}", f"`{PROGRAM} daemon start`", *_complaint(state_dir, now))
        needed = "none is needed" if connection is not None else "whether one is needed cannot be read"
        return fine(NAME, f"none runs, and {needed}", *_complaint(state_dir, now))
    here = f"pid {running.pid}, since {running.started_at[:19].replace('T', ' ')} UTC; {jobs}"
    restart = f"`{PROGRAM} daemon stop`, then `{PROGRAM} daemon start`; jobs go on meanwhile"
    if running.version != __version__:
        return warning(NAME, f"it is of version {running.version}, and this is {__version__} ({here})", restart)
    if _stopped(running.pid):
        return warning(NAME, f"somebody has stopped it ({here})", f"`kill -CONT {running.pid}`")
    if not ring(state_dir.doorbell):
        return warning(NAME, f"it does not hear its doorbell ({here})", restart)
    since = datetime.fromisoformat(running.started_at)
    if complaint := _complaint(state_dir, now, since):
        return warning(NAME, f"it runs ({here}), but has complained", f"see {state_dir.daemon_log}", *complaint)
    return fine(NAME, f"it runs ({here})")


def last_error(log: Path) -> tuple[datetime, str] | None:
    """The newest line of an error in a daemon's log, and when it was written; None when there is none."""
    for line in reversed(control.log_tail(log, LOG_LINES)):
        if found := _LINE.match(line):
            written = datetime.strptime(found[1], "%Y-%m-%d %H:%M:%S").astimezone(UTC)  # local time
            return written, found[2]
    return None


def _complaint(state_dir: StateDir, now: datetime, since: datetime | None = None) -> tuple[str, ...]:
    error = last_error(state_dir.daemon_log)
    if error is None or error[0] < (since or now - _RECENT):
        return ()
    return (f"last error, {error[0]:%Y-%m-%d %H:%M:%S} UTC: {error[1]}",)


def _stopped(pid: int) -> bool:
    try:
        status = Path(f"/proc/{pid}/stat").read_text(errors="replace")
    except OSError:
        return False  # gone, or a system that does not tell
    return status.rpartition(")")[2].split()[:1] == ["T"]
