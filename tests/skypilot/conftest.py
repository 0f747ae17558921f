"""What the tests on the bed share: where it is, a manager whose jobs go there, and SkyPilot asked directly.

`make test-skypilot` starts the bed and ends it; without it these tests are skipped. They go side by side in two lines,
since SkyPilot launches two or three jobs at a time on two cores: those in which the API server is killed come last.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from metta_jobs.executors.sky.ledger import project_id
from metta_jobs.manager import JobManager
from metta_jobs.paths import StateDir
from tests.bed.bed import Bed
from tests.conftest import clean_up
from tests.processes import kill_daemon
from tests.skypilot.asker import Asker

_FOLDER, _PYTHON = os.environ.get("METTA_BED_DIR"), os.environ.get("METTA_TEST_SKY_PYTHON")
_MISSING = os.environ.get("METTA_BED_MISSING", "no bed is up: `make test-skypilot` starts one and runs this")


@pytest.fixture
def bed(own_environment: None, monkeypatch: pytest.MonkeyPatch) -> Bed:
    """The bed, and an environment in which SkyPilot means it."""
    if not _FOLDER or not _PYTHON:
        pytest.skip(_MISSING)
    bed = Bed(Path(_FOLDER), _PYTHON)
    for name, value in bed.env().items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("METTA_SKY_PYTHON", _PYTHON)
    monkeypatch.setenv("METTA_CPUS", "4")
    return bed


@pytest.fixture
def asker(bed: Bed, tmp_path: Path) -> Iterator[Asker]:
    """SkyPilot, asked by us."""
    asker = Asker(bed.python, tmp_path)
    yield asker
    asker.client.close()


@pytest.fixture
def project(bed: Bed, tmp_path: Path, asker: Asker) -> Iterator[Path]:
    """An empty project folder; afterwards its daemon is ended, and what it has launched is cancelled."""
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "pyproject.toml").write_text('[project]\nname = "tried"\nversion = "1"\n')
    yield folder
    root = folder / "job_state"
    if root.exists():
        kill_daemon(root)
        left = asker.records(f"metta-{project_id(StateDir(root))}-", skip_finished=True)
        if left:
            asker.value("cancel", job_ids=[record["job_id"] for record in left])
        clean_up(root)


@pytest.fixture
def manager(project: Path) -> Iterator[JobManager]:
    """The manager of that project."""
    with JobManager(project / "job_state") as opened:
        yield opened


@pytest.fixture
def name_start(manager: JobManager) -> str:
    """What the names of all managed jobs of this test begin with."""
    return f"metta-{project_id(StateDir(manager.state_dir))}-"


#: What an experiment's job needs on a node that is this machine: our own environment, as it is.
THIS_ENVIRONMENT = {"UV_PROJECT_ENVIRONMENT": sys.prefix, "PYTHONPATH": str(Path(__file__).parents[2])}
