"""For tests, ours and yours: an executor without processes, metrics without files, a clock turned by hand, a house.

>>> house = make_house(tmp_path)                       # a store, a FakeExecutor, a ManualClock
>>> add(house, JobConfig(name="a", command=("train",)))
>>> tick(house)
>>> house.executors["local"].end((1, 1), exit_code=0)
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from copy import copy
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from metta_jobs.daemon.house import House
from metta_jobs.daemon.readings import Reading
from metta_jobs.executors.base import (
    Absent,
    Alive,
    Cause,
    Exited,
    Key,
    LaunchRefused,
    LaunchSpec,
    Observation,
    Queued,
    Stopping,
    Unknown,
)
from metta_jobs.job import JobConfig
from metta_jobs.paths import StateDir
from metta_jobs.policy import GroupConfig
from metta_jobs.states import JobState
from metta_jobs.store import capacity, read, submit
from metta_jobs.store.capacity import Machine
from metta_jobs.store.engine import Store
from metta_jobs.views import JobView, Progress, Silence


class ManualClock:
    """A clock that moves when `advance` is called. `jump` moves the wall clock alone, as a wrong setting would."""

    def __init__(self, start: datetime = datetime(2026, 1, 1, tzinfo=UTC)) -> None:
        self._wall = start
        self._monotonic = 0.0

    def now(self) -> datetime:
        return self._wall

    def monotonic(self) -> float:
        return self._monotonic

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        self._wall += timedelta(seconds=seconds)
        self._monotonic += seconds

    def jump(self, seconds: float) -> None:
        """Set the wall clock forward or back."""
        self._wall += timedelta(seconds=seconds)


@dataclass
class _Process:
    started: float
    alive: bool = True
    exit_code: int | None = None
    ran: float = 0.0
    stopped: Cause | None = None
    stop_at: float | None = None
    forced: bool = False


class FakeExecutor:
    """Keeps the promises of `executors.base.Executor` without processes; tests say what happens.

    A TERM ends an attempt with exit code 143 unless it is `stubborn`; a KILL always ends it with 137. While `silent`
    is set, every question is answered with Unknown(silent); while `refusing` is set, launches are refused with it.
    """

    name = "local"

    def __init__(self, clock: ManualClock) -> None:
        self._clock = clock
        self._processes: dict[Key, _Process] = {}
        self._lines: dict[str, list[Key]] = {}
        self._lanes = 0
        self.launched: list[Key] = []
        self.withdrawn: list[Key] = []
        self.specs: dict[Key, LaunchSpec] = {}
        self.stubborn: set[Key] = set()
        self.silent: str | None = None
        self.refusing: str | None = None

    def another(self) -> FakeExecutor:
        """The executor of a daemon that has been started anew: other memory, the same attempts."""
        fresh = copy(self)
        fresh.silent = fresh.refusing = None
        return fresh

    def launch(self, spec: LaunchSpec) -> None:
        if self.refusing is not None:
            raise LaunchRefused(self.refusing)
        if spec.key in self._processes or any(spec.key in line for line in self._lines.values()):
            return
        self.launched.append(spec.key)
        self.specs[spec.key] = spec
        self._lines.setdefault(spec.lane, []).append(spec.key)
        self._go_on()

    def _go_on(self) -> None:
        """Start what stands first in its lane."""
        for line in self._lines.values():
            while line and line[0] in self._processes and not self._processes[line[0]].alive:
                line.pop(0)
            if line and line[0] not in self._processes:
                self._processes[line[0]] = _Process(self._clock.monotonic())

    def lane(self) -> str:
        self._lanes += 1
        return f"lane {self._lanes}"

    def observe(self, keys: Sequence[Key]) -> dict[Key, Observation]:
        if self.silent is not None:
            return {key: Unknown(self.silent) for key in keys}
        return {key: self._observe(key) for key in keys}

    def _observe(self, key: Key) -> Observation:
        process = self._processes.get(key)
        if process is None:
            return Queued(behind=True) if any(key in line for line in self._lines.values()) else Absent(launched=False)
        if process.alive:
            stopping = None
            if process.stopped is not None and process.stop_at is not None:
                stopping = Stopping(process.stopped, self._clock.monotonic() - process.stop_at, process.forced)
            return Alive(self._clock.monotonic() - process.started, stopping)
        if process.exit_code is None:
            return Absent(launched=True, stopped=process.stopped)
        return Exited(process.exit_code, process.ran, process.stopped)

    def stop(self, key: Key, cause: Cause, *, force: bool) -> None:
        process = self._processes.get(key)
        if process is None or not process.alive:
            return
        if process.stopped is None:
            process.stopped, process.stop_at = cause, self._clock.monotonic()
        process.forced |= force
        if force:
            self._end(process, 137)
        elif key not in self.stubborn:
            self._end(process, 143)

    def abandon(self, key: Key) -> bool:
        if key in self._processes:
            return False
        for line in self._lines.values():
            if key in line:
                line.remove(key)
                self.withdrawn.append(key)
        return True

    def facts(self) -> dict[Key, dict[str, Any]]:
        return {}

    def silence(self) -> Silence | None:
        return None

    def wake_fds(self) -> list[int]:
        return []

    def rest(self) -> None:
        pass

    def close(self) -> None:
        pass

    def end(self, key: Key, exit_code: int | None) -> None:
        """Let the attempt end by itself, if it runs; without an exit code, leaving no outcome record."""
        process = self._processes.get(key)
        if process is not None and process.alive:
            self._end(process, exit_code)

    def _end(self, process: _Process, exit_code: int | None) -> None:
        process.alive = False
        process.exit_code = exit_code
        process.ran = self._clock.monotonic() - process.started
        self._go_on()


class FakeReadings:
    """Metrics without files: what a test `says` of an attempt is what is read of it, at each look and at its end."""

    def __init__(self, clock: ManualClock) -> None:
        self._clock = clock
        self._said: dict[Key, Progress] = {}
        self._wanted: dict[Key, tuple[str, ...]] = {}
        self._finals: dict[Key, Reading] = {}
        self._found: dict[Key, Reading] = {}
        self.unreadable: str | None = None
        self.held = False  # while it is, nothing that is asked for is read

    def say(self, key: Key, progress: Progress) -> None:
        """From now on the attempt has logged this."""
        self._said[key] = progress

    def _read(self, key: Key, *, final: bool) -> Reading:
        return Reading(key, self._said.get(key, Progress()), final, self._clock.monotonic(), self.unreadable)

    def follow(self, wanted: Mapping[Key, tuple[str, ...]], live: Collection[Key]) -> None:
        self._wanted = {key: metrics for key, metrics in wanted.items() if key not in self._finals}
        self._finals = {key: reading for key, reading in self._finals.items() if key in live}

    def finish(self, key: Key, metrics: tuple[str, ...], *, urgent: bool) -> None:
        self._wanted.pop(key, None)
        if self.held:
            return
        self._found[key] = reading = self._read(key, final=True)
        if urgent:
            self._finals[key] = reading

    def final(self, key: Key) -> Reading | None:
        return self._finals.get(key)

    def take(self) -> list[Reading]:
        looks = {key: self._read(key, final=False) for key in self._wanted}
        found, self._found = {**looks, **self._found}, {}
        return list(found.values())

    @property
    def wanted(self) -> dict[Key, tuple[str, ...]]:
        """Who is followed, and for which metrics."""
        return dict(self._wanted)

    @property
    def busy(self) -> bool:
        return False

    def fileno(self) -> int:
        return -1

    def hear(self) -> None:
        pass

    def close(self) -> None:
        pass


def make_house(
    folder: Path,
    *,
    cpus: float = 2,
    gpus: Sequence[str] = (),
    memory_gb: float = 16,
    max_parallel: int | None = None,
    reserve_after_s: float = 300,
) -> House:
    """Return a house with a real store in `folder`, a FakeExecutor and a ManualClock."""
    clock = ManualClock()
    state_dir = StateDir(folder)
    state_dir.create()
    executor = FakeExecutor(clock)
    machine = Machine(cpus, memory_gb, gpus, max_parallel, reserve_after_s)
    house = House(Store(state_dir.database), state_dir, {executor.name: executor}, clock, machine, FakeReadings(clock))
    with house.store.write() as connection:
        capacity.save(connection, clock.now(), machine)  # for readers
    return house


def add(house: House, *configs: JobConfig, group: str = "g", options: GroupConfig | None = None) -> list[int]:
    """Submit jobs to the house's store; return their ids."""
    with house.store.write() as connection:
        return submit.submit(connection, house.clock.now(), group, configs, "none", {}, [], options=options)


def views(house: House, *job_ids: int) -> list[JobView]:
    """The jobs as readers see them."""
    with house.store.read() as connection:
        return read.job_views(connection, house.state_dir, job_ids)


def states(house: House, *job_ids: int) -> list[JobState]:
    """The states of these jobs."""
    return [view.state for view in views(house, *job_ids)]
