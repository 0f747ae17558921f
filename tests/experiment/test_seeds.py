"""An experiment over seeds: from the command line to the table of variants."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from metta_jobs.errors import InvalidInput
from metta_jobs.experiment import ExperimentTool
from metta_jobs.job import JobConfig
from metta_jobs.manager import JobManager
from metta_jobs.notebook import results, summary
from tests.conftest import clean_up
from tests.processes import metta

RECIPE = '''
"""A recipe whose reward tells its seed."""
from metta_jobs import ExperimentTool, Tool

class Train(Tool):
    number: int = 0
    bonus: float = 0.0
    fails: list[int] = []

    def run(self) -> int:
        import wandb
        run = wandb.init(project="toy", config={"total_timesteps": 100})
        for step in range(10, 101, 10):
            run.log({"overview/reward": self.number + self.bonus, "overview/sps": 1.0, "metric/agent_step": step})
            if self.number in self.fails and step == 50:
                raise ValueError("the policy diverged")
        run.finish()
        return 0

class Seeded(Train):
    seed: int = 0

def train(seed: int = 1) -> Train:
    """Train."""
    return Train(number=seed)

def fielded() -> Seeded:
    """Train, the seed being a field."""
    return Seeded()

def unseeded() -> Train:
    """Train, always the same."""
    return Train()

def experiment(remote: bool = True, seeds: int | list[int] | None = None) -> ExperimentTool:
    """Two variants."""
    return ExperimentTool(
        module="toy.train", runs=["base", "new"], args_per_run={"new": ["bonus=0.5"]}, seeds=seeds, remote=remote
    )
'''


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, own_recipes: None) -> Iterator[Path]:
    """A project with one recipe and room for two jobs."""
    monkeypatch.setenv("METTA_CPUS", "2")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pyproject.toml").write_text("")
    (tmp_path / "recipes").mkdir()
    (tmp_path / "recipes" / "toy.py").write_text(RECIPE)
    yield tmp_path
    clean_up(tmp_path / "job_state")


def tool(**fields: object) -> ExperimentTool:
    return ExperimentTool(**{"module": "toy.train", "runs": ["base", "new"], "remote": False} | fields)


def test_runs_times_seeds_first_seeds_first(project: Path) -> None:
    *runs, notebook = tool(seeds=2, args_per_run={"new": ["bonus=1"]}).jobs(project)
    assert [(job.name, job.variant, job.seed) for job in runs] == [
        ("base.s1", "base", 1),
        ("new.s1", "new", 1),
        ("base.s2", "base", 2),
        ("new.s2", "new", 2),
    ]
    assert runs[3].command[-3:] == ("toy.train", "bonus=1", "seed=2")
    *plain, _ = tool(args=["bonus=2", "number=7"], args_per_run={"new": ["bonus=1"]}).jobs(project)
    assert [job.command[-2:] for job in plain] == [("bonus=2", "number=7"), ("number=7", "bonus=1")]
    assert [dependency.job for dependency in notebook.depends_on] == [job.name for job in runs]
    assert (notebook.variant, notebook.seed) == (None, None)
    assert [job.name for job in tool(seeds=[7, 3], runs=["a"]).jobs(project)] == ["a.s7", "a.s3", "notebook"]
    assert [job.seed for job in tool(module="toy.fielded", seeds=1).jobs(project)][:2] == [1, 1]


def test_without_seeds_nothing_changes(project: Path) -> None:
    *runs, _ = tool(module="toy.unseeded").jobs(project)
    assert [(job.name, job.variant, job.seed, job.command[-1]) for job in runs] == [
        ("base", None, None, "toy.unseeded"),
        ("new", None, None, "toy.unseeded"),
    ]


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"seeds": 0}, "seeds=0 makes no run"),
        ({"seeds": []}, r"seeds=\[\] makes no run"),
        ({"seeds": [1, 1]}, "seed 1 is named twice"),
        ({"seeds": [-1]}, "negative"),
        ({"seeds": True}, "whole numbers"),
    ],
)
def test_seeds_that_make_no_sense(fields: dict[str, object], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        tool(**fields)


def test_a_recipe_that_takes_no_seed_is_told_so(project: Path) -> None:
    with pytest.raises(InvalidInput, match=r"Run 'base': .* toy.unseeded takes none: give that function a parameter"):
        tool(module="toy.unseeded", seeds=2).jobs(project)
    with pytest.raises(InvalidInput, match="Run 'new': its arguments set seed, and so does seeds"):
        tool(seeds=2, args_per_run={"new": ["seed=4"]}).jobs(project)


def test_from_the_shell_to_the_notebook_and_one_seed_tried_again(project: Path) -> None:
    bad = 'args_per_run={"base": ["fails=[3]"], "new": ["bonus=0.5"]}'
    done = metta("run", "toy.experiment", "remote=false", "seeds=3", "group=g", bad, cwd=project, timeout=200)
    assert done.returncode == 1

    listed = metta("job", "list", "g", cwd=project).stdout
    assert [line.split()[:5] for line in listed.splitlines()[1:3]] == [
        ["base", "✗", "2/3", "done,", "1"],
        ["new", "✓", "3/3", "done", "1"],
    ]
    assert "s3 (5): exit code 1" in listed and "--all shows every job" in listed
    assert "base.s2" not in listed and "notebook" in listed
    assert "base.s2" in metta("job", "list", "g", "--all", cwd=project).stdout
    assert "base.s3" in metta("job", "list", "g", "--state", "failed", cwd=project).stdout
    jobs = json.loads(metta("job", "list", "g", "--json", cwd=project).stdout)["jobs"]
    assert [(job["name"], job["variant"], job["seed"]) for job in jobs][-2:] == [
        ("new.s3", "new", 3),
        ("notebook", None, None),
    ]

    frame = summary("g").frame
    assert (frame.seeds["base"], frame.iqm["base"], frame.left_out["base"]) == (2, 1.5, "s3 (failed with exit code 1)")
    assert (frame.common_seeds["new"], frame.difference["new"]) == (2, 0.5)
    data = results("g")
    assert list(data.columns) == ["run", "variant", "seed", "step", "metric", "value"]
    third = data[(data.run == "base.s3") & (data.metric == "overview/reward")]
    assert list(third.step) == [10, 20, 30, 40, 50]
    assert (set(third.value), set(third.seed), set(third.variant)) == ({3.0}, {3}, {"base"})

    printed = json.loads((project / "notebooks" / "g.ipynb").read_text())["cells"]
    outputs = {cell["id"]: json.dumps(cell["outputs"]) for cell in printed if cell["cell_type"] == "code"}
    assert "base.s3 (failed with exit code 1)" in outputs["variants"] and "2 of 3" in outputs["variants"]
    assert "image/png" in outputs["curves"] and "image/png" in outputs["final"]

    with JobManager(project / "job_state") as manager:
        with pytest.raises(InvalidInput, match=r"base.s3 is seed 3 of its variant"):
            manager.retry(["g/base.s3"], changes=["seed=4"])
        (again,) = manager.retry(["g/base"], failed=True, changes=["fails=[]"])
        assert (again.name, again.seed) == ("base.s3", 3)
        manager.wait(["g/base.s3"], timeout_s=100)
        assert manager.job(again.id).state == "succeeded"
    assert summary("g").frame.iqm["base"] == 2


def test_a_variant_s_name_means_its_seeds_unless_a_job_is_called_so(manager: JobManager) -> None:
    jobs = [JobConfig(name=f"v.s{seed}", command=("true",), variant="v", seed=seed) for seed in (1, 2)]
    other = JobConfig(name="w.s1", command=("true",), variant="w", seed=1)
    manager.submit([*jobs, other, JobConfig(name="w", command=("true",))], group="g")
    assert [job.name for job in manager.jobs(["g/v"])] == ["v.s1", "v.s2"]
    assert [job.name for job in manager.jobs(["g/w"])] == ["w"]
    with pytest.raises(InvalidInput, match=r"no job 'vv'. Did you mean 'v"):
        manager.jobs(["g/vv"])
