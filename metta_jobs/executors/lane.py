"""The daemon's end of one runner: what it was given, and what it has told."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import secrets
import select
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from metta_jobs.executors import journal, runner
from metta_jobs.executors.base import Cause, Key
from metta_jobs.executors.folders import remove_spare
from metta_jobs.paths import short_address

log = logging.getLogger("metta_jobs.daemon")

ANSWER_S = 2.0
#: A runner belongs to no attempt, though a job may have started the daemon that started it.
_ENVIRONMENT = {"METTA_ATTEMPT_NONE": "1", "PATH": os.defpath}


class Lane:
    """One runner, alive or gone. `runs` is what it was given and has not ended, in its order."""

    def __init__(self, folder: Path, name: str) -> None:
        self.name = name
        self.socket_path = folder / f"{name}.sock"
        self.journal_path = folder / f"{name}.journal"
        self.connection: socket.socket | None = None
        self.child: subprocess.Popen[bytes] | None = None
        self.runner: tuple[int, str | None] | None = None  # its process id and start mark
        self.boot = ""
        self.here = False  # it has told what it has
        self.runs: list[Key] = []
        self.taken: set[Key] = set()  # told by a journal: perhaps started
        self.running: dict[Key, dict[str, Any]] = {}
        self.stopping: dict[Key, dict[str, Any]] = {}
        self.ended: dict[Key, dict[str, Any]] = {}
        self.refused: dict[Key, str] = {}
        self.answers: dict[Key, bool] = {}
        self.idle_since = time.monotonic()
        self._seen: list[Key] = []
        self._received = b""

    # -------------------------------------------------------------------------------------------------- life

    @property
    def alive(self) -> bool:
        """True while it can be spoken to."""
        return self.connection is not None

    @property
    def idle(self) -> bool:
        """True when it could take an attempt and start it at once."""
        return self.alive and not self.runs

    def start(self) -> None:
        """Start its process. Raises OSError."""
        fd, _ = journal.make(str(self.journal_path), [])
        os.close(fd)
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self.socket_path.unlink(missing_ok=True)
            with short_address(self.socket_path) as address:
                listener.bind(address)
            self.socket_path.chmod(0o600)
            listener.listen(4)
            with (self.journal_path.parent / "errors.log").open("ab") as errors:
                self.child = subprocess.Popen(
                    [sys.executable, "-I", "-S", "-X", "utf8", runner.__file__, str(listener.fileno())]
                    + [str(self.journal_path)],
                    pass_fds=[listener.fileno()],
                    env=_ENVIRONMENT,
                    stdin=subprocess.DEVNULL,
                    stdout=errors,
                    stderr=errors,
                    start_new_session=True,
                    cwd="/",
                )
        except OSError:
            self.remove()
            raise
        finally:
            listener.close()
        self.connect()
        self.here = True  # it is new, so it has nothing

    def connect(self) -> bool:
        """Speak to its process; False when there is none any more."""
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            with short_address(self.socket_path) as address:
                connection.connect(address)
        except (ConnectionRefusedError, FileNotFoundError):
            connection.close()
            return False
        connection.setblocking(False)
        self.connection, self._received = connection, b""
        return True

    def read_journal(self) -> None:
        """Learn from its journal what it has left. Raises OSError."""
        for line in journal.read(str(self.journal_path)) or []:
            try:
                self._hear(line)
            except (KeyError, TypeError, ValueError, OverflowError):
                log.warning("a line of runner %s is damaged, so it is no evidence", self.name)

    def read_name(self) -> None:
        """Learn from its journal which process it is. Raises OSError."""
        for line in (journal.read(str(self.journal_path)) or [])[:1]:
            if line["is"] == "born":
                self._hear(line)

    def remove(self) -> None:
        """Remove what it left, which is recorded."""
        for path in (self.journal_path, self.socket_path):
            with contextlib.suppress(OSError):
                path.unlink(missing_ok=True)
        remove_spare(str(self.journal_path.with_suffix(".spare")))

    def hang_up(self) -> None:
        """Stop speaking to it; it leaves when it has nothing to do."""
        if self.connection is not None:
            self.connection.close()
            self.connection = None

    # -------------------------------------------------------------------------------------------------- speaking

    def send(self, order: dict[str, Any]) -> None:
        """Give an order, and tell what is recorded meanwhile. Raises OSError; then half an order counts as none."""
        if self.connection is None:
            raise BrokenPipeError(32, "its runner is gone")
        data = json.dumps({**order, "seen": self._seen}).encode() + b"\n"
        self.connection.settimeout(ANSWER_S)
        try:
            self.connection.sendall(data)
        except OSError:
            self.hang_up()
            raise
        finally:
            if self.connection is not None:
                self.connection.setblocking(False)
        self._seen = []

    def receive(self) -> bool:
        """Hear what it has told since; False when its process is gone."""
        while self.connection is not None:
            try:
                data = self.connection.recv(1 << 18)
            except BlockingIOError:
                return True
            except OSError:
                data = b""
            if not data:
                self.hang_up()
                return False
            *lines, self._received = (self._received + data).split(b"\n")
            for text in lines:
                self._hear(json.loads(text))
        return False

    def wait_for(self, key: Key) -> bool | None:
        """Wait for its answer about dropping an attempt; None when it does not answer."""
        deadline = time.monotonic() + ANSWER_S
        while key not in self.answers:
            if self.connection is None or (left := deadline - time.monotonic()) <= 0:
                return None
            poll = select.poll()
            poll.register(self.connection, select.POLLIN)
            poll.poll(1000 * left)
            self.receive()
        return self.answers.pop(key)

    def recorded(self, keys: list[Key]) -> None:
        """These ends are in the database: nothing of them is needed any more."""
        for key in keys:
            for known in (self.running, self.stopping, self.ended, self.refused):
                known.pop(key, None)
            self.taken.discard(key)
        self.runs = [key for key in self.runs if key not in keys]
        self._seen += keys
        if not self.runs:
            self.idle_since = time.monotonic()

    def told_to_stop(self, key: Key, cause: Cause, *, force: bool) -> bool:
        """Remember why and since when an attempt is asked to end; return whether it was asked to by force before."""
        earlier = self.stopping.get(key)
        if earlier is None:
            self.stopping[key] = {"cause": cause.value, "at": time.monotonic(), "forced": force}
            return False
        before = bool(earlier["forced"])
        earlier["forced"] = before or force
        return before

    def knows(self) -> set[Key]:
        """Every attempt that it has something to say about."""
        return {*self.runs, *self.taken, *self.ended, *self.refused}

    # -------------------------------------------------------------------------------------------------- hearing

    def _hear(self, line: dict[str, Any]) -> None:
        what = line["is"]
        if what in ("born", "here"):
            self.runner, self.boot = (int(line["pid"]), line["start"]), str(line["boot"])
            if what == "here" and not self.here:
                self._adopt(line)
            return
        key = _key(line)
        if what == "running":
            told = {"pid": int(line["pid"]), "start": line["start"]}
            at = float(line["at"] if "at" in line else self.running[key]["at"])
            self.running[key] = {**told, "at": at}
        elif what == "stopping":
            self.stopping[key] = _stopping(line)
        elif what == "ended":
            self.ended[key] = _ended(line)
            self.runs = [run for run in self.runs if run != key]
            self.running.pop(key, None)
        elif what == "refused":
            self.refused[key] = str(line["why"])
            self.runs = [run for run in self.runs if run != key]
        elif what == "taken":
            self.taken.add(key)
            self.running.setdefault(key, {"at": float(line["at"]), "pid": -1, "start": None})
        elif what == "dropped":
            if line.get("dropped", True):
                self.runs = [run for run in self.runs if run != key]
                self.taken.discard(key)
                self.running.pop(key, None)
            if "dropped" in line:
                self.answers[key] = bool(line["dropped"])

    def _adopt(self, line: dict[str, Any]) -> None:
        self.here = True
        for ended in line["ended"]:
            self.ended[_key(ended)] = _ended(ended)
        if now := line["current"]:
            key = _key(now)
            self.runs.append(key)
            self.running[key] = {"at": now["at"], "pid": now["pid"], "start": now["start"]}
            if now["stopping"]:
                self.stopping[key] = _stopping(now["stopping"])
        self.runs += [(int(job), int(attempt)) for job, attempt in line["queue"]]


def _stopping(line: dict[str, Any]) -> dict[str, Any]:
    """Why and when an attempt was asked to end. Raises KeyError, TypeError or ValueError where that is not told."""
    return {"cause": Cause(line["cause"]).value, "at": float(line["at"]), "forced": bool(line["forced"])}


def _ended(line: dict[str, Any]) -> dict[str, Any]:
    """How an attempt ended. Raises KeyError, TypeError or ValueError where that is not told."""
    error, stopped = line["error"], line.get("stopped")
    if type(line["code"]) is not int:
        raise TypeError("an exit code is a number")
    return {
        "code": line["code"],
        "ran": float(line["ran"]),
        "error": None if error is None else str(error),
        "stopped": None if stopped is None else Cause(stopped).value,
        "leftovers": int(line.get("leftovers", 0)),
    }


def _key(line: dict[str, Any]) -> Key:
    job, attempt = line["key"]
    return int(job), int(attempt)


def new_name() -> str:
    """A name that no lane has had."""
    return secrets.token_hex(4)
