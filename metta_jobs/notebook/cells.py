"""The cells of a group's notebook: references to the group, never data, so that it tells the news when it is run."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from metta_jobs.notebook.runs import REWARD, SPS, runs_of, tracked_metrics
from metta_jobs.paths import STATE_DIR_NAME, STATE_DIR_VARIABLE, find_project
from metta_jobs.views import GroupView

if TYPE_CHECKING:
    from nbformat import NotebookNode

SAMPLES = 1000
_MORE = """\
---
`data` is a tidy frame with the columns *run*, *metric*, *step* and *value*; `results.summary()` holds the table's \
numbers; `results.plot("losses/policy_loss")` draws any metric that was logged."""


def build_notebook(group: GroupView, path: Path, state_dir: Path) -> NotebookNode:
    """Return the notebook of `group`, not executed, as it is to stand at `path`; the state lies in `state_dir`.

    It holds names and metrics' keys only. Cells keep their ids from writing to writing.
    """
    from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

    tracked = tracked_metrics(group)
    seeded = any(job.variant is not None for job in runs_of(group))
    plot = "plot_variants" if seeded else "plot"
    texts: list[tuple[str, str]] = [
        ("title", _title(group)),
        ("about-setup", "## Setup"),
        ("setup", _setup(group, path, state_dir, tracked)),
        ("about-links", "## Runs"),
        ("links", "results.links()"),
        ("about-fetch", "## Metrics"),
        (
            "fetch",
            f"data = results.fetch({'[REWARD, SPS, *TRACKED]' if tracked else '[REWARD, SPS]'}, samples=SAMPLES)",
        ),
        ("about-curves", "## Reward and speed"),
        ("curves", f"results.{plot}(REWARD, SPS);"),
    ]
    if seeded:
        texts += [
            ("about-variants", "## Variants, over their seeds"),
            ("variants", "results.variants(REWARD)"),
            ("final", "results.plot_final(REWARD);"),
        ]
    texts += [
        ("about-summary", "## Every run" if seeded else "## Summary"),
        ("summary", "results.summary_table()"),
    ]
    if tracked:
        texts += [
            ("about-tracked", "## Tracked metrics"),
            ("tracked", f"results.{plot}(*TRACKED, columns=3, size=(4.4, 3.0));"),
        ]
    texts.append(("more", _MORE))
    cells = [
        new_markdown_cell(text, id=name)
        if name in ("title", "more") or name.startswith("about-")
        else new_code_cell(text, id=name)
        for name, text in texts
    ]
    notebook = new_notebook(
        cells=cells,
        metadata={
            "kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"},
            "language_info": {"name": "python"},
        },
    )
    notebook.metadata["metta_jobs"] = {"group": group.name, "digest": digest(notebook)}
    return notebook


def digest(notebook: NotebookNode) -> str:
    """Return a checksum of what the cells say, outputs aside: it tells whether somebody has edited them."""
    said = json.dumps([(cell.cell_type, cell.source) for cell in notebook.cells])
    return hashlib.sha256(said.encode()).hexdigest()


def _title(group: GroupView) -> str:
    runs = runs_of(group)
    names = ", ".join(f"`{job.name}`" for job in runs) or "none"
    count = f"{len(runs)} {'run' if len(runs) == 1 else 'runs'}"
    return (
        f"# Experiment `{group.name}`\n\n"
        f"Submitted {group.created_at:%d %B %Y, %H:%M} UTC · {count}: {names}\n\n"
        "Run all cells again at any time to see the newest data."
    )


def _setup(group: GroupView, path: Path, state_dir: Path, tracked: Sequence[str]) -> str:
    imports = ["from metta_jobs.notebook import load_group"]
    opening = ["results = load_group(GROUP)"]
    project = find_project(path.parent)
    if not state_dir.is_relative_to(project):
        remark = f"# The jobs' state lies outside this project: set {STATE_DIR_VARIABLE} to its folder first."
        opening = [remark, *opening]
    elif state_dir != project / STATE_DIR_NAME:
        imports = ["import os", "", *imports, "from metta_jobs.paths import find_project"]
        place = state_dir.relative_to(project).as_posix()
        opening = [
            f'state_dir = os.environ.get("{STATE_DIR_VARIABLE}") or find_project() / "{place}"',
            "results = load_group(GROUP, state_dir)",
        ]
    parameters = [
        f'GROUP = "{group.name}"',
        f'REWARD = "{REWARD}"',
        f'SPS = "{SPS}"',
        *([f"TRACKED = {json.dumps(tracked)}"] if tracked else []),
        f"SAMPLES = {SAMPLES}  # most points of a curve",
    ]
    return "\n".join([*imports, "", *parameters, "", *opening, "results"])
