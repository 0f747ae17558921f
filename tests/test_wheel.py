"""The wheel works alone: in an empty environment, elsewhere, without the checkout."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.conftest import clean_up

ROOT = Path(__file__).resolve().parent.parent
UV = shutil.which("uv")


@pytest.mark.skipif(UV is None, reason="uv builds the wheel, and is not installed")
def test_a_built_wheel_runs_a_job_in_an_empty_environment(tmp_path: Path) -> None:
    def run(*command: str | Path, **environment: str) -> str:
        done = subprocess.run(
            list(map(str, command)),
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ, "HOME": os.environ["UV_HOME"], **environment},
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert UV is not None
    run(UV, "build", "--wheel", "--out-dir", tmp_path / "dist", ROOT)
    (wheel,) = (tmp_path / "dist").glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert "metta_jobs/migrations/versions/0001_first.py" in names
    assert "metta_jobs/py.typed" in names
    assert not [name for name in names if name.startswith(("tests/", "recipes/", "migrations/"))]
    run(UV, "venv", "--python", sys.executable, tmp_path / "env")
    python = tmp_path / "env" / "bin" / "python"
    run(UV, "pip", "install", "--python", python, wheel)
    work = tmp_path / "work"
    work.mkdir()
    try:
        program = f"cd {work} && {tmp_path}/env/bin/metta"
        assert "Job 1 (default/echo) is submitted" in run("sh", "-c", f"{program} job submit -- echo hi")
        run("sh", "-c", f"{program} job wait default --timeout 60")
        assert run("sh", "-c", f"{program} job logs 1") == "hi\n"
    finally:
        clean_up(work / "job_state")
