"""The end of a log, read cheaply however large the file is."""

from __future__ import annotations

import os
from pathlib import Path

from metta_jobs.disk import amount, read_past_holes
from metta_jobs.display.sanitize import clean_lines

#: Bytes read from the end of a log; a few hundred lines.
TAIL_BYTES = 16_384


def read_tail(path: Path, lines: int | None = None, most: int = TAIL_BYTES) -> list[str]:
    """Return the last non-empty lines of the file at `path`, cleaned; nothing when it cannot be read.

    At most `lines` of them (None: all that the last `most` bytes hold). Bytes that are no UTF-8 become "�".
    """
    try:
        # Not blocking, so that a name that turns out to be a FIFO cannot hang the screen.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            size = os.lseek(descriptor, 0, os.SEEK_END)
            start = max(0, size - most)
            pieces = list(read_past_holes(descriptor, start, size))
        finally:
            os.close(descriptor)
    except OSError:
        # A log that is not there yet, or not any more, is an ordinary sight: there is nothing to show.
        return []
    raw = b"".join(piece if isinstance(piece, bytes) else _left_out(piece) for piece in pieces)
    if start:
        # The first line is a fragment, unless it is all there is.
        raw = raw.split(b"\n", 1)[-1] or raw
    found = clean_lines(raw.decode("utf-8", errors="replace"))
    return found if lines is None else found[max(0, len(found) - lines) :]


def _left_out(size: int) -> bytes:
    return f"\n… {amount(size)} left out (max_log_mb) …\n".encode()
