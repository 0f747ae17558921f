"""What a job printed, out of the stream that SkyPilot's API server makes of it. Standard library only, Python 3.9.

Seen with SkyPilot 0.14.1 (5-25 s a call, whatever `tail` is; a finished job is read from the server's own copy, a
running one over SSH from its node, which takes 4-8 s more): spinners come as "<sky-payload" lines. Every line of the
job begins with a coloured "(name, pid=7) ", "(setup pid=7) " or "(worker1, rank=1, pid=7, ip=10.0.0.2) ". The others
are SkyPilot's: "Job started. Streaming logs...", Slurm's "srun: error: ...", "ERROR: Job 1 failed with return code
list: [3]", "Job finished (status: FAILED)." and an empty last line. A job that never started, or that is not known,
has no log but one sentence about that.
"""

from __future__ import annotations

import contextlib
import os
import re
import threading
from collections.abc import Iterable

if __package__:
    from metta_jobs.executors.sky.sdk.failing import COLOUR
else:
    from failing import COLOUR  # type: ignore[import-not-found, no-redef]

_PREFIX = re.compile(
    r"(?:\x1b\[[\d;]*m)+\((?:[^()]*?[ ,])?(?:rank=(\d+), )?pid=\d+(?:, ip=[^()]*)?\)(?:\x1b\[[\d;]*m)+ ?"
)
#: Uncoloured, unprefixed: SkyPilot's frame around the job's lines, and what it says instead of a log.
_FRAME = re.compile(r"[├└]── |✓ Job finished \(status: |\n$")
_NO_LOG = re.compile(r"Job \d+ (?:not found\.|is already in terminal state )|No logs found for job \d+ in the external")


def clean(line: str) -> str:
    """A line of a job's log as the job printed it: without "(name, pid=7) " before it and without colours; empty
    where it is SkyPilot's own. Lines of other nodes than the first are told apart by "[rank 1] "."""
    prefix = _PREFIX.match(line)
    if prefix is None:
        line = COLOUR.sub("", line)
        return "" if _FRAME.match(line) else line
    rank = prefix.group(1)
    return (f"[rank {rank}] " if rank not in (None, "0") else "") + COLOUR.sub("", line[prefix.end() :])


def append_log(lines: Iterable[str | None], path: str) -> int:
    """Add the lines of a stream, cleaned, to `path` as they come, until the stream ends; return the bytes."""
    written = 0
    with open(path, "ab", buffering=0) as file:
        for line in lines:
            if line is None or line.startswith("<sky-payload") or _NO_LOG.match(COLOUR.sub("", line)):
                continue
            text = clean(line).encode("utf-8", "replace")
            file.write(text)
            written += len(text)
    return written


def write_log(lines: Iterable[str | None], path: str) -> int:
    """Write the lines of a stream, cleaned, beside `path`, and rename; return the bytes. Reads no further, and leaves
    `path` as it is, when SkyPilot says that the job does not run, or has no log."""
    aside, written = f"{path}.{os.getpid()}-{threading.get_ident()}", 0
    try:
        with open(aside, "wb") as file:
            for line in lines:
                if line is None:
                    continue
                if line.startswith("<sky-payload"):
                    if not written and "(status: " in line:
                        return 0
                    continue
                if not written and _NO_LOG.match(COLOUR.sub("", line)):
                    return 0
                written += file.write(clean(line).encode("utf-8", "replace"))
        if written:
            os.replace(aside, path)
        return written
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(aside)
