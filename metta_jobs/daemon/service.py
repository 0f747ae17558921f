"""The daemon's life: take the lock, tick, wait for news, until told to stop or idle for long."""

from __future__ import annotations

import logging
import logging.handlers
import os
import select
import signal
import time
from datetime import UTC, datetime
from pathlib import Path

from metta_jobs import __version__
from metta_jobs.clock import SystemClock
from metta_jobs.daemon.doorbell import Doorbell
from metta_jobs.daemon.lock import DaemonLock, holder
from metta_jobs.daemon.secrets import Secrets
from metta_jobs.daemon.tick import House, tick
from metta_jobs.environment import split
from metta_jobs.errors import DaemonError, MettaError
from metta_jobs.executors.devices import find_gpus
from metta_jobs.executors.local import LocalExecutor
from metta_jobs.paths import StateDir, find_project
from metta_jobs.settings import Settings
from metta_jobs.states import LIVE, JobState
from metta_jobs.store import capacity, queue
from metta_jobs.store.engine import Store

log = logging.getLogger("metta_jobs.daemon")

TICK_S = 1.0
LAUNCH_TICK_S = 0.05
LONGEST_PAUSE_S = 30.0


def run(root: Path) -> None:
    """Be the daemon of this state folder until it is told to stop. Raises DaemonError when there is one already."""
    state_dir = StateDir(root)
    state_dir.create()
    store = Store(state_dir.database)
    settings = Settings.load(find_project(root.parent))
    lock = DaemonLock(state_dir.daemon_lock)
    record = {"pid": os.getpid(), "started_at": datetime.now(UTC).isoformat(), "version": __version__}
    if not lock.acquire(record):
        other = holder(state_dir.daemon_lock)
        raise DaemonError(
            f"A daemon runs already{f' (pid {other.pid})' if other else ''}; `metta daemon stop` ends it, and jobs "
            "go on without it."
        )
    house = House(
        store=store,
        state_dir=state_dir,
        executors={LocalExecutor.name: LocalExecutor(state_dir)},
        clock=SystemClock(),
        cpus=usable_cpus(settings),
        gpus=find_gpus(settings),
        max_parallel=settings.max_parallel,
        secrets=Secrets(own=split(os.environ)[1]),
    )
    with store.write() as connection:
        capacity.save(connection, house.clock.now(), house.cpus, house.gpus, house.max_parallel)
    doorbell = Doorbell(state_dir.doorbell)
    house.hear = doorbell.answer
    stop_fd = _stop_signals()
    log.info("daemon %d: %g CPU slots, %d GPUs, %s", os.getpid(), house.cpus, len(house.gpus), root)
    try:
        _live(house, lock, record, doorbell, stop_fd, settings.daemon_idle_exit_s)
    finally:
        if lock.still_ours():
            doorbell.close()
        lock.release()
        store.close()
        log.info("daemon %d ends; jobs go on", os.getpid())


def usable_cpus(settings: Settings) -> float:
    """CPU slots of this machine: the setting, else the cores that we may use."""
    if settings.cpus is not None:
        return settings.cpus
    return float(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)


def log_to(path: Path) -> None:
    """Send the daemon's log to a file that does not grow without end."""
    handler = logging.handlers.RotatingFileHandler(path, maxBytes=5_000_000, backupCount=1)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    logging.getLogger("metta_jobs").addHandler(handler)
    logging.getLogger("metta_jobs").setLevel(logging.INFO)


def _live(
    house: House,
    lock: DaemonLock,
    record: dict[str, object],
    doorbell: Doorbell,
    stop_fd: int,
    idle_exit_s: float,
) -> None:
    trouble = 0
    busy_until = time.monotonic() + idle_exit_s
    while lock.still_ours():
        try:
            changed = tick(house)
            states = _unfinished(house)
            pause = 0.0 if changed else LAUNCH_TICK_S if JobState.LAUNCHING in states else TICK_S
            trouble = 0
            house.state_dir.keep_reserve()
        except MettaError as error:
            # A full disk, a locked database: nothing is lost by waiting until it can be used again.
            house.state_dir.release_reserve()
            trouble += 1
            pause, states = _pause(trouble), set(LIVE)
            log.error("%s (next try in %.0f s)", error, pause)
        except Exception:
            # A defect of ours. Jobs go on without us; a daemon that dies of it would only hide it.
            trouble += 1
            pause, states = _pause(trouble), set(LIVE)
            log.exception("this round failed (next try in %.0f s)", pause)
        if states:
            busy_until = time.monotonic() + idle_exit_s
        elif time.monotonic() > busy_until:
            # Let go first, then look again: a submit that finds the lock free starts a daemon of its own.
            lock.release()
            if not _unfinished(house) or not lock.acquire(dict(record)):
                return
        if _wait(house, doorbell, stop_fd, pause, hear_ends=trouble == 0):
            return


def _pause(trouble: int) -> float:
    """Seconds to wait after so many rounds that failed: 1, 2, 4, …, at most LONGEST_PAUSE_S."""
    return min(2.0 ** min(trouble - 1, 10), LONGEST_PAUSE_S)


def _unfinished(house: House) -> set[JobState]:
    with house.store.read() as connection:
        return queue.unfinished_states(connection)


def _wait(house: House, doorbell: Doorbell, stop_fd: int, pause: float, *, hear_ends: bool) -> bool:
    """Wait for news or `pause` seconds; return True when the daemon was told to stop.

    While the database cannot be written, ends are not listened to: they would wake us at once, again and again.
    """
    poll = select.poll()
    wake = [fd for executor in house.executors.values() for fd in executor.wake_fds()] if hear_ends else []
    for fd in (doorbell.fileno(), stop_fd, *wake):
        poll.register(fd, select.POLLIN)
    ready = {fd for fd, _ in poll.poll(pause * 1000)}
    if doorbell.fileno() in ready:
        house.secrets.submitted |= doorbell.answer()
    return stop_fd in ready


def _stop_signals() -> int:
    """Turn SIGTERM and SIGINT into a readable file descriptor, so that they never cut a round in two."""
    reader, writer = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK) if hasattr(os, "pipe2") else os.pipe()
    os.set_blocking(writer, False)
    signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    return reader
