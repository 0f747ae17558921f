"""What a notebook says before it is executed."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import nbformat
import pytest
from group_views import group_of, job

from metta_jobs.notebook.cells import build_notebook, digest
from metta_jobs.notebook.content import Plan
from metta_jobs.notebook.runs import tracked_metrics
from metta_jobs.states import JobState
from metta_jobs.views import GroupView


def test_ids_stay_and_the_notebook_is_valid(group: GroupView, project: Path) -> None:
    once = build_notebook(Plan(group, project / "notebooks" / "a.ipynb", project / "job_state"))
    again = build_notebook(Plan(group, project / "notebooks" / "b.ipynb", project / "job_state"))
    nbformat.validate(once)
    ids = [cell.id for cell in once.cells]
    assert ids == [cell.id for cell in again.cells]
    assert len(set(ids)) == len(ids)
    assert [name for name in ids if name in ("setup", "links", "fetch", "curves", "summary", "tracked")] == [
        "setup", "links", "fetch", "curves", "summary", "tracked",
    ]  # fmt: skip
    assert once.metadata.metta_jobs.digest == digest(once) == digest(again)


def test_it_names_experiment_and_runs_and_holds_neither_path_nor_command(group: GroupView, project: Path) -> None:
    notebook = build_notebook(Plan(group, project / "notebooks" / "a.ipynb", project / "job_state"))
    title = notebook.cells[0].source
    assert "sweep-1" in title and "04 March 2026, 05:06 UTC" in title
    assert "5 runs: `good`, `failed`, `mute`, `killed`, `skipped`" in title
    text = nbformat.writes(notebook)
    assert "hunter2secret" not in text
    assert str(project) not in text
    assert not re.search(r'["\s(](/|~|\.\./)\w', text)


@pytest.mark.parametrize(
    ("command", "says"),
    [
        ("/v/python -m metta_jobs run arena.train token=hunter2secret", 'ExperimentTool(module="arena.train", '),
        ("python -m metta_jobs.experiment arena.from_config --config-name x", 'module="arena.from_config", skypilot='),
        ("python train.py --token=hunter2secret", "JobConfig("),
    ],
)
def test_the_launch_section_offers_more_of_what_the_group_runs(command: str, says: str, project: Path) -> None:
    run = replace(job(1, "a", JobState.SUCCEEDED, None), command=tuple(command.split()))
    plan = Plan(group_of(run), project / "n.ipynb", project / "job_state", ("setup", "launch"))
    cell = next(cell.source for cell in build_notebook(plan).cells if cell.id == "launch")
    assert says in cell and "hunter2" not in cell
    for line in cell.splitlines():
        compile(line.removeprefix("# "), "launch", "exec")


def test_code_cells_compile_and_are_short(group: GroupView, project: Path) -> None:
    notebook = build_notebook(Plan(group, project / "notebooks" / "a.ipynb", project / "job_state"))
    for cell in notebook.cells:
        if cell.cell_type == "code":
            compile(cell.source, cell.id, "exec")
            assert len(cell.source.splitlines()) <= 12


def test_metrics_that_runs_track_come_beside_reward_and_speed(group: GroupView) -> None:
    assert tracked_metrics(group) == ["eval/score"]


@pytest.mark.parametrize(
    ("state", "expected", "absent"),
    [
        ("job_state", "results = load_group(GROUP)", "METTA_JOB_STATE"),
        (
            "runs/state",
            'state_dir = os.environ.get("METTA_JOB_STATE") or find_project() / "runs/state"\n'
            "results = load_group(GROUP, state_dir)",
            "#  ",
        ),
        ("../elsewhere", "outside this project: set METTA_JOB_STATE", "elsewhere"),
    ],
)
def test_where_the_state_is(group: GroupView, project: Path, state: str, expected: str, absent: str) -> None:
    notebook = build_notebook(Plan(group, project / "notebooks" / "a.ipynb", (project / state).resolve()))
    setup = next(cell.source for cell in notebook.cells if cell.id == "setup")
    assert expected in setup
    assert absent not in setup
    compile(setup, "setup", "exec")
