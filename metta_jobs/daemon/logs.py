"""Keeping the logs of running jobs within their limits."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from pathlib import Path

from metta_jobs.clock import Clock
from metta_jobs.executors.loglimit import LogLimits
from metta_jobs.paths import StateDir
from metta_jobs.store.queue import LiveAttempt

log = logging.getLogger("metta_jobs.daemon")

LOOK_S = 1.0


class LogKeeper:
    """Looks about once a second at the logs of those attempts that have a limit, and once more when they have ended."""

    def __init__(self, state_dir: StateDir, clock: Clock) -> None:
        self._state_dir = state_dir
        self._clock = clock
        self._limits = LogLimits()
        self._looked_at = float("-inf")
        self._last: dict[Path, int] = {}

    def tend(self, attempts: Iterable[LiveAttempt]) -> None:
        """Look, when it is time to."""
        if self._clock.monotonic() - self._looked_at < LOOK_S:
            return
        self._looked_at = self._clock.monotonic()
        now = {
            self._state_dir.attempt(*attempt.key) / "output.log": int(attempt.max_log_mb * 1e6)
            for attempt in attempts
            if attempt.max_log_mb is not None
        }
        if (now or self._last) and (why := self._limits.look({**self._last, **now})) is not None:
            log.warning("%s", why)
        self._last = now

    def close(self) -> None:
        """Wait for what is under way."""
        self._limits.close()
