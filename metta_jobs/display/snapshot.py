"""Everything that one frame of the monitor shows, gathered: what the store says and what the jobs' folders hold."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from metta_jobs.causes import needs_log
from metta_jobs.display.errorlines import error_lines, telling_line
from metta_jobs.display.logtail import read_tail
from metta_jobs.metrics.artifacts import Artifact, find_artifacts
from metta_jobs.metrics.progress import Progress, ProgressReader
from metta_jobs.states import FAILURES, JobState
from metta_jobs.views import GroupView, JobView

#: Lines below a job's row, at most: of its log, or of its error.
DETAIL_LINES = 8
#: So many failed jobs' logs are read, once each, to see what they have in common.
MOST_CAUSES = 200


@dataclass(frozen=True)
class MonitorState:
    """What the monitor fetches: the group, and what its reader must know (no daemon is running, …)."""

    group: GroupView
    warning: str | None = None


@dataclass(frozen=True)
class Detail:
    """What a job's folder tells: progress, the end of its log, why it failed, what it left.

    `cause` is the line that says why it failed, None where no line does; `sought` is whether its log was read for it.
    """

    progress: Progress | None = None
    log: tuple[str, ...] = ()
    error: tuple[str, ...] = ()
    artifacts: tuple[Artifact, ...] = ()
    cause: str | None = None
    sought: bool = False


@dataclass(frozen=True)
class Snapshot:
    """One moment of a group. `now` carries the time zone in which clock times are shown; `details` is by job id."""

    group: GroupView
    now: datetime
    warning: str | None = None
    details: Mapping[int, Detail] = field(default_factory=dict)

    def detail(self, job: JobView) -> Detail:
        """What is known of the job's folder; empty when it was not read."""
        return self.details.get(job.id, Detail())

    @property
    def progress(self) -> dict[int, Progress]:
        """Progress by job id, of those that have any."""
        return {job_id: detail.progress for job_id, detail in self.details.items() if detail.progress}


class DetailReader:
    """Reads the jobs' folders, as little as a frame needs; what an ended job left is read once."""

    def __init__(self, logs: bool = True) -> None:
        self._logs = logs
        self._readers: dict[Path, ProgressReader] = {}
        self._ended: dict[tuple[Path, JobState], Detail] = {}

    def read(self, group: GroupView, limit: int) -> dict[int, Detail]:
        """Return details by job id: progress of every running job, and all else of the first `limit` jobs of each
        kind, which are more than a screen of `limit` lines can show; of failed jobs at least MOST_CAUSES."""
        details = {}
        for kind, most in ((active(group), limit), (failed(group), max(limit, MOST_CAUSES)), (completed(group), limit)):
            for position, job in enumerate(kind):
                if job.folder and (position < most or job.state is JobState.RUNNING):
                    details[job.id] = self._readable(job, job.folder, with_log=position < most)
        return details

    def _readable(self, job: JobView, folder: Path, with_log: bool) -> Detail:
        try:
            return self._detail(job, folder, with_log)
        except OSError as error:
            # One folder that cannot be read must not end the view of all others: it says so in its own place.
            trouble = (f"{folder} cannot be read: {error.strerror or error}",)
            return Detail(log=trouble, error=trouble)

    def _detail(self, job: JobView, folder: Path, with_log: bool) -> Detail:
        if job.state.live:
            log = read_tail(folder / "output.log") if self._logs and with_log else []
            telling = [line for line in log if any(map(str.isalnum, line))]
            return Detail(progress=self._poll(folder), log=tuple(telling[-DETAIL_LINES:]))
        key = (folder, job.state)
        if key not in self._ended:
            self._ended[key] = self._read_ended(job, folder)
            self._readers.pop(folder, None)
        return self._ended[key]

    def _read_ended(self, job: JobView, folder: Path) -> Detail:
        if job.state in FAILURES:
            if not self._logs:
                return Detail()
            tail = read_tail(folder / "output.log")
            told = telling_line(tail) if needs_log(job.state, job.exit_code) else None
            return Detail(error=tuple(error_lines(tail, DETAIL_LINES)), cause=told, sought=True)
        return Detail(
            progress=self._poll(folder), artifacts=tuple(item for item in find_artifacts(folder) if item.kind != "log")
        )

    def _poll(self, folder: Path) -> Progress:
        if folder not in self._readers:
            self._readers[folder] = ProgressReader(folder)
        return self._readers[folder].poll()


def failed(group: GroupView) -> list[JobView]:
    """The jobs that failed, the newest failure first."""
    return _newest_first(job for job in group.jobs if job.state in FAILURES)


def active(group: GroupView) -> list[JobView]:
    """The jobs that run or are being launched, in the order of their ids."""
    return [job for job in group.jobs if job.state.live]


def pending(group: GroupView) -> list[JobView]:
    """The jobs that wait, in the order of their ids."""
    return [job for job in group.jobs if job.state is JobState.PENDING]


def completed(group: GroupView) -> list[JobView]:
    """The jobs that succeeded, the newest first."""
    return _newest_first(job for job in group.jobs if job.state is JobState.SUCCEEDED)


def stopped(group: GroupView) -> list[JobView]:
    """The jobs that a person killed, or that never ran, the newest first."""
    return _newest_first(job for job in group.jobs if job.state in (JobState.KILLED, JobState.SKIPPED))


def _newest_first(jobs: Iterable[JobView]) -> list[JobView]:
    return sorted(jobs, key=lambda job: (-(job.finished_at or job.created_at).timestamp(), job.id))
