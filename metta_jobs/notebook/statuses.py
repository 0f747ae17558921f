"""How far runs are, and why some of them failed, as tables."""

from __future__ import annotations

import html
import math
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from metta_jobs.display.errorlines import error_lines
from metta_jobs.display.format import duration, percent
from metta_jobs.display.logtail import read_tail
from metta_jobs.display.pace import eta_s, fraction
from metta_jobs.metrics import Progress, ProgressReader
from metta_jobs.notebook.extra import require
from metta_jobs.notebook.runs import describe_state
from metta_jobs.notebook.tables import decimal
from metta_jobs.states import JobState
from metta_jobs.views import JobView

if TYPE_CHECKING:
    import pandas as pd

_NONE = "–"
_BAD = "color:#c0392b"
_STATUS = ["run", "state", "progress", "steps", "reward", "sps", "eta_s", "updated_s_ago", "why"]


def statuses_of(jobs: Sequence[JobView]) -> Statuses:
    """The state of each run, and the newest that it has logged."""
    require("pandas")
    import pandas as pd

    rows = []
    for job in jobs:
        progress, why = _progress(job)
        going = job.state is JobState.RUNNING
        ago = time.time() - progress.updated_at if going and progress.updated_at is not None else math.nan
        rows.append(
            (
                job.name,
                describe_state(job),
                _number(fraction(progress)),
                _number(progress.steps),
                _number(progress.reward),
                _number(progress.sps),
                _number(eta_s(progress, job.duration_s) if going else None),
                ago,
                why or job.reason or "",
            )
        )
    return Statuses(pd.DataFrame(rows, columns=_STATUS).set_index("run"), all(job.state.terminal for job in jobs))


def _progress(job: JobView) -> tuple[Progress, str]:
    if job.folder is None:
        return Progress(), ""
    try:
        return ProgressReader(job.folder).poll(), ""
    except OSError as error:
        return Progress(), f"its log cannot be read ({error.strerror})"


def _number(value: float | None) -> float:
    return math.nan if value is None else value


class Statuses:
    """How far runs are. `finished` is True when all have ended; `frame` has the numbers, one row for each run.

    Columns: state; progress, a share of 1; steps; reward and sps, the last that were logged; eta_s and updated_s_ago
    (seconds) of running ones; why, the reason of the state. NaN where nothing is known.
    """

    def __init__(self, frame: pd.DataFrame, finished: bool) -> None:
        self.frame = frame
        self.finished = finished

    def _cells(self) -> list[list[str]]:
        rows = [["run", "state", "progress", "steps", "reward", "SPS", "ETA", "last logged", "why"]]
        for name, row in self.frame.iterrows():
            rows.append(
                [
                    str(name),
                    str(row["state"]),
                    _known(row["progress"], percent),
                    _known(row["steps"], "{:,.0f}".format),
                    decimal(row["reward"]),
                    _known(row["sps"], "{:,.0f}".format),
                    _known(row["eta_s"], duration),
                    _known(row["updated_s_ago"], lambda seconds: f"{duration(max(0.0, seconds))} ago"),
                    str(row["why"]),
                ]
            )
        return rows

    def _repr_html_(self) -> str:
        return _table(self._cells(), left=(0, 1, 8))

    def __repr__(self) -> str:
        return _aligned(self._cells())


def _known(value: float, say: Any) -> str:
    return str(say(value)) if math.isfinite(value) else _NONE


def failures_of(jobs: Sequence[JobView]) -> Failures:
    """The runs that ended without success, with their reasons and the telling lines of their output."""
    require("pandas")
    import pandas as pd

    rows = []
    for job in jobs:
        if job.unsuccessful:
            log = read_tail(job.folder / "output.log") if job.folder is not None else []
            said = error_lines(log, limit=3) if job.state is not JobState.KILLED else []
            rows.append((job.name, job.id, describe_state(job), job.reason or "", "\n".join(said)))
    frame = pd.DataFrame(rows, columns=["run", "id", "state", "reason", "output"]).set_index("run")
    return Failures(frame, len(jobs))


class Failures:
    """The runs that ended without success. `frame`: id, state, reason, and what the end of their output says."""

    def __init__(self, frame: pd.DataFrame, total: int) -> None:
        self.frame = frame
        self.total = total

    def _words(self) -> str:
        if self.frame.empty:
            return "Every run that has ended has succeeded."
        return f"{len(self.frame)} of {self.total} runs ended without success; `metta job logs ID` shows all they said."

    def _cells(self) -> list[list[str]]:
        rows = [["run", "id", "state", "reason", "its output's last words"]]
        rows += [
            [str(name), str(row.id), str(row.state), str(row.reason) or _NONE, str(row.output) or _NONE]
            for name, row in self.frame.iterrows()
        ]
        return rows

    def _repr_html_(self) -> str:
        words = f"<p>{html.escape(self._words())}</p>"
        return words if self.frame.empty else words + _table(self._cells(), left=(0, 2, 3, 4))

    def __repr__(self) -> str:
        if self.frame.empty:
            return self._words()
        rows = [[cell.partition("\n")[0] for cell in row] for row in self._cells()]
        return f"{self._words()}\n{_aligned(rows)}"


def _table(rows: Sequence[Sequence[str]], left: Sequence[int]) -> str:
    def line(tag: str, row: Sequence[str]) -> str:
        cells = []
        for i, cell in enumerate(row):
            style = f"text-align:{'left' if i in left else 'right'};white-space:pre-wrap;vertical-align:top"
            if tag == "td" and cell.startswith(("failed", "timed out", "lost")) and i in (1, 2):
                style += f";{_BAD}"
            cells.append(f'<{tag} style="{style}">{html.escape(cell)}</{tag}>')
        return f"<tr>{''.join(cells)}</tr>"

    head, *body = rows
    return f"<table><thead>{line('th', head)}</thead><tbody>{''.join(line('td', row) for row in body)}</tbody></table>"


def _aligned(rows: Sequence[Sequence[str]]) -> str:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join("  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)).rstrip() for row in rows)
