"""Asking W&B from any process of ours: through a worker, within a budget, with answers that are remembered."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import time
import weakref
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from metta_jobs.environment import split, wandb_mode
from metta_jobs.errors import MettaError
from metta_jobs.metrics.online.answers import Answers

WORKER = Path(__file__).with_name("worker.py")
#: Pauses before a question is asked again that failed as a busy or distant server fails (seconds).
PAUSES_S = (1.0, 4.0)
_START_S = 60.0


class WandbError(MettaError):
    """W&B could not be asked, or refused."""


@dataclass(frozen=True)
class Answer:
    """What W&B said at `at` (seconds since the epoch). `stale` says why it could not be asked again, if it is old."""

    value: Any
    at: float
    stale: str | None = None


class _Trouble(Exception):
    """What may pass when it is tried again."""


class WandbClient:
    """Asks W&B for the runs that a state folder is about.

    Answers are kept in `metrics.sqlite` in the folder `state_dir`, where all processes share them, and the budget of
    requests. `timeout_s` is for one request. An instance belongs to one thread.
    """

    def __init__(
        self,
        state_dir: Path,
        *,
        environment: Mapping[str, str] | None = None,
        timeout_s: float = 20,
        pauses_s: tuple[float, ...] = PAUSES_S,
        wait: Callable[[float], None] = time.sleep,
    ) -> None:
        self.answers = Answers(state_dir / "metrics.sqlite")
        self.timeout_s = timeout_s
        self._environment = dict(os.environ if environment is None else environment)
        self._pauses_s = pauses_s
        self._wait = wait
        self._worker: _Worker | None = None
        self._silent_until = 0.0
        self._silence = ""

    @property
    def configured(self) -> bool:
        """True when there is a login to W&B."""
        return wandb_mode(self._environment) == "online"

    def close(self) -> None:
        """End the worker."""
        if self._worker:
            self._worker.end()
            self._worker = None

    def ask(self, do: str, *, fresh_s: float, cost: float = 1, **fields: Any) -> Answer:
        """Answer from memory if that is at most `fresh_s` seconds old, else ask, for about `cost` requests.

        When W&B cannot be asked now, what it said before is the answer, marked as stale. A project or run that is not
        there (yet) is None. Raises WandbError when there is no such answer, or W&B refuses.
        """
        base = self._environment.get("WANDB_BASE_URL", "")
        question = json.dumps([base, do, fields], sort_keys=True)
        known = self.answers.get(question)
        if known and time.time() - known[0] <= fresh_s:
            return Answer(known[1], known[0])
        try:
            value = self._asked(do, fields, cost, patient=known is None)
        except _Trouble as trouble:
            if known is None:
                raise WandbError(f"W&B cannot be asked: {trouble}. Try again in a minute.") from None
            return Answer(known[1], known[0], stale=str(trouble))
        return Answer(value, self.answers.put(question, value))

    def _asked(self, do: str, fields: Mapping[str, Any], cost: float, *, patient: bool) -> Any:
        if not self.configured:
            raise WandbError("There is no login to W&B: `wandb login`, or export WANDB_API_KEY.")
        if time.monotonic() < self._silent_until:
            raise _Trouble(self._silence)
        while wait_s := self.answers.take(cost):
            if not patient:
                raise _Trouble("the budget of requests is spent for now")
            self._wait(min(wait_s, 5.0))
        for pause_s in (*self._pauses_s, None):
            try:
                return self._once(do, fields, cost)
            except _Trouble as trouble:
                if pause_s is None:
                    # Whoever asks for the next of many runs need not wait for the same silence again.
                    self._silent_until, self._silence = time.monotonic() + 30, str(trouble)
                    raise
                self._wait(pause_s)
                self.answers.charge(cost)
        raise AssertionError("unreachable")

    def _once(self, do: str, fields: Mapping[str, Any], cost: float) -> Any:
        if self._worker is None:
            self._worker = _Worker(self._environment)
        # wandb itself tries again until its time is up; two requests come before the first.
        answer = self._worker.ask({"do": do, "timeout_s": self.timeout_s, **fields}, (3 + cost) * self.timeout_s)
        if answer is None:
            self.close()
            raise _Trouble("wandb's client ended or did not answer")
        if "error" not in answer:
            if (more := answer.get("requests", cost) - cost) > 0:
                self.answers.charge(more)
            return answer["value"]
        words = str(answer["error"]).rstrip(".")
        if answer["kind"] == "absent":
            return None
        if answer["kind"] == "missing":
            raise WandbError("wandb is not installed here: `uv pip install wandb`.")
        if answer["kind"] == "refused":
            raise WandbError(
                f"W&B refuses: {words}. `wandb login --relogin`, or look at WANDB_API_KEY and the project."
            )
        raise _Trouble(words)


class _Worker:
    """The process that has wandb imported."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        plain, secrets = split(environment)
        self._process = subprocess.Popen(
            [sys.executable, "-I", str(WORKER)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            env={**plain, **secrets, "WANDB_MODE": "online", "WANDB_SILENT": "true", "WANDB_ERROR_REPORTING": "false"},
        )
        self._ticket = 0
        self._buffer = b""
        self._started = False
        self.end = weakref.finalize(self, _end, self._process)

    def ask(self, question: Mapping[str, Any], patience_s: float) -> dict[str, Any] | None:
        """Ask and wait; None when it has ended, or has not answered in time."""
        assert self._process.stdin and self._process.stdout
        self._ticket += 1
        if not self._started:
            self._started, patience_s = True, patience_s + _START_S
        try:
            self._process.stdin.write((json.dumps({**question, "ticket": self._ticket}) + "\n").encode())
            self._process.stdin.flush()
        except BrokenPipeError:
            return None
        deadline = time.monotonic() + patience_s
        while b"\n" not in self._buffer:
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([self._process.stdout], [], [], left)[0]:
                return None
            if not (data := os.read(self._process.stdout.fileno(), 1 << 20)):
                return None
            self._buffer += data
        line, _, self._buffer = self._buffer.partition(b"\n")
        found: dict[str, Any] = json.loads(line)
        return found


def _end(process: subprocess.Popen[bytes]) -> None:
    """End the worker and wandb's own helper, which is in its session."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGTERM)
    try:
        process.wait(5)
    except subprocess.TimeoutExpired:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    for stream in (process.stdin, process.stdout):
        if stream:
            with contextlib.suppress(OSError):
                stream.close()
