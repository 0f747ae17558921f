"""An experiment whose runs go through SkyPilot looks in the end as one that stayed here."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.code.repository import repository
from tests.processes import metta
from tests.skypilot.asker import PATIENCE_S, Asker
from tests.skypilot.conftest import THIS_ENVIRONMENT

pytestmark = [pytest.mark.skypilot, pytest.mark.timeout(1500), pytest.mark.xdist_group("skypilot-2")]

RECIPE = '''
"""A training that takes no time."""
import os
from pathlib import Path

from metta_jobs import ExperimentTool, Tool


class Train(Tool):
    steps: int = 3
    diverges: bool = False

    def run(self) -> int:
        for step in range(self.steps):
            print(f"step {step}")
        Path(os.environ["METTA_JOB_DIR"], "weights.txt").write_text(f"{self.steps}")
        if self.diverges:
            raise ValueError("the policy diverged")
        return 0


def train() -> Train:
    return Train()


def experiment() -> ExperimentTool:
    return ExperimentTool(
        module="toy.train",
        runs=["baseline", "longer", "bad"],
        args_per_run={"longer": ["steps=5"], "bad": ["diverges=true"]},
        group="e",
        gpus=0,
        infra="slurm",
    )
'''


def test_an_experiment_of_three_runs_of_which_one_fails(project: Path, asker: Asker) -> None:
    repository(project, {"recipes/__init__.py": "", "recipes/toy.py": RECIPE, ".gitignore": "job_state/\nnotebooks/\n"})
    environment = f"sky.env={json.dumps(THIS_ENVIRONMENT)}"
    done = metta(
        "run", "toy.experiment", "sky.cpus=0.5", 'sky.setup="true"', environment, cwd=project, timeout=PATIENCE_S
    )
    assert done.returncode == 1, done.stdout + done.stderr

    jobs = {job["name"]: job for job in json.loads(metta("job", "list", "e", "--json", cwd=project).stdout)["jobs"]}
    assert {name: (job["executor"], job["state"], job["exit_code"], job["attempt"]) for name, job in jobs.items()} == {
        "baseline": ("skypilot", "succeeded", 0, 1),
        "longer": ("skypilot", "succeeded", 0, 1),
        "bad": ("skypilot", "failed", 1, 1),
        "notebook": ("local", "succeeded", 0, 1),
    }
    for name, steps in (("baseline", 3), ("longer", 5), ("bad", 3)):
        log = metta("job", "logs", jobs[name]["id"], cwd=project).stdout
        assert [line for line in log.splitlines() if line.startswith("step ")] == [f"step {i}" for i in range(steps)]
        assert Path(jobs[name]["folder"], "weights.txt").read_text() == str(steps)
    assert "ValueError: the policy diverged" in metta("job", "logs", jobs["bad"]["id"], cwd=project).stdout
    assert "the policy diverged" in (project / "notebooks" / "e.ipynb").read_text()

    said = {record["job_name"].rsplit("-", 1)[-1]: record["status"] for record in asker.records("-1-")}
    assert {name: said[name] for name in ("baseline", "longer", "bad")} == {
        "baseline": "SUCCEEDED",
        "longer": "SUCCEEDED",
        "bad": "FAILED",
    }
