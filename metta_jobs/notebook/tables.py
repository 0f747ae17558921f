"""Tables of a group's runs: where to look, and how they did."""

from __future__ import annotations

import html
import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from metta_jobs.metrics import Artifact, find_artifacts
from metta_jobs.notebook.extra import require
from metta_jobs.notebook.runs import RunMetrics, describe_state
from metta_jobs.paths import find_project
from metta_jobs.views import JobView

if TYPE_CHECKING:
    import pandas as pd

_NONE = "–"


class Links:
    """A table with links for each run; local ones are relative to the working directory, as a notebook needs them."""

    def __init__(self, jobs: Sequence[JobView]) -> None:
        self.rows = [(job.name, describe_state(job), *_links_of(job)) for job in jobs]

    def _repr_markdown_(self) -> str:
        head = ["| run | state | look at | also |", "|:--|:--|:--|:--|"]
        return "\n".join([*head, *(f"| {' | '.join(row)} |" for row in self.rows)])

    def __repr__(self) -> str:
        return self._repr_markdown_()


def _links_of(job: JobView) -> tuple[str, str]:
    if job.folder is None:
        return "it has not run", _NONE
    artifacts = find_artifacts(job.folder)
    page = next((artifact for artifact in artifacts if artifact.kind == "wandb"), None)
    if page is None:
        main = _link("run folder", job.folder)
    else:
        main = f"[W&B]({page.target})" if page.is_url else _link("local W&B run", Path(page.target))
    others = [_link(_label(artifact), Path(artifact.target)) for artifact in artifacts if artifact.kind != "wandb"]
    return main, " · ".join(others) or _NONE


def _label(artifact: Artifact) -> str:
    return "output" if artifact.kind == "log" else f"{artifact.kind} {artifact.label}"


def _link(label: str, target: Path) -> str:
    """A link relative to here; only the words when the target is outside the project, whose paths are nobody's."""
    label = label.replace("|", r"\|").replace("[", r"\[").replace("]", r"\]")
    if not target.resolve().is_relative_to(find_project()):
        return f"{label} (outside this project)"
    return f"[{label}]({quote(os.path.relpath(target.resolve(), Path.cwd().resolve()))})"


def summary_frame(runs: Sequence[RunMetrics], reward: str, sps: str) -> pd.DataFrame:
    """Return one row for each run, with the columns that `GroupResults.summary` promises."""
    require("pandas")
    import pandas as pd

    rows = []
    for run in runs:
        rewards, rates = run.figures.get(reward), run.figures.get(sps)
        rows.append(
            {
                "run": run.job.name,
                "state": describe_state(run.job),
                "steps": run.steps,
                "final reward": rewards.final if rewards else math.nan,
                "max reward": rewards.highest if rewards else math.nan,
                "mean reward": rewards.mean if rewards else math.nan,
                "mean SPS": rates.mean if rates else math.nan,
                "duration": pd.to_timedelta(math.nan if run.job.duration_s is None else run.job.duration_s, unit="s"),
            }
        )
    columns = ["run", "state", "steps", "final reward", "max reward", "mean reward", "mean SPS", "duration"]
    return pd.DataFrame(rows, columns=columns).set_index("run")


class SummaryTable:
    """A summary as people read it; `frame` holds the numbers."""

    def __init__(self, frame: pd.DataFrame) -> None:
        self.frame = frame

    def _cells(self) -> list[list[str]]:
        rows = []
        for name, row in self.frame.iterrows():
            rows.append(
                [
                    str(name),
                    str(row["state"]),
                    _whole(row["steps"]),
                    *(decimal(row[f"{which} reward"]) for which in ("final", "max", "mean")),
                    _whole(row["mean SPS"]),
                    _span(row["duration"].total_seconds()),
                ]
            )
        return rows

    def _repr_html_(self) -> str:
        head = "".join(
            f'<th style="text-align:{"left" if i < 2 else "right"}">{html.escape(title)}</th>'
            for i, title in enumerate(["run", *self.frame.columns])
        )
        body = "".join(
            "<tr>"
            + "".join(
                f'<td style="text-align:{"left" if i < 2 else "right"};{_emphasis(i, row)}">{html.escape(cell)}</td>'
                for i, cell in enumerate(row)
            )
            + "</tr>"
            for row in self._cells()
        )
        return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"

    def __repr__(self) -> str:
        return self.frame.to_string()


def _emphasis(column: int, row: Sequence[str]) -> str:
    if column == 0:
        return "font-weight:bold"
    if column == 1 and row[1].startswith(("failed", "timed out", "lost")):
        return "color:#c0392b"
    return ""


def _whole(value: float) -> str:
    return f"{value:,.0f}" if math.isfinite(value) else _NONE


def decimal(value: float) -> str:
    """Return a measured value with three decimals, "–" where there is none."""
    if math.isnan(value):
        return _NONE
    return f"{value:,.3f}" if 0.001 <= abs(value) < 1e6 or value == 0 else f"{value:.3g}"


def _span(seconds: float) -> str:
    if math.isnan(seconds):
        return _NONE
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}"
