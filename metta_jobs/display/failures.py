"""Why the jobs of a group failed: the ends of their logs, as far as they are needed, and what is said of them."""

from __future__ import annotations

from collections.abc import Sequence

from rich.text import Text

from metta_jobs.causes import FailureDigest, SharedCause, digest, failed_jobs, names, needs_log
from metta_jobs.display.errorlines import telling_line
from metta_jobs.display.format import fit
from metta_jobs.display.logtail import read_tail
from metta_jobs.display.sanitize import one_line
from metta_jobs.views import JobView

#: So many logs are read for one digest, at most.
MOST_LOGS = 200
_GLANCE_BYTES = 3000
_MOST_CAUSES = 5
# A terminal has the error whole where it can; the names of the jobs have at least so many cells.
_NAMES_MIN = 24


def digest_failures(jobs: Sequence[JobView], most: int = MOST_LOGS) -> FailureDigest:
    """Return the failures among `jobs` by cause; of more than `most` logs that could tell, as many are read, spread
    evenly over the failed jobs, and `unread` counts the others."""
    telling = [job for job in failed_jobs(jobs) if needs_log(job.state, job.exit_code)]
    every = max(1.0, len(telling) / max(1, most))
    some = [telling[int(place * every)] for place in range(min(len(telling), most))]
    return digest(jobs, {job.id: _read(job) for job in some})


def _read(job: JobView) -> str | None:
    if job.folder is None:
        return None
    log = job.folder / "output.log"
    # Most errors stand in the very last lines, and cleaning a whole tail takes milliseconds.
    return telling_line(read_tail(log, most=_GLANCE_BYTES)) or telling_line(read_tail(log))


def render_failures(told: FailureDigest, width: int | None) -> list[Text]:
    """Return the digest's lines, one a cause, "3 of 12 failed: CUDA out of memory — a.s1, a.s4, b.s2", in `width`
    cells (None: as wide as they are); none where nothing failed."""
    lines = [line(cause, told.total, width) for cause in told.causes[:_MOST_CAUSES]]
    rest = told.causes[_MOST_CAUSES:]
    if rest:
        lines.append(Text(f"… and {sum(cause.count for cause in rest)} of {len(rest)} other causes", "dim"))
    if told.unread:
        read = told.failed - told.unread
        lines.append(Text(f"{told.unread:,} more failed; {read:,} were looked at: not every log is read.", "dim"))
    return lines


def line(cause: SharedCause, total: int, width: int | None) -> Text:
    """Return one cause's line; where room is short, the error is cut first, at its end, then the names."""
    start = f"{cause.count} of {total} failed: "
    error, jobs = one_line(cause.error), one_line(names(cause))
    if width is not None:
        room = max(1, width - len(start) - len(" — "))
        jobs = fit(jobs, min(room, max(_NAMES_MIN, room // 3))).rstrip()
        wanted = Text(error).cell_len
        error = fit(error, max(1, min(wanted, room - Text(jobs).cell_len)))
    text = Text.assemble((start, "bold red"), (error, "red"), " — ", (jobs, "bold"), no_wrap=True)
    if width is not None:
        text.truncate(width, overflow="ellipsis")
    return text
