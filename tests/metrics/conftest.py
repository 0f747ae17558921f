"""Real logs, made once by the real wandb in a process of its own."""

from __future__ import annotations

from pathlib import Path

import pytest
from wandb_runs import log


@pytest.fixture(scope="session")
def run_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One start, 300 steps of 100 agent steps."""
    return log(tmp_path_factory.mktemp("run"), "--rows", "300")


@pytest.fixture(scope="session")
def resumed_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two starts of one run: steps 0..39, then 30..69 with another reward."""
    return log(tmp_path_factory.mktemp("resumed"), "--rows", "40", "--starts", "2")


@pytest.fixture(scope="session")
def plain_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two starts that log 20 rewards each and no step, with an empty config."""
    return log(tmp_path_factory.mktemp("plain"), "--rows", "20", "--starts", "2", "--plain")
