"""The sections of the monitor: which jobs each holds, how its lines look, and how much it wants the screen."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from rich.text import Text

from metta_jobs.display import rows
from metta_jobs.display.layout import Demand, Share
from metta_jobs.display.rows import Cell, Columns
from metta_jobs.display.sanitize import one_line
from metta_jobs.display.snapshot import Snapshot, active, completed, failed, pending, stopped
from metta_jobs.views import JobView

#: When empty lines between the sections are worth more than further content.
GAP_URGENCY = 7.0


@dataclass(frozen=True)
class Section:
    """A part of the screen. `below(job, n)` gives the job's first n detail lines, of the `wanted(job)` it has."""

    title: str
    style: str
    jobs: Sequence[JobView]
    labels: Sequence[Cell]
    cells: Callable[[JobView], Sequence[Cell]]
    wanted: Callable[[JobView], int]
    below: Callable[[JobView, int], list[Text]]
    urgency: tuple[float, float, float, float]

    def demand(self) -> Demand:
        """What the section would like to show, for the layout."""
        return Demand([self.wanted(job) for job in self.jobs], *self.urgency)

    def lines(self, share: Share, columns: Columns) -> list[Text]:
        """The section's lines: heading, rows with their details, and the count of what is hidden."""
        lines = [rows.heading(self.title, len(self.jobs), self.style, self.labels if share.rows else (), columns)]
        for job, details in zip(self.jobs, share.details, strict=False):
            lines.append(rows.row(job, self.cells(job), columns))
            lines.extend(self.below(job, details))
        if share.rows and share.hidden:
            lines.append(rows.more(share.hidden, self.title.lower(), columns))
        return lines


def sections(snapshot: Snapshot, columns: Columns) -> list[Section]:
    """Return the sections that have jobs, top to bottom.

    Failures and running jobs want the screen most, then what is pending, then what is completed.
    """
    group, detail = snapshot.group, snapshot.detail
    every = [
        Section(
            title="Failed",
            style="red",
            jobs=failed(group),
            labels=rows.outcome_labels("outcome"),
            cells=lambda job: rows.ended_cells(job, columns),
            wanted=lambda job: len(detail(job).error),
            below=lambda job, n: [rows.below(line, "", "red", columns) for line in detail(job).error[:n]],
            urgency=(1.0, 1.0, 1.3, 2.5),
        ),
        Section(
            title="Active",
            style="cyan",
            jobs=active(group),
            labels=rows.running_labels(columns),
            cells=lambda job: rows.running_cells(job, detail(job), columns),
            wanted=lambda job: len(job.health) + len(detail(job).log),
            below=lambda job, n: [
                *(rows.below(one_line(said), "yellow", "yellow", columns) for said in job.health[:n]),
                *(
                    rows.below(line, "dim", "cyan dim", columns)
                    for line in _last(detail(job).log, max(0, n - len(job.health)))
                ),
            ],
            urgency=(0.8, 0.8, 2.0, 4.0),
        ),
        Section(
            title="Pending",
            style="yellow",
            jobs=pending(group),
            labels=(),
            cells=lambda job: [Cell(one_line(job.reason or ""), columns.rest, "dim")],
            wanted=lambda job: 0,
            below=lambda job, n: [],
            urgency=(2.7, 2.5, 0.0, 0.0),
        ),
        Section(
            title="Completed",
            style="green",
            jobs=completed(group),
            labels=rows.completed_labels(),
            cells=lambda job: rows.completed_cells(job, detail(job), columns),
            wanted=lambda job: len(detail(job).artifacts),
            below=lambda job, n: [rows.artifact_line(artifact, columns) for artifact in detail(job).artifacts[:n]],
            urgency=(3.2, 2.5, 7.5, 1.0),
        ),
        Section(
            title="Stopped",
            style="magenta",
            jobs=stopped(group),
            labels=rows.outcome_labels(""),
            cells=lambda job: rows.ended_cells(job, columns),
            wanted=lambda job: 0,
            below=lambda job, n: [],
            urgency=(4.0, 3.0, 0.0, 0.0),
        ),
    ]
    return [section for section in every if section.jobs]


def _last(lines: Sequence[str], n: int) -> Sequence[str]:
    return lines[len(lines) - n :]
