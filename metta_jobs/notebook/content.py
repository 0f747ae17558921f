"""What a notebook says, section by section, in whatever format: references to runs, never data."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from metta_jobs.experiment.sections import choose_sections
from metta_jobs.notebook.runs import REWARD, SPS, runs_of, tracked_metrics
from metta_jobs.paths import STATE_DIR_NAME, STATE_DIR_VARIABLE, find_project
from metta_jobs.views import GroupView

SAMPLES = 1000
#: Sections in which people write: they stay as they are when the notebook is written again.
OWN_SECTIONS = ("log", "scratch")
_MORE = """\
`data` is a tidy frame with the columns *run*, *metric*, *step* and *value*; `results.summary()` holds the table's \
numbers; `results.plot("losses/policy_loss")` draws any metric that was logged."""
_LOG = {
    "hypothesis": ("Hypothesis", "What should happen, and why?"),
    "configuration": ("Configuration", "What was changed, beside what the table of settings shows?"),
    "results": ("Results", "What happened?"),
    "next": ("Next steps", "What follows from it?"),
}


@dataclass(frozen=True)
class Piece:
    """One cell: its section, a name that stays, and what it says, as code or as Markdown."""

    section: str
    name: str
    text: str
    code: bool = False


@dataclass(frozen=True)
class Plan:
    """A notebook to be written: of which runs, where to, with which sections.

    `job_ids` are given where it is about these jobs rather than about a group.
    """

    group: GroupView
    path: Path
    state_dir: Path
    sections: tuple[str, ...] = field(default_factory=choose_sections)
    job_ids: tuple[int, ...] = ()

    @property
    def tracked(self) -> list[str]:
        """The metrics to show beside reward and speed."""
        return tracked_metrics(self.group)

    @property
    def subject(self) -> str:
        """The name by which the cells call what the notebook is about."""
        return "JOBS" if self.job_ids else "GROUP"


def pieces(plan: Plan) -> list[Piece]:
    """The cells of all sections of the plan."""
    write = {
        "setup": _setup,
        "state": _state,
        "launch": _launch,
        "monitor": _monitor,
        "analysis": _analysis,
        "replays": _replays,
        "log": _log,
        "scratch": _scratch,
        "export": _export,
    }
    return [Piece(name, *rest) for name in plan.sections for rest in write[name](plan)]


Rest = Iterator[tuple[str, str, bool]]


def _setup(plan: Plan) -> Rest:
    imports, parameters, opening = setup_parts(plan)
    yield "title", _title(plan.group), False
    yield "about-setup", "## Setup", False
    yield "setup", "\n".join([*imports, "", *parameters, "", *opening, "results"]), True


def _state(plan: Plan) -> Rest:
    yield "about-links", "## Runs", False
    yield "links", "results.links()", True


def _launch(plan: Plan) -> Rest:
    yield "about-launch", "## Launch\n\nRunning this cell launches nothing: take the # away where you want it.", False
    lines = [
        "from metta_jobs import JobManager",
        "",
        f"# JobManager().retry({plan.subject}, failed=True)  # what failed, again",
        *_more_of(plan.group),
    ]
    yield "launch", "\n".join(lines), True


def _more_of(group: GroupView) -> list[str]:
    """How to launch more of what the group's runs run. A recipe is named, what else they were told is not: secrets."""
    for job in runs_of(group):
        _, _, words = " ".join(job.command).partition(" -m ")
        remote = job.executor != "local"
        match words.split(" "):
            case ["metta_jobs", "run", recipe, *_]:
                tool = f'ExperimentTool(module="{recipe}", runs=["more"], args=[], seeds=3, remote={remote})'
                return ["# from metta_jobs import ExperimentTool", f"# {tool}.submit(JobManager())"]
            case ["metta_jobs.experiment", recipe, *_]:
                here = "" if remote else ", skypilot=SkypilotJobConfig(remote=False)"
                names = "TrainingRunConfig, launch_multiple_training_runs" + (", SkypilotJobConfig" if here else "")
                told = f'"more", TrainingRunConfig(), seeds=3, module="{recipe}"{here}'
                return [f"# from metta_jobs.experiment import {names}", f"# launch_multiple_training_runs({told})"]
    return [
        "# from metta_jobs import JobConfig",
        '# JobManager().submit([JobConfig(name="more", command=("python", "train.py"))], group="more")',
    ]


def _monitor(plan: Plan) -> Rest:
    yield "about-monitor", "## How far they are", False
    lines = [
        "from metta_jobs.notebook import monitor_training_statuses",
        "",
        "monitor_training_statuses(results)  # refresh_s=10 shows it anew until all have ended",
    ]
    yield "monitor", "\n".join(lines), True


def _analysis(plan: Plan) -> Rest:
    seeded = any(job.variant is not None for job in runs_of(plan.group))
    plot = "plot_variants" if seeded else "plot"
    keys = "[REWARD, SPS, *TRACKED]" if plan.tracked else "[REWARD, SPS]"
    yield "about-fetch", "## Metrics", False
    yield "fetch", f"data = results.fetch({keys}, samples=SAMPLES)", True
    yield "about-curves", "## Reward and speed", False
    yield "curves", f"results.{plot}(REWARD, SPS);", True
    if seeded:
        yield "about-variants", "## Variants, over their seeds", False
        yield "variants", "results.variants(REWARD)", True
        yield "final", "results.plot_final(REWARD);", True
    yield "about-summary", "## Every run" if seeded else "## Summary", False
    yield "summary", "results.summary_table()", True
    yield "about-differences", "## Settings that differ", False
    yield "differences", "results.differences()", True
    yield "about-failures", "## What went wrong", False
    yield "causes", "from metta_jobs.notebook import failure_digest\n\nfailure_digest(results)", True
    yield "failures", "results.failures()", True
    if plan.tracked:
        yield "about-tracked", "## Tracked metrics", False
        yield "tracked", f"results.{plot}(*TRACKED, columns=3, size=(4.4, 3.0));", True
    yield "more", _MORE, False


def _replays(_: Plan) -> Rest:
    yield "about-replays", "## Replays", False
    lines = [
        "from metta_jobs.notebook import get_available_replays, show_replay",
        "",
        "replays = get_available_replays(results)",
        "show_replay(replays[0]) if replays else replays",
    ]
    yield "replays", "\n".join(lines), True


def _log(plan: Plan) -> Rest:
    yield "about-log", "## Log", False
    for name, (title, question) in _LOG.items():
        yield f"log-{name}", f"### {title}\n\n*{question}*", False


def _scratch(plan: Plan) -> Rest:
    yield "about-scratch", "## Scratch", False
    yield "scratch", "# Yours. What you write here and in the log stays when the notebook is written again.", True


def _export(plan: Plan) -> Rest:
    yield "about-export", "## Export\n\nAs one HTML file, in `notebooks/log/`, as it was last saved:", False
    lines = ["from metta_jobs.notebook import export_html", "", f'# export_html("{plan.path.stem}.ipynb")']
    yield "export", "\n".join(lines), True


def _title(group: GroupView) -> str:
    runs = runs_of(group)
    names = ", ".join(f"`{job.name}`" for job in runs) or "none"
    count = f"{len(runs)} {'run' if len(runs) == 1 else 'runs'}"
    return (
        f"# Experiment `{group.name}`\n\n"
        f"Submitted {group.created_at:%d %B %Y, %H:%M} UTC · {count}: {names}\n\n"
        "Run all cells again at any time to see the newest data."
    )


def setup_parts(plan: Plan) -> tuple[list[str], list[str], list[str]]:
    """The lines that import, that set what the other cells use, and that open the results."""
    load = "load_jobs" if plan.job_ids else "load_group"
    imports = [f"from metta_jobs.notebook import {load}"]
    opening = [f"results = {load}({plan.subject})"]
    project = find_project(plan.path.parent)
    if not plan.state_dir.is_relative_to(project):
        remark = f"# The jobs' state lies outside this project: set {STATE_DIR_VARIABLE} to its folder first."
        opening = [remark, *opening]
    elif plan.state_dir != project / STATE_DIR_NAME:
        imports = ["import os", "", *imports, "from metta_jobs.paths import find_project"]
        place = plan.state_dir.relative_to(project).as_posix()
        opening = [
            f'state_dir = os.environ.get("{STATE_DIR_VARIABLE}") or find_project() / "{place}"',
            f"results = {load}({plan.subject}, state_dir)",
        ]
    subject = f"JOBS = {json.dumps(plan.job_ids)}" if plan.job_ids else f'GROUP = "{plan.group.name}"'
    return imports, [subject, *_parameters(plan)], opening


def _parameters(plan: Plan) -> Sequence[str]:
    if "analysis" not in plan.sections:
        return []
    return [
        f'REWARD = "{REWARD}"',
        f'SPS = "{SPS}"',
        *([f"TRACKED = {json.dumps(plan.tracked)}"] if plan.tracked else []),
        f"SAMPLES = {SAMPLES}  # most points of a curve",
    ]
