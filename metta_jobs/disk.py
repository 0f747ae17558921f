"""What files take up on the disk: amounts as people read them, folders measured, files read past their holes."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

CHUNK = 1 << 16
_BLOCK = 512  # the unit of st_blocks, whatever the file system's own
_UNITS = ("B", "kB", "MB", "GB", "TB", "PB")


def amount(size: float) -> str:
    """Bytes as people read them, in powers of 1000: "0 B", "1.2 GB", "340 MB"."""
    unit = 0
    while size >= 999.5 and unit < len(_UNITS) - 1:
        size, unit = size / 1000, unit + 1
    return f"{size:.1f} {_UNITS[unit]}" if unit and size < 9.95 else f"{size:.0f} {_UNITS[unit]}"


@dataclass
class Usage:
    """What a folder takes up: bytes on the disk, files, and when anything in it last changed (seconds since 1970)."""

    size: int = 0
    files: int = 0
    changed: float = 0.0

    def add(self, other: Usage) -> None:
        """Count another folder in."""
        self.size += other.size
        self.files += other.files
        self.changed = max(self.changed, other.changed)


def usage(path: Path) -> Usage:
    """Measure a file or a folder with all that is in it. Links are not followed.

    What vanishes meanwhile, or cannot be looked into, counts nothing.
    """
    found = Usage()
    waiting = [os.fspath(path)]
    while waiting:
        here = waiting.pop()
        try:
            status = os.lstat(here)
            found.size += status.st_blocks * _BLOCK
            found.changed = max(found.changed, status.st_mtime)
            with os.scandir(here) as entries:
                for entry in entries:
                    if entry.is_dir(follow_symlinks=False):
                        waiting.append(entry.path)
                        continue
                    _count(found, entry)
        except NotADirectoryError:
            found.files += 1
        except OSError:
            continue
    return found


def _count(found: Usage, entry: os.DirEntry[str]) -> None:
    try:
        status = entry.stat(follow_symlinks=False)
    except OSError:
        return
    found.files += 1
    found.size += status.st_blocks * _BLOCK
    found.changed = max(found.changed, status.st_mtime)


def read_past_holes(descriptor: int, start: int, end: int) -> Iterator[bytes | int]:
    """Read a file from `start` to `end`: its bytes in pieces, and for each hole in it the number of bytes left out.

    A NUL that somebody wrote is a byte like any other; a hole that is punched while we read is seen as one.
    """
    at = start
    while at < end:
        data, hole = _next_data(descriptor, at, end)
        if data > at:
            yield data - at
            at = data
            continue
        chunk = os.pread(descriptor, min(CHUNK, hole - at), at)
        if not chunk:
            return
        if b"\0" in chunk and _next_data(descriptor, at, end) != (data, hole):
            continue
        yield chunk
        at += len(chunk)


def data_segments(descriptor: int, start: int, end: int) -> list[tuple[int, int]]:
    """The stretches of a file between `start` and `end` that are no holes, in order."""
    found, at = [], start
    while at < end:
        data, hole = _next_data(descriptor, at, end)
        if data < end:
            found.append((data, hole))
        at = hole
    return found


def _next_data(descriptor: int, at: int, end: int) -> tuple[int, int]:
    """Where the next bytes after `at` begin and where they end; (`end`, `end`) when only a hole is left."""
    try:
        data = os.lseek(descriptor, at, os.SEEK_DATA)
        return (data, min(os.lseek(descriptor, data, os.SEEK_HOLE), end)) if data < end else (end, end)
    except OSError as error:
        # No data from here on; otherwise a file system that knows of no holes.
        return (end, end) if error.errno == errno.ENXIO else (at, end)
