"""The daemon's end of the worker: requests go out, answers come in, and nothing ever waits for SkyPilot.

A worker is started with the first request. One that dies, or owes an answer for too long, is ended with its whole
process group; what it had begun is answered with kind "died", what it had not begun goes to the next one. Workers
that die one after the other are started with growing pauses.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import signal
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from metta_jobs.errors import MettaError

_WORKER = Path(__file__).with_name("worker.py")
#: Seconds a request may take, from when the worker begins with it; but for `follow`, none of them waits for a job.
_DEADLINES_S = {"queue": 90.0, "requests": 90.0, "log": 150.0, "price": 60.0, "follow": math.inf}
_DEADLINE_S = 120.0
#: What a launch with a folder may take besides: it is packed and uploaded.
_UPLOAD_S = 600.0
#: `import sky` takes 5-6 s, minutes on a slow network file system.
_READY_S = 180.0
_MOST_PAUSE_S = 60.0
_LOG_BYTES = 1_000_000
_KEPT_LOG_BYTES = 100_000
_ACTS = {"launch", "cancel"}


@dataclass(frozen=True)
class Answer:
    """What came of a request. `kind` of an error: "unreachable" (the API server does not answer), "missing" (no usable
    interpreter with sky), "refused" (SkyPilot rejects it for good), "error" (anything else that SkyPilot raised): in
    all these nothing was done. "died": no answer came, and it is not known whether it was done."""

    ticket: int
    do: str
    value: dict[str, Any] | None
    error: str | None = None
    kind: str | None = None


@dataclass
class _Asked:
    ticket: int
    do: str
    line: bytes = field(repr=False)
    deadline_s: float
    began: float | None = None


def pause_s(deaths: int) -> float:
    """Seconds to wait before a worker is started after so many have died in a row: 1, 2, 4 ... 60."""
    return min(_MOST_PAUSE_S, 2.0 ** min(deaths - 1, 10))


class _Worker:
    """A worker process, what it has been asked and has not answered yet, and bytes that are on their way."""

    def __init__(self, python: str, log_path: Path) -> None:
        self.owed: dict[int, _Asked] = {}
        self.ready = False
        self.failed: str | None = None
        self.condemned = False
        self.started = time.monotonic()
        self._out = bytearray()
        self._in = bytearray()
        log_path.parent.mkdir(parents=True, exist_ok=True)
        self._log = os.open(log_path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            self._process = subprocess.Popen(
                [python, "-I", "-X", "utf8", str(_WORKER), str(os.getpid())],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._log,
                cwd="/",
                bufsize=0,
                start_new_session=True,
            )
        except OSError:
            os.close(self._log)
            raise
        assert self._process.stdin is not None and self._process.stdout is not None
        self._stdin, self._stdout = self._process.stdin, self._process.stdout
        os.set_blocking(self._stdin.fileno(), False)
        os.set_blocking(self._stdout.fileno(), False)

    def fileno(self) -> int:
        return self._stdout.fileno()

    def ask(self, asked: _Asked) -> None:
        self.owed[asked.ticket] = asked
        self._out += asked.line
        self.flush()

    def flush(self) -> None:
        """Write as much as goes without waiting. A pipe that is broken shows when it is read."""
        with contextlib.suppress(BlockingIOError, BrokenPipeError):
            while self._out:
                written = self._stdin.write(self._out[:65536])
                if written is None:  # the pipe is full
                    return
                del self._out[:written]

    def read(self) -> tuple[list[dict[str, Any]], bool]:
        """The lines that have come, and whether more may follow. Reads what is there, so that it ends."""
        open_still = True
        for _ in range(64):
            data = self._stdout.read(65536)
            if data is None:
                break
            if not data:
                open_still = False
                break
            self._in += data
        *whole, rest = bytes(self._in).split(b"\n")
        self._in = bytearray(rest)
        lines = []
        for text in whole:
            try:
                line = json.loads(text)
            except ValueError:
                line = None
            if isinstance(line, dict):
                lines.append(line)
        return lines, open_still

    def bound_log(self) -> None:
        """Keep only the end of a log that has grown too long; what is written meanwhile may be lost."""
        size = os.fstat(self._log).st_size
        if size > _LOG_BYTES:
            tail = os.pread(self._log, _KEPT_LOG_BYTES, size - _KEPT_LOG_BYTES)
            os.ftruncate(self._log, 0)
            os.write(self._log, b"... the beginning was dropped ...\n" + tail)

    def overdue(self) -> str | None:
        """What takes too long, None when nothing does."""
        now = time.monotonic()
        if not self.ready and now - self.started > _READY_S:
            return f"SkyPilot could not be imported within {_READY_S:.0f} s"
        late = [one for one in self.owed.values() if one.began is not None and now - one.began > one.deadline_s]
        if not late:
            return None
        self.condemned = True
        return f"no answer to {late[0].do!r} within {late[0].deadline_s:.0f} s"

    def busy_acting(self) -> bool:
        """Whether an act is on its way that may still be answered: it is not cut short for a poll that hangs."""
        now = time.monotonic()
        return any(
            one.do in _ACTS and one.began is not None and now - one.began <= one.deadline_s
            for one in self.owed.values()
        )

    def end(self) -> str:
        """Kill it with all its children, and say how it ended."""
        # Not reaped before it is killed: until then, nobody else can have its number.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._stdin.close()
        self._stdout.close()
        os.close(self._log)
        try:
            code = self._process.wait(timeout=0.2)
        except subprocess.TimeoutExpired:  # nobody waits for a kernel that hangs: it is reaped later
            return "killed"
        return f"signal {-code}" if code < 0 else f"exit code {code}"


class SkyClient:
    """Asks SkyPilot without ever waiting for it. Call `answers` regularly: deadlines and restarts happen in there.

    `find_python` names an interpreter that has sky, or raises MettaError. What the worker prints goes to `log_path`,
    which is kept below 1 MB. Ask from a thread that lives as long as the client: on Linux, the worker dies with it.
    """

    def __init__(self, find_python: Callable[[], str], log_path: Path) -> None:
        self._find_python = find_python
        self._log_path = log_path
        self._worker: _Worker | None = None
        self._waiting: list[_Asked] = []
        self._come: list[Answer] = []
        self._tickets = 0
        self._deaths = 0
        self._not_before = 0.0

    def ask(self, do: str, **fields: Any) -> int:
        """Send a request, starting a worker when none runs; return its ticket, which its answer will carry."""
        self._tickets += 1
        line = (json.dumps({"ticket": self._tickets, "do": do, **fields}) + "\n").encode()
        deadline_s = _DEADLINES_S.get(do, _DEADLINE_S)
        task = fields.get("task") or {}
        if do == "launch" and (task.get("workdir") or task.get("file_mounts")):
            deadline_s += _UPLOAD_S
        self._waiting.append(_Asked(self._tickets, do, line, deadline_s))
        self._send()
        return self._tickets

    def answers(self) -> list[Answer]:
        """What has been answered since the last call, each ticket once."""
        if (worker := self._worker) is not None:
            lines, open_still = worker.read()
            for line in lines:
                self._heard(worker, line)
            worker.bound_log()
            late = worker.overdue()
            if not open_still:
                self._bury("SkyPilot's worker ended before it answered")
            elif late and not worker.busy_acting():
                self._bury(f"SkyPilot's worker was ended: {late}")
            else:
                worker.flush()
        self._send()
        come, self._come = self._come, []
        return come

    def fileno(self) -> int | None:
        """Readable when answers may have come; None while no worker runs."""
        return self._worker.fileno() if self._worker is not None else None

    def close(self) -> None:
        """End the worker; what it owes is never answered."""
        if self._worker is not None:
            self._worker.end()
            self._worker = None
        self._waiting.clear()

    def _send(self) -> None:
        if not self._waiting or (self._worker is not None and self._worker.condemned):
            return
        if self._worker is None:
            if time.monotonic() < self._not_before:
                return
            try:
                self._worker = _Worker(self._find_python(), self._log_path)
            except (MettaError, OSError) as error:
                self._miss(str(error))
                return
        waiting, self._waiting = self._waiting, []
        for asked in waiting:
            self._worker.ask(asked)

    def _miss(self, why: str) -> None:
        self._come += [Answer(one.ticket, one.do, None, why, "missing") for one in self._waiting]
        self._waiting.clear()

    def _heard(self, worker: _Worker, line: dict[str, Any]) -> None:
        if "ready" in line:
            worker.ready = True
        elif "failed" in line:
            worker.failed = str(line["failed"])
        elif (asked := worker.owed.get(line.get("began", -1))) is not None:
            asked.began = time.monotonic()
        elif (asked := worker.owed.pop(line.get("ticket", -1), None)) is not None:
            self._deaths = 0
            kind = str(line["kind"]) if "kind" in line else None
            self._come.append(Answer(asked.ticket, asked.do, line.get("value"), line.get("error"), kind))

    def _bury(self, why: str) -> None:
        """End the worker, answer for it, and keep what it had not begun for the next one."""
        worker, self._worker = self._worker, None
        assert worker is not None
        how = worker.end()
        self._deaths += 1
        self._not_before = time.monotonic() + pause_s(self._deaths)
        not_begun = [one for one in worker.owed.values() if one.began is None]
        self._come += [
            Answer(one.ticket, one.do, None, f"{why} ({how})", "died")
            for one in worker.owed.values()
            if one.began is not None
        ]
        self._waiting = not_begun + self._waiting
        if not worker.ready:
            self._miss(f"SkyPilot cannot be used: {worker.failed or why} ({how}); see {self._log_path}.")
