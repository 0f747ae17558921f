"""A group's notebook, written by the group's own last job and again by a person."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from group_views import LOGGER

from metta_jobs.job import Dependency, JobConfig
from metta_jobs.manager import JobManager
from metta_jobs.notebook.__main__ import main
from metta_jobs.states import DependencyKind, JobState


def outputs(path: Path) -> dict[str, nbformat.NotebookNode]:
    return {cell.id: cell.outputs for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"}


def shown(path: Path, cell: str, mime: str) -> str:
    (output,) = outputs(path)[cell]
    return str(output.text if mime == "stream" else output.data[mime])


def test_the_last_job_of_a_group_leaves_an_executed_notebook(
    manager: JobManager, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WANDB_API_KEY", "0123456789abcdef")
    log = f'{sys.executable} {LOGGER} "$METTA_JOB_DIR" --rows'
    runs = [
        JobConfig(name="good", command=("sh", "-c", f"{log} 200"), metrics=("eval/score",)),
        JobConfig(name="broken", command=("sh", "-c", f"{log} 50; exit 3")),
        JobConfig(name="mute", command=("true",)),
    ]
    after = tuple(Dependency(job=run.name, kind=DependencyKind.AFTERANY) for run in runs)
    command = (sys.executable, "-m", "metta_jobs.notebook", "curves")
    manager.submit(
        [*runs, JobConfig(name="notebook", kind="notebook", command=command, depends_on=after)], group="curves"
    )
    *_, last = manager.wait(["curves"], timeout_s=120)
    assert last.state is JobState.SUCCEEDED, manager.log_path(last.id).read_text()

    path = tmp_path / "notebooks" / "curves.ipynb"
    assert shown(path, "setup", "text/plain") == "curves: 3 runs (2 succeeded, 1 failed)"
    links = shown(path, "links", "text/markdown")
    assert "](../job_state/jobs/1/1/wandb/offline-run-" in links
    assert "[run folder](../job_state/jobs/3/1)" in links
    fetched = shown(path, "fetch", "stream").splitlines()
    assert [line.split()[1] for line in fetched] == ["good", "broken", "mute"]
    assert fetched[0].endswith("3 of 3 metrics, 420 points")
    assert "failed with exit code 3" in fetched[1]
    assert fetched[2].endswith("no metrics: it left no files, or they were removed")
    assert len(shown(path, "curves", "image/png")) > 20_000
    assert len(shown(path, "tracked", "image/png")) > 5_000
    summary = shown(path, "summary", "text/html")
    assert "20,000" in summary and "failed with exit code 3" in summary and "notebook" not in summary
    text = path.read_text()
    assert str(tmp_path) not in text
    assert sys.prefix not in text
    assert "0123456789abcdef" not in text

    manager.submit([JobConfig(name="later", command=("true",))], group="curves")
    manager.wait(["curves"], timeout_s=60)
    assert main(["curves"]) == 0
    assert capsys.readouterr().out.strip() == str(path)
    assert "4 runs" in shown(path, "setup", "text/plain")


def test_an_unknown_group_is_told_in_a_sentence(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "metta_jobs.notebook", "nope"], cwd=tmp_path, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 2
    assert "There is no group 'nope'" in done.stderr
    assert "Traceback" not in done.stderr
