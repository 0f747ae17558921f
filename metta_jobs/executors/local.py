"""Attempts as processes of this machine, each under a small runner in a session of its own.

Nothing is remembered that matters: whatever this says, it reads from the attempt's folder and from the kernel.
"""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

from metta_jobs.executors import runner
from metta_jobs.executors.base import (
    Absent,
    Alive,
    Cause,
    Exited,
    Key,
    LaunchRefused,
    LaunchSpec,
    Observation,
    Stopping,
    Unknown,
)
from metta_jobs.executors.records import (
    DamagedRecord,
    OutcomeRecord,
    PidRecord,
    StopRecord,
    read_outcome,
    read_pid,
    read_stop,
)
from metta_jobs.paths import StateDir

VOID = "void"
"""What `abandon` writes as boot id: this attempt was given up before it started."""


class LocalExecutor:
    """The executor of this machine."""

    name = "local"

    def __init__(self, state_dir: StateDir) -> None:
        self._state_dir = state_dir
        self._children: dict[Key, subprocess.Popen[bytes]] = {}  # only to reap them
        self._pidfds: dict[Key, int] = {}
        self._stops: dict[Key, StopRecord] = {}  # until they are on disk
        self._boot = runner.boot_id()

    def launch(self, spec: LaunchSpec) -> None:
        """Write the spec, start the runner. Of two runners of one attempt only one gets to make pid.json."""
        if (child := self._children.get(spec.key)) is not None and child.poll() is None:
            return
        folder = self._state_dir.attempt(*spec.key)
        try:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            runner.write_record(
                folder / "spec.json",
                {
                    "name": spec.name,
                    "command": list(spec.command),
                    "cwd": str(spec.cwd) if spec.cwd else None,
                    "grace_s": spec.grace_s,
                },
            )
            with (folder / "runner.log").open("ab") as log:
                self._children[spec.key] = subprocess.Popen(
                    [sys.executable, "-I", "-S", "-X", "utf8", runner.__file__, str(folder)],
                    env=dict(spec.environment),
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                    cwd="/",
                )
        except (OSError, ValueError) as error:
            # What the kernel will never take is the job's own fault; anything else may pass.
            never = isinstance(error, ValueError) or error.errno in (errno.E2BIG, errno.EINVAL)
            why = error.strerror if isinstance(error, OSError) else error
            raise LaunchRefused(f"cannot be launched: {why}", for_ever=never) from error
        self._watch(spec.key, self._children[spec.key].pid)

    def observe(self, keys: Sequence[Key]) -> dict[Key, Observation]:
        """Read the evidence of each attempt; reap and forget what has ended."""
        for key, child in list(self._children.items()):
            if child.poll() is not None:
                del self._children[key]
        for key in set(self._pidfds) - set(keys):
            self._unwatch(key)
        self._stops = {key: stop for key, stop in self._stops.items() if key in set(keys)}
        return {key: self._observe(key) for key in keys}

    def _observe(self, key: Key) -> Observation:
        try:
            return self._look(key)
        except OSError as error:
            self._unwatch(key)
            return Unknown(f"its folder cannot be read: {error.strerror or error}")

    def _look(self, key: Key) -> Observation:
        folder = self._state_dir.attempt(*key)
        try:
            pid = read_pid(folder)
        except DamagedRecord as damage:
            return self._without_records(key, f"its records are damaged ({damage})")
        if pid is None:
            if key in self._children:
                return Unknown("starting")  # its runner has not made pid.json yet
            return self._without_records(key, None)
        same_boot = pid.boot == self._boot
        # The order matters: only when the runner is gone is a missing outcome record final.
        alive = same_boot and runner.start_mark(pid.pid) == pid.start
        stop = self._stop_record(key)
        try:
            outcome = read_outcome(folder)
        except DamagedRecord:
            outcome = None  # no evidence
        if outcome is not None:
            self._unwatch(key)
            return _exited(outcome, stop if stop and stop.boot == pid.boot else None)
        if alive:
            self._watch(key, pid.pid)
            return Alive(time.monotonic() - pid.monotonic, self._stopping(stop))
        self._unwatch(key)
        cause = stop.cause if stop else None
        if pid.boot == VOID:
            return Absent(launched=False, stopped=cause)
        if not same_boot:
            return Absent(launched=True, stopped=cause, note="the machine was restarted while it ran")
        if runner.members(pid.pid, pid.start, self._state_dir.token(*key)):
            note = "its runner is gone, so its exit code will not be known"
            return Alive(time.monotonic() - pid.monotonic, self._stopping(stop), note)
        return Absent(launched=True, stopped=cause, note="its runner was killed before it could record the exit code")

    def _without_records(self, key: Key, damage: str | None) -> Observation:
        """What can be said without pid.json: the processes that carry the attempt's token tell whether it lives."""
        self._unwatch(key)
        if runner.members(-1, None, self._state_dir.token(*key)):
            return Alive(None, self._stopping(self._stop_record(key)), damage or "its pid.json is gone")
        if damage is not None:
            return Absent(launched=True, note=damage)
        return Absent(launched=False, note=_last_line(self._state_dir.attempt(*key)))

    def stop(self, key: Key, cause: Cause, *, force: bool) -> None:
        """Record why, then signal the whole tree but the runner, which must live to write the outcome."""
        folder = self._state_dir.attempt(*key)
        try:
            pid = read_pid(folder)
        except DamagedRecord:
            pid = PidRecord(-1, None, self._boot, 0.0)
        pid = pid or PidRecord(-1, None, self._boot, 0.0)
        if pid.boot != self._boot:
            return
        earlier = self._stop_record(key)
        if earlier is None or (force and not earlier.forced):
            record = (
                replace(earlier, forced=True) if earlier else StopRecord(cause, time.monotonic(), self._boot, force)
            )
            self._stops[key] = record
            # On a full disk the record stays in memory: what fills the disk must be stoppable.
            with contextlib.suppress(OSError):
                runner.write_record(folder / "stop.json", asdict(record))
        found = runner.members(pid.pid, pid.start, self._state_dir.token(*key))
        if pid.pid in found:
            runner.send([pid.pid], signal.SIGCONT)  # if somebody has stopped it, it could not tell the end
        runner.send([p for p in found if p != pid.pid], signal.SIGKILL if force else signal.SIGTERM)

    def _stop_record(self, key: Key) -> StopRecord | None:
        try:
            return read_stop(self._state_dir.attempt(*key)) or self._stops.get(key)
        except DamagedRecord:
            return self._stops.get(key)

    def abandon(self, key: Key) -> bool:
        """Take the attempt's only pid.json, so that a late runner finds it taken and leaves."""
        folder = self._state_dir.attempt(*key)
        try:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            if runner.claim(folder, {"pid": 0, "start": None, "boot": VOID, "monotonic": 0.0}):
                return True
            taken = read_pid(folder)
            return taken is not None and taken.boot == VOID  # given up before, by a daemon that died over it
        except DamagedRecord:
            return False
        except OSError as error:
            raise LaunchRefused(f"cannot be given up either: {error.strerror or error}") from error

    def wake_fds(self) -> list[int]:
        """One pidfd for each live runner; none where the system has no pidfds."""
        return list(self._pidfds.values())

    def _stopping(self, stop: StopRecord | None) -> Stopping | None:
        if stop is None:
            return None
        since = time.monotonic() - stop.monotonic if stop.boot == self._boot else None
        return Stopping(stop.cause, since, stop.forced)

    def _watch(self, key: Key, pid: int) -> None:
        if key in self._pidfds or not hasattr(os, "pidfd_open"):
            return
        with contextlib.suppress(OSError):  # gone meanwhile, or no descriptors left: the next tick sees it anyway
            self._pidfds[key] = os.pidfd_open(pid)

    def _unwatch(self, key: Key) -> None:
        if (fd := self._pidfds.pop(key, None)) is not None:
            os.close(fd)


def _exited(outcome: OutcomeRecord, stop: StopRecord | None) -> Exited:
    code, error = outcome.exit_code, outcome.error
    if code < 0:
        name = signal.Signals(-code).name if -code in set(signal.Signals) else f"signal {-code}"
        code, error = 128 - code, f"ended by {name}"
    # It ended by itself when it was over before we asked.
    stopped = stop.cause if stop and stop.monotonic < outcome.monotonic else None
    return Exited(code, outcome.running_s, stopped, error)


def _last_line(folder: Path) -> str | None:
    try:
        lines = (folder / "runner.log").read_text(errors="replace").strip().splitlines()
    except OSError:
        return None
    return lines[-1] if lines else None
