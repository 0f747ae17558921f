"""Keeping a growing log within its limit, head and tail, while a job writes straight into it.

Nothing stands between a job and its log, so nothing can be left out while it is written. Instead the middle of the file
is given back to the file system: a hole is punched, nobody's offset moves, and the writer never notices.
"""

from __future__ import annotations

import errno
import logging
import os
import stat
import threading
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

log = logging.getLogger("metta_jobs.daemon")

BLOCK = 4096
#: A log may be this much over its limit before it is trimmed again, so that it is not done for a line.
SLACK = 16 * BLOCK
#: How often the log of a very loud job is trimmed between two looks.
LOUD_S = 0.05
#: More very loud jobs than this have to wait for each other.
_THREADS = 16
_KEEP_SIZE, _PUNCH_HOLE = 1, 2
_UNSUPPORTED = (errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL, errno.ENODEV)


class CannotTrim(Exception):
    """This system or file system cannot give back the middle of a file; the message says so."""


def trim(path: Path, max_bytes: int) -> bool:
    """Give back the middle of the file when it takes up more than `max_bytes`; return whether it did.

    The first quarter of the limit stays, and the newest three. It may take as long as the disk needs to write what it
    gives back, and the writer may be held up meanwhile. Raises CannotTrim, and OSError when the file cannot be opened.
    """
    if not _over(path, max_bytes):
        return False
    descriptor = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        status = os.fstat(descriptor)
        start = -(-max_bytes // 4 // BLOCK) * BLOCK
        end = (status.st_size - max_bytes * 3 // 4) // BLOCK * BLOCK
        if not stat.S_ISREG(status.st_mode) or end <= start:
            return False
        _punch(descriptor, start, end - start)
    finally:
        os.close(descriptor)
    return True


def _over(path: Path, max_bytes: int) -> bool:
    return path.stat(follow_symlinks=False).st_blocks * 512 > max_bytes + SLACK


def _punch(descriptor: int, start: int, length: int) -> None:
    # A heavy import, needed by few.
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    fallocate = getattr(libc, "fallocate64", None) or getattr(libc, "fallocate", None)
    if fallocate is None:
        raise CannotTrim("this system cannot give back the middle of a file, so max_log_mb has no effect here")
    fallocate.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64)
    if fallocate(descriptor, _KEEP_SIZE | _PUNCH_HOLE, start, length) == 0:
        return
    code = ctypes.get_errno()
    if code in _UNSUPPORTED:
        raise CannotTrim(
            "the file system of the state folder cannot give back the middle of a file, so max_log_mb has no effect "
            "there"
        )
    if code != errno.EINTR:
        raise OSError(code, os.strerror(code))


class LogLimits:
    """Keeps the logs of live attempts within their limits. `look` is cheap; trimming is done by threads of its own.

    A log that has grown to more than twice its limit is trimmed again and again until it no longer does.
    """

    def __init__(self) -> None:
        self._pool: ThreadPoolExecutor | None = None
        self._at_work: dict[Path, Future[None]] = {}
        self._hopeless: str | None = None
        self._closed = threading.Event()

    def look(self, limits: Mapping[Path, int]) -> str | None:
        """Look once at each log and have those over their limit, in bytes, trimmed; call it about every second.

        An attempt that has just ended should be among them once more. Returns, once, why trimming is not possible here.
        """
        news = self._collect()
        for path, max_bytes in limits.items():
            try:
                if self._hopeless is None and path not in self._at_work and _over(path, max_bytes):
                    self._pool = self._pool or ThreadPoolExecutor(_THREADS, thread_name_prefix="log-limits")
                    self._at_work[path] = self._pool.submit(self._tame, path, max_bytes)
            except OSError:
                continue  # not written yet, or removed
        return news

    def _tame(self, path: Path, max_bytes: int) -> None:
        loud = True
        while loud:
            loud = _over(path, 2 * max_bytes)
            trim(path, max_bytes)
            if loud and self._closed.wait(LOUD_S):
                return

    def _collect(self) -> str | None:
        for path, future in list(self._at_work.items()):
            if not future.done():
                continue
            del self._at_work[path]
            match future.exception():
                case None:
                    pass
                case CannotTrim() as why if self._hopeless is None:
                    self._hopeless = str(why)
                    return self._hopeless
                case CannotTrim() | FileNotFoundError():
                    pass
                case error:
                    log.warning("%s cannot be trimmed now: %s", path, error)
        return None

    def close(self) -> None:
        """Wait for what is being trimmed, and end the threads."""
        self._closed.set()
        if self._pool is not None:
            self._pool.shutdown()
            self._pool = None
