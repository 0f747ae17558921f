"""Printing a log file: whole, its end, or as it grows."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

CHUNK = 1 << 16
POLL_S = 0.2


def print_file(path: Path, tail: int | None, out: BinaryIO) -> None:
    """Write the file, or its last `tail` lines, to `out` as it is."""
    with path.open("rb") as file:
        file.seek(0 if tail is None else _tail_offset(file, tail))
        _copy(file, out)


def follow_file(path: Path, tail: int | None, out: BinaryIO, ended: Callable[[], bool]) -> None:
    """Write the file and what is added to it, until `ended`; it need not exist yet."""
    offset: int | None = None
    while True:
        last_look = ended()  # asked before reading, so that nothing written before the end is missed
        if path.exists():
            with path.open("rb") as file:
                if offset is None:
                    offset = 0 if tail is None else _tail_offset(file, tail)
                file.seek(offset)
                offset += _copy(file, out)
        if last_look:
            return
        time.sleep(POLL_S)


def _copy(file: BinaryIO, out: BinaryIO) -> int:
    count = 0
    while chunk := file.read(CHUNK):
        out.write(chunk)
        count += len(chunk)
    out.flush()
    return count


def _tail_offset(file: BinaryIO, lines: int) -> int:
    """Where the last `lines` lines begin, reading only from the end."""
    size = file.seek(0, 2)
    if lines == 0:
        return size
    position, found = size, 0
    while position > 0:
        step = min(CHUNK, position)
        position -= step
        file.seek(position)
        chunk = file.read(step)
        if position + step == size and chunk.endswith(b"\n"):
            chunk = chunk[:-1]
        at = len(chunk)
        while (at := chunk.rfind(b"\n", 0, at)) != -1:
            found += 1
            if found == lines:
                return position + at + 1
    return 0
