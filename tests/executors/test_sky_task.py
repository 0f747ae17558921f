"""What is handed to SkyPilot as a task."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from metta_jobs.executors.base import LaunchSpec
from metta_jobs.executors.sky.outcome import read_outcome
from metta_jobs.executors.sky.task import task_of
from metta_jobs.remote import RemoteConfig


def launch(*command: str, **remote: Any) -> dict[str, Any]:
    config = RemoteConfig(gpus=0, workdir=None, **remote)
    spec = LaunchSpec((1, 1), "", command, None, {}, remote=config.model_dump(mode="json"))
    return task_of(spec, "abc")


@pytest.mark.parametrize(("setup", "code", "told"), [("A=1; touch made", 0, True), ("echo no; false", 1, False)])
def test_a_pool_runs_the_setup_before_the_command(tmp_path: Path, setup: str, code: int, told: bool) -> None:
    launched = launch("sh", "-c", "test -e made && echo ran", pool="lab", setup=setup)
    assert (launched["pool"], launched["task"]["setup"]) == ("lab", None)
    done = subprocess.run(
        ["bash", "-c", launched["task"]["run"]],
        cwd=tmp_path,
        env={"HOME": str(tmp_path), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == code
    assert (read_outcome(done.stdout, "abc") is not None, "ran" in done.stdout) == (told, told)
    assert ("The setup failed." in done.stdout) is not told


def test_the_environment_is_made_where_our_python_is_meant() -> None:
    assert "uv sync" in launch(sys.executable, "x.py")["task"]["setup"]
    assert launch(sys.executable, "x.py", setup="true")["task"]["setup"] == "true"
    assert launch("python", "x.py")["task"]["setup"] is None
    assert "uv sync" in launch(sys.executable, "x.py", pool="lab")["task"]["run"]
