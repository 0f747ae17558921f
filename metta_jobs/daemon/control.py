"""Starting, stopping and asking after the daemon, from outside it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from metta_jobs.daemon.doorbell import ring
from metta_jobs.daemon.lock import Holder, holder
from metta_jobs.environment import NO_ATTEMPT_VARIABLE, outside, split
from metta_jobs.errors import DaemonError
from metta_jobs.paths import StateDir
from metta_jobs.store.migrate import HEAD

START_PATIENCE_S = 30.0
STOP_PATIENCE_S = 15.0


def status(state_dir: StateDir) -> Holder | None:
    """Return the daemon that runs, None when there is none."""
    return holder(state_dir.daemon_lock)


def ensure(state_dir: StateDir) -> Holder:
    """Make sure that a daemon runs, and wake it; return it. Raises DaemonError when it cannot be started.

    One of an earlier version, which cannot read the database any more since it was migrated, makes room for ours.
    """
    running = status(state_dir)
    if running is not None and running.schema < HEAD:
        stop(state_dir)
        running = None
    running = running or start(state_dir)
    ring(state_dir.doorbell)
    return running


def hand_over(state_dir: StateDir, environment: str, secrets: Mapping[str, str]) -> None:
    """Tell the daemon, if one runs, the secrets of an environment, before a job that needs them is stored."""
    if secrets and status(state_dir) is not None:
        ring(state_dir.doorbell, environment, secrets)


def start(state_dir: StateDir) -> Holder:
    """Start a daemon that outlives this process and its terminal; return it once it has the lock."""
    state_dir.create()
    plain, secrets = split(os.environ)  # nothing that ties it to the job or terminal it is started from
    plain |= outside(os.environ, str(state_dir.root))  # it may give out no other GPUs
    errors = state_dir.root / "daemon.err"
    try:
        with errors.open("wb") as stream:
            child = subprocess.Popen(
                [sys.executable, "-X", "utf8", "-m", "metta_jobs.daemon", str(state_dir.root)],
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=stream,
                start_new_session=True,
                cwd=state_dir.root,
                env=plain | secrets | {NO_ATTEMPT_VARIABLE: "1"},
            )
    except OSError as error:
        raise DaemonError(f"The daemon cannot be started: {error.strerror}. Your jobs are stored.") from error
    deadline = time.monotonic() + START_PATIENCE_S
    while time.monotonic() < deadline:
        running = status(state_dir)
        if running is not None and state_dir.doorbell.exists():
            return running  # ours, or one that somebody else started at the same moment
        if child.poll() is not None and running is None:
            said = errors.read_text(errors="replace").strip().splitlines()
            detail = said[-1] if said else f"it ended with exit code {child.returncode}"
            raise DaemonError(f"The daemon could not be started: {detail}")
        time.sleep(0.01)
    raise DaemonError(
        f"The daemon did not start within {START_PATIENCE_S:.0f} s; see {state_dir.daemon_log}. Your jobs are stored."
    )


def stop(state_dir: StateDir) -> Holder | None:
    """Ask the daemon to end and wait until it has; jobs go on. Return the one that ended, None when none ran."""
    running = status(state_dir)
    if running is None:
        return None
    try:
        os.kill(running.pid, signal.SIGTERM)
    except ProcessLookupError:
        return running
    except PermissionError as error:
        raise DaemonError(f"The daemon (pid {running.pid}) belongs to another user.") from error
    deadline = time.monotonic() + STOP_PATIENCE_S
    while time.monotonic() < deadline:
        now = status(state_dir)
        if now is None or now.pid != running.pid:
            return running
        time.sleep(0.02)
    raise DaemonError(f"The daemon (pid {running.pid}) did not end within {STOP_PATIENCE_S:.0f} s; see its log.")


def log_tail(path: Path, lines: int) -> list[str]:
    """The last lines of the daemon's log."""
    try:
        return path.read_text(errors="replace").splitlines()[-lines:]
    except OSError:
        return []
