"""Time, at one seam, so that tests can turn the hands."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Protocol


class Clock(Protocol):
    """Where the daemon reads time."""

    def now(self) -> datetime:
        """The wall clock, in UTC: for people."""

    def monotonic(self) -> float:
        """Seconds that neither jump nor count a suspended machine: for durations and deadlines."""


class SystemClock:
    """The machine's clocks."""

    def now(self) -> datetime:
        return datetime.now(UTC)

    def monotonic(self) -> float:
        return time.monotonic()
