"""Why the runs of a group failed, those that failed alike together."""

from __future__ import annotations

import html
from pathlib import Path

from metta_jobs.causes import FailureDigest
from metta_jobs.display.failures import digest_failures, render_failures
from metta_jobs.notebook.results import GroupResults, load_group
from metta_jobs.notebook.runs import runs_of
from metta_jobs.views import GroupView


class FailureTable:
    """The failures of a group by cause, as a notebook shows them; `digest` holds them as data."""

    def __init__(self, digest: FailureDigest) -> None:
        self.digest = digest

    def __repr__(self) -> str:
        lines = [line.plain for line in render_failures(self.digest, None)]
        return "\n".join(lines) if lines else "No run has failed."

    def _repr_html_(self) -> str:
        told = self.digest
        if not told.failed:
            return "<p>No run has failed.</p>"
        head = "".join(f'<th style="text-align:{side}">{word}</th>' for word, side in _HEAD)
        rows = "".join(
            f'<tr><td style="text-align:right;font-weight:bold">{cause.count}</td>'
            f'<td style="text-align:left;color:#c0392b">{html.escape(cause.error)}</td>'
            f'<td style="text-align:left">{html.escape(", ".join(cause.jobs))}</td></tr>'
            for cause in told.causes
        )
        unread = f"<p>{told.unread:,} more failed, whose logs were not read.</p>" if told.unread else ""
        said = f"<p>{told.failed} of {told.total} failed.</p>"
        return f"{said}<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>{unread}"


_HEAD = (("failed", "right"), ("because of", "left"), ("runs", "left"))


def failure_digest(group: str | GroupResults | GroupView, *, state_dir: Path | str | None = None) -> FailureTable:
    """Return why runs of `group` failed, by cause, the commonest first: their errors' last lines, numbers, paths and
    ids aside; timeouts, lost and refused ones by their reason.

    `.digest.causes` holds (error, jobs, count) of each. The ends of some hundred logs are read at most;
    `.digest.unread` counts the others. Raises UnknownName when there is no such group.

        >>> failure_digest("arena_experiment_20260101_120000")
        3 of 12 failed: CUDA out of memory. Tried to allocate 2.00 GiB — a.s1, a.s4, b.s2
    """
    if isinstance(group, str):
        group = load_group(group, state_dir)
    view = group.view() if isinstance(group, GroupResults) else group
    return FailureTable(digest_failures(runs_of(view)))
