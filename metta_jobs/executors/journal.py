"""What a runner leaves on disk about the attempts that it took: JSON lines that survive it and the daemon.

    {"is": "born", "pid": …, "start": …, "boot": …}     first line: who writes
    {"is": "taken", "key": [14, 1], "at": …}            before the command is started
    {"is": "running", "key": …, "pid": …, "start": …}   its first process
    {"is": "stopping", "key": …, "cause": …, …}         why we asked it to end, and when
    {"is": "ended", "key": …, "code": …, "ran": …, …}   how it ended
    {"is": "dropped", "key": …}                         taken back before it was started

Times are seconds of the boot's monotonic clock. Room for the lines is taken on the disk beforehand, so that a full disk
keeps no evidence out. When half of it is used, what the daemon has recorded meanwhile is left out of a new file that
takes the old one's place. Standard library only: the runner uses it.
"""

from __future__ import annotations

import json
import os

ROOM = 16 * 1024


class Journal:
    """The writer's end."""

    def __init__(self, path: str, born: dict[str, object]) -> None:
        self._path = path
        self._born = born
        self._fd, self._end = make(path, [born])

    def write(self, line: dict[str, object]) -> None:
        """Append one line, at once visible to others. Raises OSError when there is no room."""
        data = json.dumps(line).encode() + b"\n"
        os.pwrite(self._fd, data, self._end)
        self._end += len(data)

    def crowded(self) -> bool:
        """True when half of the room is used."""
        return self._end > ROOM // 2

    def renew(self, lines: list[dict[str, object]]) -> None:
        """Begin anew with these lines; where that fails, the old file goes on being used."""
        aside = f"{self._path}.new"
        try:
            fd, end = make(aside, [self._born, *lines])
            os.rename(aside, self._path)
        except OSError:
            return
        os.close(self._fd)
        self._fd, self._end = fd, end

    def sync(self) -> None:
        """Force it to disk: evidence must survive a power cut."""
        os.fsync(self._fd)


def make(path: str, lines: list[dict[str, object]]) -> tuple[int, int]:
    """Make a journal that holds these lines, with room for more; return its descriptor and the end of the lines."""
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(fd, 0, ROOM)
        data = b"".join(json.dumps(line).encode() + b"\n" for line in lines)
        os.pwrite(fd, data, 0)
    except OSError:
        os.close(fd)
        raise
    return fd, len(data)


def read(path: str) -> list[dict[str, object]] | None:
    """The lines of a journal whose writer is gone, None when there is none. What is no line of ours is left out.

    Raises OSError when it cannot be read.
    """
    try:
        with open(path, "rb") as file:
            data = file.read()
    except FileNotFoundError:
        return None
    found: list[dict[str, object]] = []
    for text in data.split(b"\n"):
        try:
            line = json.loads(text.strip(b"\0") or b"null")
        except (ValueError, RecursionError):
            continue
        if isinstance(line, dict) and isinstance(line.get("is"), str):
            found.append(line)
    return found
