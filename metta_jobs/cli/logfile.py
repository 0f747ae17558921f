"""Printing a log file: whole, its end, or as it grows. What max_log_mb has left out is said in a line of its own."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from metta_jobs.disk import CHUNK, amount, data_segments, read_past_holes

POLL_S = 0.2


class Out(Protocol):
    """Where bytes are written to, such as sys.stdout.buffer."""

    def write(self, data: bytes, /) -> int:
        """Take bytes."""

    def flush(self) -> None:
        """Let them be seen."""


def print_file(path: Path, tail: int | None, out: Out) -> None:
    """Write the file, or its last `tail` lines, to `out` as it is."""
    with path.open("rb") as file:
        _Printer(out).copy(file.fileno(), 0 if tail is None else _tail_offset(file.fileno(), tail))


def follow_file(path: Path, tail: int | None, out: Out, ended: Callable[[], bool]) -> None:
    """Write the file and what is added to it, until `ended`; it need not exist yet."""
    offset: int | None = None
    printer = _Printer(out)
    while True:
        last_look = ended()  # asked before reading, so that nothing written before the end is missed
        if path.exists():
            with path.open("rb") as file:
                if offset is None:
                    offset = 0 if tail is None else _tail_offset(file.fileno(), tail)
                offset = printer.copy(file.fileno(), offset)
        if last_look:
            return
        time.sleep(POLL_S)


class _Printer:
    """Writes bytes on, and knows whether a line of ours would begin in the middle of one of theirs."""

    def __init__(self, out: Out) -> None:
        self._out = out
        self._last = b"\n"

    def copy(self, descriptor: int, offset: int) -> int:
        """Write what the file holds from `offset` on; return where it ended then."""
        end = os.fstat(descriptor).st_size
        left_out = 0
        for piece in read_past_holes(descriptor, offset, end):
            if isinstance(piece, int):
                left_out += piece
            else:
                left_out = self._say(left_out)
                self._write(piece)
            offset += piece if isinstance(piece, int) else len(piece)
        self._say(left_out)
        self._out.flush()
        return offset

    def _say(self, left_out: int) -> int:
        if left_out:
            newline = "" if self._last == b"\n" else "\n"
            self._write(f"{newline}… {amount(left_out)} left out (max_log_mb) …\n".encode())
        return 0

    def _write(self, piece: bytes) -> None:
        self._out.write(piece)
        self._last = piece[-1:]


def _tail_offset(descriptor: int, lines: int) -> int:
    """Where the last `lines` lines begin, reading only from the end."""
    size = os.fstat(descriptor).st_size
    if lines == 0:
        return size
    found = 0
    for start, end in reversed(data_segments(descriptor, 0, size)):
        position = end
        while position > start:
            step = min(CHUNK, position - start)
            position -= step
            chunk = os.pread(descriptor, step, position)
            if position + step == size and chunk.endswith(b"\n"):
                chunk = chunk[:-1]
            at = len(chunk)
            while (at := chunk.rfind(b"\n", 0, at)) != -1:
                found += 1
                if found == lines:
                    return position + at + 1
    return 0
