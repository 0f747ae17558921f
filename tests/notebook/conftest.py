"""A project with a group of runs whose logs the real wandb wrote."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest
from group_views import LOGGER, group_of, job

from metta_jobs.states import JobState
from metta_jobs.views import GroupView


@pytest.fixture(scope="session")
def logged(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run that logged 300 rewards, with agent steps 100 to 30,000."""
    folder = tmp_path_factory.mktemp("logged")
    env = {key: value for key, value in os.environ.items() if not key.startswith("WANDB_")}
    done = subprocess.run(
        [sys.executable, str(LOGGER), str(folder), "--rows", "300"],
        env={**env, "WANDB_CONSOLE": "off"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty project that is the working directory."""
    project = tmp_path / "project"
    (project / "notebooks").mkdir(parents=True)
    (project / "pyproject.toml").touch()
    monkeypatch.chdir(project / "notebooks")
    monkeypatch.delenv("METTA_JOB_STATE", raising=False)
    monkeypatch.setenv("MPLBACKEND", "Agg")
    return project


@pytest.fixture
def group(project: Path, logged: Path) -> GroupView:
    """A run in every end: good, failed half-way, without metrics, killed, skipped; and the notebook's own job."""
    folders = {}
    for number, name in enumerate(["good", "failed", "mute", "killed"], start=1):
        folders[name] = project / "job_state" / "jobs" / str(number) / "1"
        if name == "mute":
            folders[name].mkdir(parents=True)
        else:
            shutil.copytree(logged, folders[name], symlinks=True)
        (folders[name] / "output.log").write_text("hello\n")
    (folders["killed"] / "links.json").write_text('{"wandb": "https://wandb.example/t/p/runs/k"}')
    (folders["good"] / "checkpoints").mkdir()
    (folders["good"] / "checkpoints" / "step 9.pt").touch()
    tracked = ("overview/reward", "eval/score")
    return group_of(
        job(1, "good", JobState.SUCCEEDED, folders["good"], exit_code=0, duration_s=3725.4, metrics=tracked),
        job(2, "failed", JobState.FAILED, folders["failed"], exit_code=3, duration_s=60.0, metrics=tracked),
        job(3, "mute", JobState.TIMED_OUT, folders["mute"], duration_s=1.0),
        job(4, "killed", JobState.KILLED, folders["killed"], duration_s=2.0),
        job(5, "skipped", JobState.SKIPPED, None),
        job(6, "notebook", JobState.RUNNING, project / "job_state" / "jobs" / "6" / "1", kind="notebook"),
        created_at=datetime(2026, 3, 4, 5, 6, tzinfo=UTC),
    )
