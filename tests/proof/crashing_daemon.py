"""A daemon that dies by SIGKILL at its K-th crash point: `python -m tests.proof.crashing_daemon STATE_DIR K TALLY`.

Crash points lie before and after every commit and every external act: starting a runner, giving an order to one,
connecting, removing evidence, making the doorbell. Each is written to TALLY as it is passed, so that a run that is
never killed (K = 0) tells how many there are.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from metta_jobs.daemon import doorbell, service
from metta_jobs.executors import lane
from metta_jobs.store import engine

_passed = 0


def _point(name: str) -> None:
    global _passed
    _passed += 1
    os.write(_TALLY, f"{_passed} {name}\n".encode())
    if _passed == _FATAL:
        os.kill(os.getpid(), signal.SIGKILL)


def _around(owner: Any, name: str, label: str) -> None:
    original: Callable[..., Any] = getattr(owner, name)

    def wrapped(*args: Any, **kwargs: Any) -> Any:
        said = f"{label} {args[1].get('do')}" if label == "order" else label
        _point(f"before {said}")
        result = original(*args, **kwargs)
        _point(f"after {said}")
        return result

    setattr(owner, name, wrapped)


def _commits() -> None:
    original = engine.Store._connect

    class Connection:
        """The driver's connection, with crash points around commits that write."""

        def __init__(self, real: Any) -> None:
            self._real = real

        def execute(self, statement: str, *rest: Any) -> Any:
            if statement == "COMMIT" and self._real.total_changes != self._changes:
                self._changes = self._real.total_changes
                _point("before commit")
                result = self._real.execute(statement, *rest)
                _point("after commit")
                return result
            return self._real.execute(statement, *rest)

        _changes = 0

        def __getattr__(self, name: str) -> Any:
            return getattr(self._real, name)

    def connect(self: engine.Store) -> Any:
        if self._connection is None:
            self._connection = Connection(original(self))  # type: ignore[assignment]
        return self._connection

    engine.Store._connect = connect  # type: ignore[method-assign]


if __name__ == "__main__":
    _FATAL = int(sys.argv[2])
    _TALLY = os.open(sys.argv[3], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    _commits()
    _around(lane.Lane, "start", "start of a runner")
    _around(lane.Lane, "connect", "connect")
    _around(lane.Lane, "send", "order")
    _around(lane.Lane, "remove", "removal of evidence")
    _around(doorbell.Doorbell, "__init__", "doorbell")
    service.log_to(Path(sys.argv[1]) / "daemon.log")
    service.run(Path(sys.argv[1]))
