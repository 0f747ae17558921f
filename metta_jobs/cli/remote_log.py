"""`metta job logs -f` of a job that runs through SkyPilot: its log as it is written, from where it is written."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import typer

from metta_jobs.cli.logfile import Out, follow_file, print_file
from metta_jobs.errors import MettaError
from metta_jobs.executors.sky.ledger import Ledger
from metta_jobs.executors.sky.outcome import mark
from metta_jobs.manager.sky import Sky, SkyError
from metta_jobs.paths import PROGRAM
from metta_jobs.views import JobView

if TYPE_CHECKING:
    from metta_jobs.manager import Reader

POLL_S = 0.5


def follow_remote(opened: Reader, job: JobView, tail: int | None, out: BinaryIO) -> None:
    """Write the log of a job's live attempt to `out` until it has ended. Raises MettaError when the stream breaks."""
    job = _with_managed_job(opened, job)
    if not job.elsewhere or job.remote is None or job.remote.managed_id is None:
        path = opened.log_path(job.id, job.attempt)
        if path.exists():
            print_file(path, tail, out)
        return
    mine = Unmarked(out, _token(opened, job))
    with tempfile.TemporaryDirectory() as folder, Sky(opened.state_dir, opened.project_dir) as sky:
        path = Path(folder) / "log"
        ended = sky.follow(job.remote.managed_id, path, tail)
        try:
            follow_file(path, None, mine, ended)
        except SkyError as error:
            raise MettaError(
                f"The log cannot be followed: {error} The job goes on; `{PROGRAM} job logs {job.id} -f` begins anew."
            ) from error
    while (now := opened.job(job.id)).state.live and now.attempt == job.attempt:
        time.sleep(POLL_S)  # its evidence is being fetched: who waits for our end waits for the job's


def _with_managed_job(opened: Reader, job: JobView) -> JobView:
    """The job as soon as SkyPilot's id of it is known, or this attempt is over; until then, say what it waits for."""
    told, attempt = None, job.attempt
    while job.elsewhere and job.attempt == attempt and (job.remote is None or job.remote.managed_id is None):
        if job.reason and job.reason != told:
            told = job.reason
            typer.echo(f"Job {job.id} has no log yet: {told}.", err=True)
        time.sleep(POLL_S)
        job = opened.job(job.id)
    return job


def _token(opened: Reader, job: JobView) -> str | None:
    try:
        ledger = Ledger.load(opened.log_path(job.id, job.attempt).parent)
    except (OSError, ValueError):
        return None  # then the lines that carry evidence are shown like all others
    return ledger.token if ledger else None


class Unmarked:
    """Writes whole lines on, but for the marked ones at a job's end, and the empty line before them."""

    def __init__(self, out: Out, token: str | None) -> None:
        self._out = out
        self._mark = None if token is None else mark(token).encode()
        self._rest = b""
        self._empty = 0

    def write(self, data: bytes, /) -> int:
        """Take bytes; a line goes on when it is whole."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            if not line:
                self._empty += 1
            elif self._mark is not None and self._mark in line:
                self._empty = max(0, self._empty - 1)
            else:
                self._out.write(b"\n" * self._empty + line + b"\n")
                self._empty = 0
        return len(data)

    def flush(self) -> None:
        """Show what was written."""
        self._out.flush()
