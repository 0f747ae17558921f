"""A project whose training is done in milliseconds, and what tests of sweeps do with it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from metta_jobs.manager import JobManager
from metta_jobs.sweep.book import Book, Page
from metta_jobs.sweep.tool import SweepTool
from tests.conftest import clean_up

RECIPE = '''
"""A training whose score is best at x = 0.7, and which costs as much as it is told."""
import json, os, time
from pathlib import Path
from pydantic import BaseModel
from metta_jobs import Tool
from metta_jobs.sweep import Budget, SweepSection, SweepSettings, SweepTool

class Trainer(BaseModel):
    model_config = {"extra": "forbid"}
    x: float = 0.5
    kind: str = "adam"
    steps: int = 3
    fail: bool = False
    lose: bool = False
    pause: float = 0.0

class Train(Tool):
    trainer: Trainer = Trainer()
    seed: int = 1

    def run(self):
        t, folder = self.trainer, Path(os.environ["METTA_JOB_DIR"])
        if t.fail:
            raise ValueError("the policy diverged")
        with (folder / "metrics.jsonl").open("w") as log:
            for step in range(1, t.steps + 1):
                score = 1 - (t.x - 0.7) ** 2 - (0.1 if t.kind == "sgd" else 0) - 1 / (1 + step) + self.seed * 1e-3
                log.write(json.dumps({"step": step, "reward": score, "flops": 10.0 * t.steps}) + "\\n")
                log.flush()
                time.sleep(t.pause)
        (folder / "checkpoints").mkdir()
        (folder / "checkpoints" / "last.txt").write_text(str(t.x))
        return 0

class Evaluate(Tool):
    checkpoint: Path | None = None

    def run(self):
        x = float(self.checkpoint.read_text())
        Path(os.environ["METTA_JOB_DIR"], "metrics.jsonl").write_text(json.dumps({"reward": 100 + x}) + "\\n")
        return 0

def train(seed: int = 1) -> Train:
    """Train."""
    return Train(seed=seed)

def evaluate(checkpoint: Path | None = None) -> Evaluate:
    """Evaluate."""
    return Evaluate(checkpoint=checkpoint)

def sweep(preset: str = "quick", remote: bool = True) -> SweepTool:
    """Search x."""
    return SweepTool(
        module="toy.train",
        remote=remote,
        sweep=SweepSection(
            metric="reward",
            method="random",
            parameters={"trainer": {"x": {"distribution": "uniform", "min": 0, "max": 1}}},
        ),
        settings=SweepSettings(budget=Budget(trials=2 if preset == "quick" else 20), rollout_retry_delay=0),
    )
'''
X = {"trainer": {"x": {"distribution": "uniform", "min": 0, "max": 1}}}


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, own_recipes: None) -> Iterator[Path]:
    """A project with that recipe and room for four jobs."""
    monkeypatch.setenv("METTA_CPUS", "4")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    (tmp_path / "pyproject.toml").write_text("")
    (tmp_path / "recipes").mkdir()
    (tmp_path / "recipes" / "toy.py").write_text(RECIPE)
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    clean_up(tmp_path / "job_state")


def tool(name: str = "s", trials: int | None = 4, **fields: Any) -> SweepTool:
    """A sweep of the toy, on this machine, that draws at random."""
    section = {"metric": "reward", "method": "random", "parameters": X} | fields.pop("sweep", {})
    settings = {"rollout_retry_delay": 0, "budget": {"trials": trials}} | fields.pop("settings", {})
    data = {"name": name, "module": "toy.train", "remote": False, "gpus": 0, "cpus": 0, **fields}
    return SweepTool.model_validate(data | {"sweep": section, "settings": settings})


@pytest.fixture
def finished(project: Path) -> Iterator[Callable[..., Page]]:
    """Run a sweep to its end, as a person would, and return its page."""
    with JobManager(project / "job_state") as manager, Book(manager.state_dir) as book:

        def finish(sweep: SweepTool | None = None, name: str = "s") -> Page:
            if sweep is not None:
                name = sweep.submit(manager).name
            wait_for_end(manager, name)
            return book.page(name)

        yield finish


def wait_for_end(manager: JobManager, name: str) -> None:
    """Wait for the sweep's loops, and with them for all its jobs."""
    from metta_jobs.sweep.launch import loops_of

    manager.wait([job.id for job in loops_of(manager.group(name))], timeout_s=120)
    assert loops_of(manager.group(name))[-1].state == "succeeded"
