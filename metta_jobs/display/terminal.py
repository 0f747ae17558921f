"""The terminal's side of the live monitor: resizes and Ctrl-Z wake it, typed keys leave no trace on the picture."""

from __future__ import annotations

import os
import select
import signal
import sys
import termios
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType

_Handler = Callable[[int, FrameType | None], object] | int | None
_WAKING = (signal.SIGWINCH, signal.SIGTSTP)
_ENDING = (signal.SIGINT, signal.SIGTERM)


class Terminal:
    """While entered: signals end a wait at once, SIGTERM counts as Ctrl-C, and typed keys are not echoed.

    Signals are handled in the main thread only, as Python has it; elsewhere a wait simply lasts.
    """

    def __init__(self) -> None:
        self._handlers: dict[int, _Handler] = {}
        self._typing: list[int | list[bytes | int]] | None = None

    def __enter__(self) -> Terminal:
        self._out, self._in = _pipe()
        if threading.current_thread() is threading.main_thread():
            for number in _WAKING:
                self._handlers[number] = signal.signal(number, self._wake)
            self._handlers[signal.SIGTERM] = signal.signal(signal.SIGTERM, signal.default_int_handler)
        self._silence()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._unsilence()
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        os.close(self._out)
        os.close(self._in)

    def wait(self, seconds: float) -> set[int]:
        """Wait up to `seconds`; return the signals that ended the wait early: SIGWINCH, SIGTSTP."""
        ready, _, _ = select.select([self._out], [], [], max(0.0, seconds))
        return set(os.read(self._out, 512)) if ready else set()

    def suspend(self) -> None:
        """Stop this process as Ctrl-Z does; returns when it is continued."""
        self._unsilence()
        signal.signal(signal.SIGTSTP, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGTSTP)
        signal.signal(signal.SIGTSTP, self._wake)
        self._silence()

    def _wake(self, number: int, frame: FrameType | None) -> None:
        try:
            os.write(self._in, bytes([number]))
        except BlockingIOError:
            # The pipe is full of reasons to wake: this one is no news.
            return

    def _silence(self) -> None:
        if not sys.stdin.isatty():
            return
        descriptor = sys.stdin.fileno()
        # A background process that touches the terminal's modes would be stopped by it.
        if os.tcgetpgrp(descriptor) != os.getpgrp():
            return
        self._typing = termios.tcgetattr(descriptor)
        quiet = termios.tcgetattr(descriptor)
        quiet[3] &= ~(termios.ECHO | termios.ICANON)
        termios.tcsetattr(descriptor, termios.TCSADRAIN, quiet)

    def _unsilence(self) -> None:
        if self._typing is None:
            return
        # What was typed unseen must not reach the shell as a command.
        termios.tcflush(sys.stdin.fileno(), termios.TCIFLUSH)
        termios.tcsetattr(sys.stdin.fileno(), termios.TCSADRAIN, self._typing)
        self._typing = None


def _pipe() -> tuple[int, int]:
    ends = os.pipe()
    for end in ends:
        os.set_blocking(end, False)
    return ends


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Hold Ctrl-C and SIGTERM back while the terminal is switched over, so that it is never left half-switched."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _ENDING)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
