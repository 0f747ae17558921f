"""The marimo file: Python that compiles, whose cells run, by marimo itself where that is installed."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
from group_views import LOGGER

from metta_jobs.errors import InvalidInput
from metta_jobs.job import JobConfig
from metta_jobs.manager import JobManager
from metta_jobs.notebook import default_path, write_marimo
from metta_jobs.notebook.marimo_file import is_untouched
from metta_jobs.views import GroupView

#: As much of marimo as the cells use: they run in the order in which they need each other.
STAND_IN = """
import ast, inspect, textwrap
from types import SimpleNamespace

class App:
    def __init__(self, **settings): self.cells = []
    def cell(self, function=None, hide_code=False):
        if function is None:
            return lambda function: self.cell(function)
        self.cells.append(function)
        return function
    def run(self):
        made, waiting = {}, list(self.cells)
        while waiting:
            cell = next(c for c in waiting if set(inspect.signature(c).parameters) <= set(made))
            waiting.remove(cell)
            given = cell(**{name: made[name] for name in inspect.signature(cell).parameters}) or ()
            made.update(zip(returned(cell), given))

def returned(cell):
    tree = ast.parse(textwrap.dedent(inspect.getsource(cell)))
    last = tree.body[0].body[-1]
    return [element.id for element in last.value.elts] if last.value is not None else []

shown = []
md = shown.append
state = lambda value: (lambda: value, lambda new: shown.append(f"ended: {new}"))
ui = SimpleNamespace(refresh=lambda options, default_interval: shown.append(default_interval))
"""


def test_the_cells_run_and_refresh_until_all_have_ended(
    manager: JobManager, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    command = ("sh", "-c", f'{sys.executable} {LOGGER} "$METTA_JOB_DIR" --rows 60')
    manager.submit([JobConfig(name="a", command=command, variant="v", seed=1, metrics=("eval/score",))], group="live")
    manager.wait(["live"], timeout_s=120)
    path = write_marimo(manager.group("live"), default_path("live", tmp_path, "marimo"), manager.state_dir)
    assert path == tmp_path / "notebooks" / "live.py"
    if find_spec("marimo") is None:
        (tmp_path / "lib").mkdir()
        (tmp_path / "lib" / "marimo.py").write_text(STAND_IN)
        monkeypatch.setenv("PYTHONPATH", f"{tmp_path / 'lib'}:{os.environ.get('PYTHONPATH', '')}")
    done = subprocess.run(
        [sys.executable, str(path)],
        env={**os.environ, "MPLBACKEND": "Agg"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "1/1  a  succeeded  3 of 3 metrics" in done.stdout


def test_no_name_is_made_twice_and_all_that_is_used_is_made(group: GroupView, project: Path) -> None:
    path = write_marimo(group, project / "n.py", project / "runs" / "state", sections=["monitor", "analysis", "launch"])
    tree = ast.parse(path.read_text())
    cells = [node for node in tree.body if isinstance(node, ast.FunctionDef)]
    last = [cell.body[-1] for cell in cells]
    made = [name.id for node in last if isinstance(node, ast.Return) and node.value for name in node.value.elts]  # type: ignore[attr-defined]
    assert len(made) == len(set(made))
    used = {argument.arg for cell in cells for argument in cell.args.args}
    assert used <= set(made)
    assert {"mo", "results", "refresh", "REWARD", "TRACKED", "state_dir", "find_project"} <= set(made)
    assert str(project) not in path.read_text()


def test_an_edited_file_is_kept(group: GroupView, project: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = write_marimo(group, project / "n.py", project / "job_state")
    assert is_untouched(path.read_text())
    write_marimo(group, path, project / "job_state")
    assert not list(project.glob("n.edited*"))
    path.write_text(path.read_text().replace("## Scratch", "## Mine"))
    write_marimo(group, path, project / "job_state", sections=["analysis"])
    assert "## Mine" in (project / "n.edited-1.py").read_text()
    assert "kept as n.edited-1.py" in caplog.text
    with pytest.raises(InvalidInput, match=r"must end with \.py"):
        write_marimo(group, project / "n.ipynb", project / "job_state")
