"""Attempts as processes of this machine, each under a runner that outlives the daemon.

Nothing is remembered that matters: what this says, it has from the runners, from their journals, or from the kernel.
"""

from __future__ import annotations

import contextlib
import logging
import select
import signal
import time
from collections.abc import Mapping, Sequence
from typing import Any

from metta_jobs.executors import processes
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
from metta_jobs.executors.lane import ANSWER_S, Lane, new_name
from metta_jobs.paths import StateDir
from metta_jobs.views import Silence

log = logging.getLogger("metta_jobs.daemon")

#: A runner without work leaves after so long; one always stays, so that the next job starts at once.
IDLE_S = 30.0


class LocalExecutor:
    """The executor of this machine."""

    name = "local"

    def __init__(self, state_dir: StateDir) -> None:
        self._state_dir = state_dir
        self._folder = state_dir.root / "runners"
        self._folder.mkdir(mode=0o700, exist_ok=True)
        self._lanes: dict[str, Lane] = {}
        self._gone: list[Lane] = []
        self._at: dict[Key, Lane] = {}
        self._reserved: set[str] = set()
        self._stops: dict[Key, dict[str, Any]] = {}  # of attempts whose runner is gone
        self._boot = processes.boot_id()
        self._adopt()

    def _adopt(self) -> None:
        """Speak to every runner that an earlier daemon has started, and read what those that are gone have left."""
        names = {path.stem for path in self._folder.iterdir() if path.suffix in (".sock", ".journal")}
        for name in sorted(names):
            lane = Lane(self._folder, name)
            if lane.connect():
                self._lanes[name] = lane
                self._wake(lane)
            else:
                self._lost(lane)
        deadline = time.monotonic() + ANSWER_S
        poll = select.poll()
        for fd in self.wake_fds():
            poll.register(fd, select.POLLIN)
        while (left := deadline - time.monotonic()) > 0 and any(not lane.here for lane in self._lanes.values()):
            poll.poll(1000 * left)
            for lane in list(self._lanes.values()):
                if not lane.receive():
                    poll = select.poll()
                    self._lost(lane)
            for fd in self.wake_fds():
                poll.register(fd, select.POLLIN)
        for lane in (*self._lanes.values(), *self._gone):
            self._at |= dict.fromkeys(lane.knows(), lane)

    def _wake(self, lane: Lane) -> None:
        """If somebody has stopped its process, let it go on."""
        if lane.runner is None:
            with contextlib.suppress(OSError):
                lane.read_name()
        if lane.runner is not None and processes.start_mark(lane.runner[0]) == lane.runner[1]:
            processes.send([lane.runner[0]], signal.SIGCONT)

    # -------------------------------------------------------------------------------------------------- launching

    def lane(self) -> str:
        """The name of a lane that is free, for an attempt that is about to be claimed."""
        for lane in self._lanes.values():
            if lane.idle and lane.name not in self._reserved:
                self._reserved.add(lane.name)
                return lane.name
        name = new_name()
        self._reserved.add(name)
        return name

    def launch(self, spec: LaunchSpec) -> None:
        """Give the attempt to the runner of its lane, which starts it when it has nothing else to do."""
        if (known := self._at.get(spec.key)) is not None and known.alive and spec.key in known.runs:
            return
        lane = self._lanes.get(spec.lane) or self._free_lane() or self._new_lane(spec.lane)
        order = {
            "do": "run",
            "key": spec.key,
            "command": spec.command,
            "cwd": spec.cwd,
            "env": dict(spec.environment),
            "folder": f"{self._state_dir.root}/jobs/{spec.key[0]}/{spec.key[1]}",
        }
        try:
            lane.send(order)
        except OSError as error:
            raise LaunchRefused(f"cannot be launched: {error.strerror or error}") from error
        lane.runs.append(spec.key)
        lane.refused.pop(spec.key, None)
        self._at[spec.key] = lane

    def _free_lane(self) -> Lane | None:
        return next((lane for lane in self._lanes.values() if lane.idle and lane.name not in self._reserved), None)

    def _new_lane(self, name: str) -> Lane:
        lane = Lane(self._folder, name if name and not any(gone.name == name for gone in self._gone) else new_name())
        try:
            lane.start()
        except OSError as error:
            raise LaunchRefused(f"cannot be launched: {error.strerror or error}") from error
        self._lanes[lane.name] = lane
        return lane

    def rest(self) -> None:
        """Nothing else is to be done now: have a runner ready for the next job, send home those not needed."""
        self._reserved.clear()
        idle = [lane for lane in self._lanes.values() if lane.idle]
        if not idle:
            with contextlib.suppress(LaunchRefused):  # the launch itself will tell
                self._new_lane(new_name())
        for lane in idle[1:]:
            if time.monotonic() - lane.idle_since > IDLE_S:
                self._send_home(lane)

    def _send_home(self, lane: Lane) -> None:
        lane.hang_up()
        del self._lanes[lane.name]
        lane.socket_path.unlink(missing_ok=True)
        self._gone.append(lane)

    # -------------------------------------------------------------------------------------------------- observing

    def observe(self, keys: Sequence[Key]) -> dict[Key, Observation]:
        """Hear all runners, then say of each attempt what is known. Every attempt not asked for is recorded by now."""
        for lane in list(self._lanes.values()):
            if not lane.receive():
                self._reconnect(lane)
        self._forget(set(keys))
        return {key: self._observe(key) for key in keys}

    def _reconnect(self, lane: Lane) -> None:
        lane.here = False
        runs, lane.runs = lane.runs, []
        if lane.connect():
            return  # it hung up, but lives: what it has, it will tell
        lane.runs = runs
        self._lost(lane)

    def _lost(self, lane: Lane) -> None:
        """Its process is gone: what it has not told stands in its journal."""
        self._lanes.pop(lane.name, None)
        lane.hang_up()
        if lane not in self._gone:
            self._gone.append(lane)
        try:
            lane.read_journal()
        except OSError as error:
            log.error("the journal of runner %s cannot be read: %s", lane.name, error)
            lane.here = False

    def _forget(self, live: set[Key]) -> None:
        for lane in (*self._lanes.values(), *self._gone):
            kept = live.union(lane.runs) if lane.alive else live  # what still runs there is in its way
            if done := [key for key in lane.knows() if key not in kept]:
                lane.recorded(done)
                for key in done:
                    self._at.pop(key, None)
                    self._stops.pop(key, None)
        for lane in list(self._gone):
            dead = lane.child is None or lane.child.poll() is not None
            if dead and not lane.knows():
                lane.remove()
                self._gone.remove(lane)

    def _observe(self, key: Key) -> Observation:
        lane = self._at.get(key)
        if lane is None:
            return self._unheard_of(key)
        if (ended := lane.ended.get(key)) is not None:
            return _exited(ended)
        if lane.alive:
            if not lane.here:
                return Unknown("its runner does not answer")
            if (running := lane.running.get(key)) is not None:
                return Alive(time.monotonic() - running["at"], self._stopping(lane.stopping.get(key)))
            if key in lane.runs:
                return Queued(lane.runs[0] != key)
        if (why := lane.refused.get(key)) is not None:
            return Absent(launched=False, note=f"cannot be launched: {why}", refused=True)
        return self._orphan(key, lane)

    def _orphan(self, key: Key, lane: Lane) -> Observation:
        """Its runner is gone and has left no end of it."""
        taken, stop = lane.running.get(key), lane.stopping.get(key) or self._stops.get(key)
        if lane.boot not in ("", self._boot):
            return Absent(key in lane.taken, _cause(stop), "the machine was restarted while it ran")
        pid, start = (taken["pid"], taken["start"]) if taken else (-1, None)
        if processes.members(pid, start, self._state_dir.token(*key)):
            since = time.monotonic() - taken["at"] if taken else None
            note = "its runner is gone, so its exit code will not be known"
            return Alive(since, self._stopping(stop), note)
        if key not in lane.taken:
            return Absent(launched=False, stopped=_cause(stop))
        return Absent(True, _cause(stop), "its runner was killed before it could record the exit code")

    def _unheard_of(self, key: Key) -> Observation:
        """No runner knows it: then its processes tell whether it lives."""
        stop = self._stops.get(key)
        if processes.members(-1, None, self._state_dir.token(*key)):
            return Alive(None, self._stopping(stop), "the record of its runner is gone")
        if any(not lane.here for lane in (*self._lanes.values(), *self._gone) if lane.alive):
            return Unknown("a runner does not answer that might have it")
        return Absent(launched=False, stopped=_cause(stop))

    def _stopping(self, stop: Mapping[str, Any] | None) -> Stopping | None:
        if stop is None:
            return None
        return Stopping(Cause(stop["cause"]), time.monotonic() - float(stop["at"]), bool(stop["forced"]))

    # -------------------------------------------------------------------------------------------------- ending

    def stop(self, key: Key, cause: Cause, *, force: bool) -> None:
        """Have the tree signalled by its runner, which must live to tell the end; by ourselves where it cannot."""
        lane = self._at.get(key)
        pid, start = -1, None
        if lane is not None:
            again = lane.told_to_stop(key, cause, force=force)
            if running := lane.running.get(key):
                pid, start = running["pid"], running["start"]
            if lane.alive:
                self._wake(lane)  # stopped, it could not tell the end
                with contextlib.suppress(OSError):  # gone this moment: the next round sees it
                    lane.send({"do": "stop", "key": key, "cause": cause.value, "force": force})
                    if not again:
                        return  # the runner knows then that it has not ended by itself
        elif key not in self._stops or force:
            at = self._stops.get(key, {}).get("at", time.monotonic())
            self._stops[key] = {"cause": cause.value, "at": at, "forced": force}
        found = processes.members(pid, start, self._state_dir.token(*key))
        processes.send(found, signal.SIGKILL if force else signal.SIGTERM)

    def abandon(self, key: Key) -> bool:
        """Take the attempt back from its runner."""
        lane = self._at.get(key)
        if lane is None or key in lane.refused:
            return isinstance(self._observe(key), Absent)
        if not lane.alive:
            return key not in lane.taken and key not in lane.ended and isinstance(self._observe(key), Absent)
        self._wake(lane)
        try:
            lane.send({"do": "drop", "key": key})
        except OSError:
            return False
        dropped = lane.wait_for(key)
        if dropped:
            self._at.pop(key, None)
        return bool(dropped)

    # -------------------------------------------------------------------------------------------------- waiting

    def facts(self) -> dict[Key, dict[str, Any]]:
        """Nothing: what runs here is known from here."""
        return {}

    def silence(self) -> Silence | None:
        """Never: nobody else is asked."""
        return None

    def wake_fds(self) -> list[int]:
        """The connections to the runners: readable when something has started or ended, or a runner is gone."""
        return [lane.connection.fileno() for lane in self._lanes.values() if lane.connection is not None]

    def close(self) -> None:
        """Let go of the runners: those with work go on."""
        for lane in self._lanes.values():
            lane.hang_up()


def _cause(stop: Mapping[str, Any] | None) -> Cause | None:
    return None if stop is None else Cause(stop["cause"])


def _exited(ended: Mapping[str, Any]) -> Exited:
    code, error = int(ended["code"]), ended["error"]
    if code < 0:
        name = signal.Signals(-code).name if -code in set(signal.Signals) else f"signal {-code}"
        code, error = 128 - code, f"ended by {name}"
    stopped = ended.get("stopped")
    return Exited(code, float(ended["ran"]), Cause(stopped) if stopped else None, error, ended["leftovers"])
