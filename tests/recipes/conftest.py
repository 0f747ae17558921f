"""Recipes run as people's jobs do: in a process of their own, with an environment that knows no W&B account."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Protocol

import pytest

PROJECT = Path(__file__).parents[2]
_RUN = """
import sys
from pathlib import Path
from metta_jobs.recipe import build
sys.exit(build(sys.argv[2], sys.argv[3:], Path(sys.argv[1])).run())
"""


class StartRecipe(Protocol):
    """Starts a recipe's function in the background."""

    def __call__(self, folder: Path, *arguments: str, **variables: str) -> subprocess.Popen[str]: ...


@pytest.fixture(scope="session")
def start_recipe(tmp_path_factory: pytest.TempPathFactory) -> StartRecipe:
    """Return a starter; the run's artefacts go to `folder`, stdout and stderr come back on one pipe."""
    home = tmp_path_factory.mktemp("home")

    def start(folder: Path, *arguments: str, **variables: str) -> subprocess.Popen[str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("WANDB_", "METTA_"))}
        return subprocess.Popen(
            [sys.executable, "-c", _RUN, str(PROJECT), *arguments],
            cwd=folder,
            env={**kept, "HOME": str(home), "METTA_JOB_DIR": str(folder), **variables},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    return start


class RunRecipe(Protocol):
    """Runs a recipe's function to its end; returns (exit code, output)."""

    def __call__(self, folder: Path, *arguments: str, **variables: str) -> tuple[int, str]: ...


@pytest.fixture(scope="session")
def run_recipe(start_recipe: StartRecipe) -> RunRecipe:
    """Return a runner."""

    def run(folder: Path, *arguments: str, **variables: str) -> tuple[int, str]:
        process = start_recipe(folder, *arguments, **variables)
        output, _ = process.communicate(timeout=120)
        return process.returncode, output

    return run
