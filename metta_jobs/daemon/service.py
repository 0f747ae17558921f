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
from metta_jobs.daemon.deliver import Means
from metta_jobs.daemon.doorbell import Doorbell
from metta_jobs.daemon.follow import Follower
from metta_jobs.daemon.hooks import Courier
from metta_jobs.daemon.house import House
from metta_jobs.daemon.lock import DaemonLock, holder
from metta_jobs.daemon.logs import LogKeeper
from metta_jobs.daemon.readings import MetricsThread
from metta_jobs.daemon.secrets import Secrets
from metta_jobs.daemon.tick import tick
from metta_jobs.environment import split
from metta_jobs.errors import DaemonError, MettaError
from metta_jobs.executors.devices import find_gpus
from metta_jobs.executors.local import LocalExecutor
from metta_jobs.executors.machine import memory_gb, usable_cpus
from metta_jobs.executors.neighbours import Neighbours
from metta_jobs.executors.processes import belongs_to, boot_id
from metta_jobs.executors.sky.client import SkyClient
from metta_jobs.executors.sky.executor import SkyExecutor
from metta_jobs.executors.sky.python import find_python
from metta_jobs.filesystem import refuse_network
from metta_jobs.paths import StateDir, find_project
from metta_jobs.settings import Settings
from metta_jobs.states import LIVE, JobState
from metta_jobs.store import capacity, queue, silences, transitions
from metta_jobs.store.capacity import Machine
from metta_jobs.store.engine import Store
from metta_jobs.store.migrate import HEAD

log = logging.getLogger("metta_jobs.daemon")

TICK_S = 1.0
LAUNCH_TICK_S = 0.05
#: Where the lanes go on by themselves, ends are gathered for so long and recorded together.
GATHER_S = 0.004
LONGEST_PAUSE_S = 30.0


def run(root: Path) -> None:
    """Be the daemon of this state folder until it is told to stop. Raises DaemonError when there is one already."""
    state_dir = StateDir(root)
    refuse_network(root, lambda: Settings.load(find_project(root.parent)).allow_network_fs)
    state_dir.create()
    store = Store(state_dir.database)
    settings = Settings.load(find_project(root.parent))
    lock = DaemonLock(state_dir.daemon_lock)
    record = {"pid": os.getpid(), "started_at": datetime.now(UTC).isoformat(), "version": __version__, "schema": HEAD}
    if not lock.acquire(record):
        other = holder(state_dir.daemon_lock)
        raise DaemonError(
            f"A daemon runs already{f' (pid {other.pid})' if other else ''}; `metta daemon stop` ends it, and jobs "
            "go on without it."
        )
    clock, project = SystemClock(), find_project(root.parent)

    def sky_python() -> str:
        return find_python(Settings.load(project).sky_python)

    sky = SkyExecutor(state_dir, SkyClient(sky_python, state_dir.root / "sky.log"), clock, sky_python)
    house = House(
        store=store,
        state_dir=state_dir,
        executors={LocalExecutor.name: LocalExecutor(state_dir), SkyExecutor.name: sky},
        clock=clock,
        machine=find_machine(settings),
        readings=MetricsThread(lambda key: state_dir.attempt(*key)),
        boot=boot_id(),
        # All of it: a person may have named a secret that does not look like one.
        secrets=Secrets(own={k: v for part in split(os.environ) for k, v in part.items()}),
    )
    with store.write() as connection:
        capacity.save(connection, house.clock.now(), house.machine)
        silences.save(connection, {})
        transitions.catch_up(connection, house.clock.now())
    house.neighbours = Neighbours(settings, house.clock, lambda pid: belongs_to(pid, str(root)))
    means = Means(state_dir, project, lambda name: Settings.load(project).webhook(name))
    courier = Courier(means, house.secrets)
    logs, follower = LogKeeper(state_dir, house.clock), Follower()
    doorbell = Doorbell(state_dir.doorbell)
    house.hear = doorbell.answer
    stop_fd = _stop_signals()
    log.info("daemon %d: %g CPU slots, %d GPUs, %s", os.getpid(), house.machine.cpus, len(house.machine.gpus), root)
    try:
        _live(house, lock, record, doorbell, courier, logs, follower, stop_fd, settings.daemon_idle_exit_s)
    finally:
        if lock.still_ours():
            doorbell.close()
        courier.close(store, house.clock)
        _close_readings(house, follower)
        for executor in house.executors.values():
            executor.close()
        logs.close()
        lock.release()
        store.close()
        log.info("daemon %d ends; jobs go on", os.getpid())


def find_machine(settings: Settings) -> Machine:
    """The slots of this machine."""
    return Machine(
        usable_cpus(settings),
        memory_gb(settings),
        find_gpus(settings),
        settings.max_parallel,
        settings.reserve_after_s,
    )


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
    courier: Courier,
    logs: LogKeeper,
    follower: Follower,
    stop_fd: int,
    idle_exit_s: float,
) -> None:
    trouble = 0
    states: set[JobState] = set()
    looked_at: tuple[int, int] | None = None
    busy_until = time.monotonic() + idle_exit_s
    while lock.still_ours():
        try:
            changed = tick(house)
            courier.tend(house.store, house.clock)
            logs.tend(house.known.values())
            changed |= follower.tend(house)
            if (version := house.store.version()) != looked_at:
                states, looked_at = _unfinished(house), version
            pause = 0.0 if changed else LAUNCH_TICK_S if JobState.LAUNCHING in states else TICK_S
            trouble = 0
            house.state_dir.keep_reserve()
        except MettaError as error:
            # A full disk, a locked database: nothing is lost by waiting until it can be used again.
            house.state_dir.release_reserve()
            trouble += 1
            pause, states, looked_at = _pause(trouble), set(LIVE), None
            log.error("%s (next try in %.0f s)", error, pause)
        except Exception:
            # A defect of ours. Jobs go on without us; a daemon that dies of it would only hide it.
            trouble += 1
            pause, states, looked_at = _pause(trouble), set(LIVE), None
            log.exception("this round failed (next try in %.0f s)", pause)
        if states or courier.busy or follower.busy or house.readings.busy:
            busy_until = time.monotonic() + idle_exit_s
        elif time.monotonic() > busy_until:
            # Let go first, then look again: a submit that finds the lock free starts a daemon of its own.
            lock.release()
            if not _unfinished(house) or not lock.acquire(dict(record)):
                return
        if _wait(house, doorbell, courier, stop_fd, pause, hear_ends=trouble == 0):
            return


def _close_readings(house: House, follower: Follower) -> None:
    house.readings.close()
    try:
        follower.close(house)
    except MettaError as error:
        log.error("what was read last of metrics is not stored, and is read again: %s", error)


def _pause(trouble: int) -> float:
    """Seconds to wait after so many rounds that failed: 1, 2, 4, …, at most LONGEST_PAUSE_S."""
    return min(2.0 ** min(trouble - 1, 10), LONGEST_PAUSE_S)


def _unfinished(house: House) -> set[JobState]:
    with house.store.read() as connection:
        return queue.unfinished_states(connection)


def _wait(house: House, doorbell: Doorbell, courier: Courier, stop_fd: int, pause: float, *, hear_ends: bool) -> bool:
    """Wait for news or `pause` seconds; return True when the daemon was told to stop.

    While the database cannot be written, ends are not listened to: they would wake us at once, again and again.
    """
    poll = select.poll()
    for executor in house.executors.values():
        executor.rest()
    if house.in_line:
        time.sleep(GATHER_S)
    wake = [fd for executor in house.executors.values() for fd in executor.wake_fds()] if hear_ends else []
    told = [courier.fileno(), house.readings.fileno()] if hear_ends else []
    for fd in (doorbell.fileno(), stop_fd, *wake, *told):
        poll.register(fd, select.POLLIN)
    ready = {fd for fd, _ in poll.poll(pause * 1000)}
    if ready.intersection(wake):
        house.quiet = None  # an executor has something to tell
    if house.readings.fileno() in ready:
        house.readings.hear()
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
