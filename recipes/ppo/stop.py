"""A wish to stop: SIGTERM and Ctrl-C let the training end in order, with a last checkpoint."""

from __future__ import annotations

import signal
from types import FrameType, TracebackType
from typing import Self


class StopSignals:
    """While entered, the first SIGTERM or SIGINT is only noted in `received`; a second one acts as it always did."""

    def __init__(self) -> None:
        self.received: int | None = None
        self._before: dict[int, object] = {}

    @property
    def exit_code(self) -> int:
        """0, or 128 + the signal's number: what a shell reports for a process that the signal ended."""
        return 0 if self.received is None else 128 + self.received

    def __enter__(self) -> Self:
        for number in (signal.SIGTERM, signal.SIGINT):
            self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._restore()

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.received = number
        self._restore()

    def _restore(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]
        self._before.clear()
