"""One frame of the monitor, drawn to fit a screen exactly: pure, for any snapshot and any size."""

from __future__ import annotations

import textwrap

from rich.console import Group
from rich.text import Text

from metta_jobs.display.format import counted, dollars, duration, fit, percent, shorten
from metta_jobs.display.layout import share
from metta_jobs.display.marks import MARKS
from metta_jobs.display.pace import overall
from metta_jobs.display.rows import MARGIN, Columns, known_fields
from metta_jobs.display.sanitize import one_line
from metta_jobs.display.sections import GAP_URGENCY, sections
from metta_jobs.display.snapshot import Snapshot, active
from metta_jobs.states import JobState
from metta_jobs.views import Counts

FOOTER = "Ctrl-C leaves the jobs running"
_WARNING_LINES = 2


def render_monitor(
    snapshot: Snapshot, width: int, height: int, *, footer: str | None = FOOTER, fill: bool = False
) -> Group:
    """Draw `snapshot` into at most `height` lines of at most `width` cells.

    What does not fit is counted: every job is on the screen, or in the number of its section, and of the header where
    not even all sections fit. `fill` pads to exactly `height` lines, the footer on the last one.
    """
    header, warning = _header(snapshot, width), _warning(snapshot, width)
    bottom = _footer(footer, snapshot, width) if footer else []
    runs = [(job, snapshot.detail(job)) for job in active(snapshot.group)]
    columns = Columns.of((job.name for job in snapshot.group.jobs), width, known_fields(runs) if runs else None)
    parts = sections(snapshot, columns)
    if height < len(header) + len(warning) + len(parts) + len(bottom):
        # The counts of the header say it all: they come first, and nothing is worth more.
        bottom, warning = [], warning[:1]
        header = header if height > 1 else header[1:]
    top = [*header, *warning]
    shares, gaps = share([part.demand() for part in parts], height - len(top) - len(bottom), GAP_URGENCY)
    body: list[Text] = []
    for part, mine in zip(parts, shares, strict=True):
        body.extend([Text()] if gaps else [])
        body.extend(part.lines(mine, columns))
    lines = [*top, *body][: max(0, height - len(bottom))]
    if fill:
        lines += [Text()] * (height - len(bottom) - len(lines))
    return Group(*lines, *bottom)


def _header(snapshot: Snapshot, width: int) -> list[Text]:
    group = snapshot.group
    ends = [job.finished_at for job in group.jobs if job.finished_at]
    until = max(ends) if group.finished and ends else snapshot.now
    elapsed = duration((until - group.created_at).total_seconds())
    word = "took" if group.finished else "elapsed"
    right = f"{counted(len(group.jobs), 'job')} · {word} {elapsed}" if width >= 60 else elapsed
    if group.cost_usd is not None:
        right += f" · {dollars(group.cost_usd)}"
    name = shorten(one_line(group.name), max(1, width - 2 * MARGIN - len(right) - 2))
    first = Text.assemble(
        " " * MARGIN, (fit(name, width - 2 * MARGIN - len(right)), "bold"), (right, "dim"), no_wrap=True
    )
    first.truncate(width, overflow="ellipsis")
    return [first, _summary(snapshot, width)]


def _summary(snapshot: Snapshot, width: int) -> Text:
    line = Text(" " * MARGIN, no_wrap=True)
    counts = _counts(snapshot.group.counts)
    words = [f"{amount} {word}" for amount, word, _ in counts]
    symbols = [f"{MARKS[state].symbol} {amount}" for amount, _, state in counts]
    share_done = overall(snapshot.group, snapshot.progress)
    right = f"{percent(share_done):>5}"
    spelled = sum(len(word) + 2 for word in words)
    long = spelled + len(right) + 8 <= width - 2 * MARGIN
    for (_, _, state), text in zip(counts, words if long else symbols, strict=True):
        line.append(text, MARKS[state].style)
        line.append("  ")
    room = width - 2 * MARGIN - (line.cell_len - MARGIN) - len(right) - 1
    if room >= 6:
        line.append(_overall_bar(snapshot, share_done, room))
        line.append(f" {right}")
    line.truncate(width, overflow="ellipsis")
    return line


def _counts(counts: Counts) -> list[tuple[int, str, JobState]]:
    rows = [
        (counts.failed, "failed", JobState.FAILED),
        (counts.running, "running", JobState.RUNNING),
        (counts.launching, "launching", JobState.LAUNCHING),
        (counts.pending, "pending", JobState.PENDING),
        (counts.completed, "completed", JobState.SUCCEEDED),
        (counts.killed, "killed", JobState.KILLED),
        (counts.skipped, "skipped", JobState.SKIPPED),
    ]
    return [row for row in rows if row[0]]


def _overall_bar(snapshot: Snapshot, share_done: float, width: int) -> Text:
    """The group's bar: what succeeded, what ended otherwise, what running jobs have done, and the light rest."""
    counts = snapshot.group.counts
    total = max(1, counts.total)
    ended = [
        (counts.completed, MARKS[JobState.SUCCEEDED].style),
        (counts.failed, MARKS[JobState.FAILED].style),
        (counts.killed + counts.skipped, MARKS[JobState.KILLED].style),
    ]
    bar, drawn, upto = Text(), 0, 0.0
    for amount, style in ended:
        upto += amount / total
        cells = int(upto * width + 1e-9) - drawn
        bar.append("━" * cells, style)
        drawn += cells
    cells = max(0, int(share_done * width + 1e-9) - drawn)
    bar.append("━" * cells, MARKS[JobState.RUNNING].style)
    bar.append("─" * (width - drawn - cells), "dim")
    return bar


def _warning(snapshot: Snapshot, width: int) -> list[Text]:
    if not snapshot.warning:
        return []
    room = max(1, width - 2 * MARGIN - 2)
    wrapped = textwrap.wrap(one_line(snapshot.warning), room, max_lines=_WARNING_LINES, placeholder=" …")
    lines = []
    for position, text in enumerate(wrapped):
        line = Text(" " * MARGIN + ("▲ " if position == 0 else "  ") + text, "bold yellow", no_wrap=True)
        line.truncate(width, overflow="ellipsis")
        lines.append(line)
    return lines


def _footer(footer: str, snapshot: Snapshot, width: int) -> list[Text]:
    clock = snapshot.now.strftime("%H:%M:%S")
    room = width - 2 * MARGIN
    words = fit(footer, room - len(clock)) + clock if len(footer) + 2 + len(clock) <= room else footer
    line = Text(" " * MARGIN + words, "dim", no_wrap=True)
    line.truncate(width, overflow="ellipsis")
    return [line]
