"""One line per job: the columns that the sections of the monitor share, and what stands in them."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from rich.cells import cell_len
from rich.style import Style
from rich.text import Text

from metta_jobs.display.format import UNKNOWN, coarse, count, dollars, duration, fit, number, percent, rate, shorten
from metta_jobs.display.marks import MARKS
from metta_jobs.display.pace import eta_s, fraction
from metta_jobs.display.sanitize import one_line
from metta_jobs.display.snapshot import Detail
from metta_jobs.display.targets import KINDS, link_of, shown_target
from metta_jobs.metrics.artifacts import Artifact
from metta_jobs.states import JobState
from metta_jobs.views import JobView

MARGIN = 1
GAP = 2
_NAME_MIN = 15
_SYMBOL = 2
# A section's title stands above the names, and the columns' labels beside it.
_TITLE = len("Completed 999")
_BAR_MIN = 6
# Names may be as long as they are, up to half the screen, while the bar has so much.
_BAR_FAIR = 12
_BAR_MAX = 50
# Width of each field of a running job's row, the first to go where the screen is narrow last.
_FIELDS = {"%": 5, "ETA": 10, "SPS": 8, "reward": 7, "steps": 13, "time": 11, "cost": 8}
_ORDER = ("%", "steps", "SPS", "reward", "ETA", "time", "cost")
_OUTCOME, _TIME = 9, 11
_SAYS_ONLY_THE_CODE = re.compile(r"exit(?:ed)?(?: with)?(?: code)? -?\d+\.?", re.IGNORECASE)


#: How each kind of artifact is called.


@dataclass(frozen=True)
class Cell:
    """Text in a column of a fixed width."""

    text: str
    width: int
    style: str = ""
    align: str = "left"


@dataclass(frozen=True)
class Columns:
    """Widths of a frame's columns, in cells: `name` is shared by all sections, the rest is of running jobs."""

    width: int
    name: int
    bar: int
    fields: tuple[str, ...]

    @classmethod
    def of(cls, names: Iterable[str], width: int, known: Collection[str] | None = None) -> Columns:
        """Fit the columns to `width`; names have what the rest leaves, a quarter if need be, and give way first.

        `known` are the fields that some running job has a value for, None where no job runs.
        """
        longest = max((cell_len(one_line(name)) for name in names), default=0)
        longest = max(longest, _TITLE - _SYMBOL)
        wanted = max(min(longest, _NAME_MIN), min(longest, width // 4))
        room = width - 2 * MARGIN - _SYMBOL
        if known is None:
            rest = _OUTCOME + _TIME + _FIELDS["reward"] + 3 * GAP
            return cls(width, max(1, min(longest, room, max(wanted, min(width // 2, room - rest - GAP)))), 0, ())
        fields = [field for field in _FIELDS if field in known]
        while fields and _needs(fields) + _BAR_MIN + GAP + min(longest, _NAME_MIN) > room:
            fields.pop()
        name = max(1, min(wanted, room - (_needs(fields) + _BAR_MIN + GAP if fields else 0)))
        name = max(name, min(longest, width // 2, room - _needs(fields) - _BAR_FAIR - GAP))
        if "steps" in fields and name + _needs([*fields, "time"]) + 2 * _BAR_MIN + GAP <= room:
            fields.append("time")
        bar = min(_BAR_MAX, max(0, room - name - _needs(fields) - GAP))
        return cls(width=width, name=name, bar=bar, fields=tuple(f for f in _ORDER if f in fields))

    @property
    def rest(self) -> int:
        """Cells to the right of the names."""
        return max(0, self.width - 2 * MARGIN - _SYMBOL - self.name - GAP)


def _needs(fields: Sequence[str]) -> int:
    return sum(_FIELDS[field] + GAP for field in fields)


def row(job: JobView, cells: Sequence[Cell], columns: Columns) -> Text:
    """Return a job's line: symbol, name, cells."""
    mark = MARKS[job.state]
    name = fit(shorten(one_line(job.name), columns.name), columns.name)
    return _line([(" " * MARGIN, ""), (mark.symbol + " ", mark.style), (name, "")], cells, columns.width)


def heading(title: str, jobs: int, style: str, labels: Sequence[Cell], columns: Columns) -> Text:
    """Return a section's first line: its title and count, and the labels of the columns where they fit beside it."""
    start = f"{title} {jobs}"
    room = MARGIN + _SYMBOL + columns.name
    parts: list[tuple[str, str | Style]] = [
        (" " * MARGIN + fit(start, max(room - MARGIN, len(start))), f"bold {style}")
    ]
    return _line(parts, labels if len(start) <= room - MARGIN else [], columns.width)


def below(text: str, style: str | Style, bar_style: str, columns: Columns) -> Text:
    """Return a line that belongs to the job above it."""
    return _line([(" " * (MARGIN + _SYMBOL) + "│ ", bar_style), (text, style)], [], columns.width)


def artifact_line(artifact: Artifact, columns: Columns) -> Text:
    """Return the line of one thing to open, a link where the terminal can follow links."""
    kind = fit(KINDS[artifact.kind], max(map(len, KINDS.values())))
    target = one_line(shown_target(artifact))
    room = columns.width - 2 * MARGIN - _SYMBOL - len("│ ") - len(kind) - GAP
    line = below(f"{kind}  ", "dim", "green dim", columns)
    line.append(" " * max(0, MARGIN + _SYMBOL + len("│ ") + len(kind) + GAP - line.cell_len))
    line.append(shorten(target, max(0, room)), Style(link=link_of(artifact)))
    line.truncate(columns.width, overflow="ellipsis")
    return line


def more(hidden: int, word: str, columns: Columns) -> Text:
    """Return the line that counts what is not shown."""
    return _line([(" " * (MARGIN + _SYMBOL) + f"… and {hidden} more {word}", "dim")], [], columns.width)


def _line(parts: Sequence[tuple[str, str | Style]], cells: Sequence[Cell], width: int) -> Text:
    line = Text(no_wrap=True)
    for text, style in parts:
        line.append(text, style)
    for cell in cells:
        line.append(" " * GAP)
        line.append(fit(cell.text, cell.width, cell.align), cell.style)
    line.rstrip()
    line.truncate(max(1, width - MARGIN), overflow="ellipsis")
    return line


def known_fields(details: Iterable[tuple[JobView, Detail]]) -> set[str]:
    """The fields that at least one of these running jobs has a value for."""
    found: set[str] = set()
    for job, detail in details:
        progress = detail.progress
        values = {
            "%": fraction(progress),
            "ETA": eta_s(progress, job.duration_s),
            "SPS": progress and progress.sps,
            "reward": progress and progress.reward,
            "steps": progress and progress.steps,
            "cost": job.remote and job.remote.cost_usd,
        }
        found |= {field for field, value in values.items() if value is not None}
    return found


def running_labels(columns: Columns) -> list[Cell]:
    """Column labels of the running jobs."""
    labels = {"%": ""}
    cells = [Cell("progress" if columns.bar >= 8 else "", columns.bar, "dim")] if columns.bar else []
    return cells + [Cell(labels.get(field, field), _FIELDS[field], "dim", "right") for field in columns.fields]


def running_cells(job: JobView, detail: Detail, columns: Columns) -> list[Cell]:
    """Progress bar, %, steps of total, SPS, reward, ETA and running time, as far as they are known and fit."""
    progress, done = detail.progress, fraction(detail.progress)
    values = {
        "%": UNKNOWN if done is None else percent(done),
        "steps": _steps(detail),
        "SPS": rate(progress.sps if progress else None),
        "reward": number(progress.reward if progress else None),
        "ETA": coarse(eta_s(progress, job.duration_s)),
        "time": duration(job.duration_s),
        "cost": dollars(job.remote.cost_usd if job.remote else None),
    }
    if job.state is JobState.LAUNCHING and not job.kill_requested and job.reason and job.elsewhere:
        return [Cell(one_line(job.reason), columns.rest, "dim")]  # it may take minutes: say what it waits for
    fields = list(columns.fields)
    told = job.elsewhere and bool(job.reason)
    if done is None or job.kill_requested or job.state is JobState.LAUNCHING or told:
        # Where a bar would say nothing, words take its place.
        wide = columns.bar + GAP + _FIELDS["%"] if "%" in fields else columns.bar
        cells = [Cell(_in_words(job, wide), wide, "dim")]
        fields = [field for field in fields if field != "%"]
    else:
        cells = [Cell(bar(done, columns.bar), columns.bar, "cyan")] if columns.bar else []
    return cells + [
        Cell(values[field], _FIELDS[field], "dim" if values[field] == UNKNOWN else "", "right") for field in fields
    ]


def _in_words(job: JobView, width: int) -> str:
    if job.kill_requested:
        return "stopping…"
    if job.elsewhere and job.reason:
        return one_line(job.reason.removeprefix("SkyPilot: "))
    if job.state is JobState.LAUNCHING:
        return "launching…"
    if job.duration_s is None:
        return ""
    exact = f"for {duration(job.duration_s)}"
    return exact if len(exact) <= width else f"for {coarse(job.duration_s)}"


def _steps(detail: Detail) -> str:
    progress = detail.progress
    if progress is None or progress.steps is None:
        return UNKNOWN
    return f"{count(progress.steps)}/{count(progress.total)}" if progress.total else count(progress.steps)


def bar(done: float, width: int) -> str:
    """Return a bar of `width` cells: heavy as far as it is done, light for the rest; it reads without colour."""
    halves = int(done * width * 2)
    heavy = "━" * (halves // 2) + ("╾" if halves % 2 else "")
    return heavy + "─" * (width - len(heavy))


def outcome_labels(first: str) -> list[Cell]:
    """Column labels of jobs that have ended: `first` and time."""
    return [Cell(first, _OUTCOME, "dim"), Cell("time", _TIME, "dim", "right")]


def completed_labels() -> list[Cell]:
    """Column labels of completed jobs: steps, time, reward."""
    return [*outcome_labels("steps"), Cell("reward", _FIELDS["reward"], "dim", "right")]


def ended_cells(job: JobView, columns: Columns) -> list[Cell]:
    """Exit code or what ended the job, running time, reason."""
    word = MARKS[job.state].word
    outcome = f"exit {job.exit_code}" if job.state is JobState.FAILED and job.exit_code is not None else word
    if job.state is JobState.FAILED and job.exit_code == 0:
        outcome = "rejected"  # by its acceptance criteria
    reason = one_line(job.reason or "")
    if _SAYS_ONLY_THE_CODE.fullmatch(reason):
        reason = ""
    if job.attempt > 1:
        reason = f"attempt {job.attempt}: {reason}" if reason else f"attempt {job.attempt}"
    return [
        Cell(outcome, _OUTCOME, MARKS[job.state].style),
        Cell(duration(job.duration_s), _TIME, "", "right"),
        _rest(reason, columns),
    ]


def completed_cells(job: JobView, detail: Detail, columns: Columns) -> list[Cell]:
    """Steps, running time, last reward, and the kinds of what the job left."""
    progress = detail.progress
    reward = progress.reward if progress else None
    labels = list(dict.fromkeys(KINDS[artifact.kind] for artifact in detail.artifacts))
    return [
        Cell(count(progress.steps) if progress and progress.steps is not None else UNKNOWN, _OUTCOME, "dim"),
        Cell(duration(job.duration_s), _TIME, "", "right"),
        Cell(number(reward), _FIELDS["reward"], "dim" if reward is None else "", "right"),
        _rest(" · ".join(labels), columns, taken=_FIELDS["reward"] + GAP),
    ]


def _rest(text: str, columns: Columns, taken: int = 0) -> Cell:
    return Cell(text, columns.rest - _OUTCOME - _TIME - 2 * GAP - taken)
