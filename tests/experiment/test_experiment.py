"""An experiment from the command line to the notebook."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from metta_jobs.errors import InvalidInput
from metta_jobs.experiment import ExperimentTool
from metta_jobs.manager import JobManager
from tests.conftest import clean_up
from tests.processes import metta, until

RECIPE = '''
"""A recipe that logs a few rows, as a training would."""
from metta_jobs import ExperimentTool, Tool

class Train(Tool):
    steps: int = 30
    fail: bool = False
    pause: float = 0.0

    def run(self) -> int:
        import time, wandb
        run = wandb.init(project="toy", config={"total_timesteps": self.steps * 10})
        for step in range(self.steps):
            row = {"overview/reward": step / self.steps, "overview/sps": 1000.0}
            run.log(row | {"metric/agent_step": 10 * (step + 1)})
            time.sleep(self.pause)
        if self.fail:
            raise ValueError("the policy diverged")
        run.finish()
        return 0

def train() -> Train:
    """Train."""
    return Train()

def experiment(remote: bool = True) -> ExperimentTool:
    """Two runs, of which one fails."""
    return ExperimentTool(
        module="toy.train", runs=["baseline", "variant"], args_per_run={"variant": ["fail=true"]}, remote=remote
    )
'''


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, own_recipes: None) -> Iterator[Path]:
    """A project with one recipe and room for two jobs."""
    monkeypatch.setenv("METTA_CPUS", "2")
    (tmp_path / "pyproject.toml").write_text("")
    (tmp_path / "recipes").mkdir()
    (tmp_path / "recipes" / "toy.py").write_text(RECIPE)
    yield tmp_path
    clean_up(tmp_path / "job_state")


def test_runs_go_in_parallel_and_a_failed_one_does_not_keep_the_notebook_away(project: Path) -> None:
    done = metta("run", "toy.experiment", "remote=false", cwd=project, timeout=200)
    assert done.returncode == 1
    (group,) = json.loads(metta("job", "list", "--json", cwd=project).stdout)["groups"]
    assert re.fullmatch(r"toy_experiment_\d{8}_\d{6}", group["group"])
    assert (group["total"], group["completed"], group["failed"]) == (3, 2, 1)
    jobs = {
        job["name"]: job
        for job in json.loads(metta("job", "list", group["group"], "--json", cwd=project).stdout)["jobs"]
    }
    assert {name: job["state"] for name, job in jobs.items()} == {
        "baseline": "succeeded",
        "variant": "failed",
        "notebook": "succeeded",
    }
    assert jobs["variant"]["started_at"] < jobs["baseline"]["finished_at"]
    path = project / "notebooks" / f"{group['group']}.ipynb"
    text = path.read_text()
    notebook = json.loads(text)
    printed = json.dumps([cell.get("outputs") for cell in notebook["cells"]])
    for word in ("baseline", "variant", "failed", "exit code 1", "image/png"):
        assert word in printed, word
    assert str(project) not in text
    shown = metta("job", "monitor", group["group"], "--once", cwd=project).stdout
    assert "ValueError: the policy diverged" in shown
    assert f"notebooks/{group['group']}.ipynb" in shown


def test_the_notebook_appears_although_the_terminal_was_closed(project: Path) -> None:
    arguments = [sys.executable, "-m", "metta_jobs", "run", "toy.experiment", "remote=false", "group=g"]
    watching = subprocess.Popen(arguments, cwd=project, stdout=subprocess.DEVNULL, start_new_session=True)
    until(lambda: list(project.glob("job_state/jobs/*/*/output.log")), "the first run")
    os.killpg(watching.pid, signal.SIGKILL)
    watching.wait()
    until(lambda: (project / "notebooks" / "g.ipynb").exists(), "the notebook")
    with JobManager(project / "job_state") as manager:
        assert [job.state for job in manager.wait(["g/notebook"], timeout_s=120)] == ["succeeded"]


def test_ctrl_c_leaves_the_jobs_running_and_says_how_to_come_back(project: Path) -> None:
    arguments = [sys.executable, "-m", "metta_jobs", "run", "toy.experiment", "remote=false", "group=g"]
    arguments += ['args_per_run={"baseline": ["pause=5"]}', "generate_notebook=false"]
    watching = subprocess.Popen(
        arguments,
        cwd=project,
        stdout=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(2, signal.default_int_handler),
    )
    with JobManager(project / "job_state") as manager:
        until(lambda: "g" in [g.name for g in manager.groups()] and manager.group("g").counts.running)
        assert watching.stdout is not None
        watching.stdout.readline()  # it watches
        watching.send_signal(signal.SIGINT)
        said = watching.communicate(timeout=60)[0]
        assert watching.returncode == 130
        assert "metta job monitor g" in said and "metta job kill g" in said
        assert manager.group("g").counts.running >= 1
        manager.kill(["g"], force=True)
        manager.wait(["g"], timeout_s=30)


def test_dry_run_shows_every_command_and_stores_nothing(project: Path) -> None:
    done = metta("run", "toy.experiment", "remote=false", "group=g", "--dry-run", cwd=project)
    assert done.returncode == 0
    assert "-m metta_jobs run toy.train fail=true" in done.stdout
    assert "-m metta_jobs.notebook g" in done.stdout
    assert '"group": "g"' in done.stdout
    assert not (project / "job_state").exists()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["runs=[]"], "at least one run"),
        (['runs=["a", "a"]'], "the run 'a' is named twice"),
        (['args_per_run={"basline": []}'], "'basline', which is none of the runs. Did you mean 'baseline'?"),
        (['args=["stepz=3"]'], "Run 'baseline': There is no field 'stepz' in Train."),
        (['args_per_run={"baseline": ["stepz=3"]}'], "Run 'baseline': There is no field 'stepz' in Train."),
        (['args_per_run={"baseline": ["steps=x"]}'], "Run 'baseline': steps=x"),
        (["module=toy.nothing"], "has no function 'nothing'"),
        (["gpus=1"], "asks for 1 GPU and this machine has none"),
        (["notebook_path=x.txt"], "ends with .ipynb"),
        (["remote=true"], "remote=false"),
        (['runs=["a b"]'], "cannot be a name"),
    ],
)
def test_what_cannot_run_is_refused_before_anything_is_stored(project: Path, arguments: list[str], says: str) -> None:
    first = [] if "remote=true" in arguments else ["remote=false"]
    done = metta("run", "toy.experiment", *first, *arguments, cwd=project)
    assert done.returncode == 2
    assert says in done.stderr
    assert "Traceback" not in done.stderr
    with JobManager(project / "job_state") as manager:
        assert manager.groups() == []


def test_a_group_that_exists_is_not_added_to(project: Path) -> None:
    metta("job", "submit", "--group", "g", "--", "true", cwd=project)
    done = metta("run", "toy.experiment", "remote=false", "group=g", cwd=project)
    assert (done.returncode, "There is a group 'g' already" in done.stderr) == (2, True)


def test_the_names_that_its_users_know() -> None:
    tool = ExperimentTool(module="toy.train", runs=["a"])
    assert tool.model_dump() == {
        "module": "toy.train",
        "runs": ["a"],
        "args": [],
        "args_per_run": {},
        "seeds": None,
        "sections": [],
        "group": None,
        "gpus": None,
        "nodes": 1,
        "spot": True,
        "remote": True,
        "infra": None,
        "sky": {},
        "skip_git_check": False,
        "timeout_s": None,
        "retry": None,
        "priority": 0,
        "max_parallel": None,
        "max_failures": None,
        "on_end": (),
        "acceptance": (),
        "health": (),
        "metrics_to_track": ["overview/reward", "overview/sps"],
        "generate_notebook": True,
        "notebook_path": None,
    }


def test_a_program_gets_errors_it_can_catch(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(project)
    with JobManager(project / "job_state") as manager, pytest.raises(InvalidInput, match="remote=false"):
        ExperimentTool(module="toy.train", runs=["a"]).submit(manager)


def test_two_real_trainings_and_their_notebook(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    state, notebook = tmp_path / "job_state", tmp_path / "out" / "gym.ipynb"
    root = Path(__file__).resolve().parents[2]
    monkeypatch.setenv("METTA_CPUS", "2")
    try:
        done = metta(
            "--state-dir",
            state,
            "run",
            "gym.experiment",
            "remote=false",
            "group=g",
            f"notebook_path={notebook}",
            'args=["trainer.total_timesteps=4096"]',
            cwd=root,
            timeout=280,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        assert "image/png" in notebook.read_text()
        assert len(list(state.glob("jobs/*/*/checkpoints/*.zip"))) == 2
    finally:
        clean_up(state)
