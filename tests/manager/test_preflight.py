"""What is looked at before remote jobs are stored, and how its problems are told."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from metta_jobs.errors import InvalidInput, MissingExtra
from metta_jobs.job import JobConfig
from metta_jobs.manager.preflight import Finding, examine, refuse
from metta_jobs.remote import RemoteConfig, legal_name
from tests.code.repository import commit, git, repository, with_remote, write

RECIPE = '''
from metta_jobs import Tool

class Train(Tool):
    steps: int = 30

    def run(self) -> int:
        return 0

def train() -> Train:
    """Train."""
    print("built")
    return Train()
'''
FINE = {"version": "0.14.1", "endpoint": "http://sky", "healthy": True, "enabled": ["slurm", "AWS"]}


def job(name: str = "a", *arguments: str, **remote: Any) -> JobConfig:
    """A remote job; with arguments it runs a recipe."""
    command = (sys.executable, "-m", "metta_jobs", "run", *arguments) if arguments else ("true",)
    return JobConfig(name=name, command=command, remote=RemoteConfig(**remote))


def problems(*configs: JobConfig, project: Path = Path("/"), **given: Any) -> dict[str, str]:
    """What is wrong, by check: what is said, and the remedy."""
    given = {"check": lambda: FINE, "find_python": lambda: "/opt/python", "environment": {}} | given
    found = [finding for finding in examine(configs, project, **given) if not finding.ok]
    return {finding.check: f"{finding.said} {finding.remedy or ''}".strip() for finding in found}


def test_jobs_that_stay_here_need_nothing() -> None:
    assert examine([JobConfig(name="lr=1", command=("true",), env={"WANDB_MODE": "online"})], Path("/")) == []


def test_all_is_well(tmp_path: Path) -> None:
    found = examine(
        [job("a"), job("b")], tmp_path, check=lambda: FINE, find_python=lambda: "/opt/python", environment={}
    )
    assert found == [
        Finding("names", True, "SkyPilot takes the names of all 2 jobs."),
        Finding("wandb", True, "Runs are logged offline."),
        Finding("runs", True, "0 distinct configurations can be built."),
        Finding("skypilot", True, "SkyPilot is run by /opt/python."),
        Finding("infra", True, "http://sky can use aws, slurm."),
    ]


# --------------------------------------------------------------------------------------------------- git


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    return with_remote(repository(tmp_path / "tree", {"a.py": "a"}), tmp_path / "far.git")


def test_git_is_asked_only_where_the_code_comes_from_it(tmp_path: Path) -> None:
    assert problems(job(workdir="snapshot"), job(workdir=None), project=tmp_path) == {}
    said = problems(job(), job(workdir="git"), project=tmp_path)["git"]
    assert said.endswith("is in no git repository. workdir=snapshot ships the files as they are.")
    assert problems(job(workdir="git"), project=tmp_path, skip_git_check=True) == {}


def test_a_clean_and_pushed_tree_is_well(tree: Path) -> None:
    assert problems(job(workdir="git"), project=tree) == {}


def test_changes_are_told_and_so_is_a_commit_that_was_not_pushed(tree: Path) -> None:
    write(tree, {"a.py": "b"})
    assert "changes that the commit" in problems(job(workdir="git"), project=tree)["git"]
    head = commit(tree)
    said = problems(job(workdir="git"), project=tree)["git"]
    assert said.startswith(f"The commit {head[:12]} is not on any branch of {tree.parent / 'far.git'}. `git push`")
    git(tree, "push", "-q")
    assert problems(job(workdir="git"), project=tree) == {}
    git(tree, "remote", "remove", "origin")
    assert "git remote add" in problems(job(workdir="git"), project=tree)["git"]


# --------------------------------------------------------------------------------------------------- W&B, names, files


@pytest.mark.parametrize(
    ("environment", "env", "remote_env", "well"),
    [
        ({}, {}, {}, True),
        ({"WANDB_MODE": "online"}, {}, {}, False),
        ({"WANDB_MODE": "online", "WANDB_API_KEY": "k"}, {}, {}, True),
        ({"WANDB_API_KEY": "k"}, {"WANDB_MODE": "online"}, {}, True),
        ({}, {"WANDB_MODE": "online"}, {}, False),
        ({}, {"WANDB_MODE": "online"}, {"WANDB_MODE": "offline"}, True),
        ({"WANDB_MODE": "offline"}, {}, {"WANDB_MODE": "shared"}, False),
        ({"WANDB_MODE": "disabled"}, {}, {}, True),
    ],
)
def test_who_insists_on_wandb_needs_a_login(
    tmp_path: Path, environment: dict[str, str], env: dict[str, str], remote_env: dict[str, str], well: bool
) -> None:
    home = {"HOME": str(tmp_path)}
    config = JobConfig(name="run7", command=("true",), env=env, remote=RemoteConfig(env=remote_env))
    found = problems(config, environment=environment | home)
    assert ("wandb" not in found) is well
    if not well:
        assert found["wandb"].startswith("run7: WANDB_MODE is online, and there is no login to W&B. `wandb login`")
        (tmp_path / ".netrc").write_text("machine api.wandb.ai login user password p\n")
        assert problems(config, environment=environment | home) == {}


def test_names_that_skypilot_refuses_are_told_with_one_that_it_takes() -> None:
    configs = [job("lr=0.1"), job("fine"), job("ä"), job("a,b"), job("a@b")]
    said = problems(*configs)["names"]
    assert said.startswith("SkyPilot takes no job that is named 'lr=0.1', 'ä', 'a,b' and 1 more.")
    assert said.endswith("'lr-0.1'.")
    assert problems(*configs, name_of=lambda config: legal_name(config.name)) == {}


def test_what_is_to_be_shipped_must_be_there(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    fine = job(workdir=tmp_path, file_mounts={"/d": str(tmp_path / "data"), "/b": "s3://bucket"})
    assert problems(fine) == {}
    gone = job(workdir=tmp_path / "gone")
    assert problems(gone, gone)["files"] == f"The workdir {tmp_path}/gone is no folder. " + (
        "Name a folder, or say workdir=snapshot."
    )
    assert "which is to be mounted at /d, is not there" in problems(job(file_mounts={"/d": "/no/where"}))["files"]


def test_secrets_must_be_in_the_environment() -> None:
    config = job(secrets=("HF_TOKEN", "OTHER"))
    assert problems(config)["secrets"] == "HF_TOKEN, OTHER: not in your environment. `export HF_TOKEN=…` first."
    assert problems(config, environment={"HF_TOKEN": "x", "OTHER": ""}) == {}


# --------------------------------------------------------------------------------------------------- SkyPilot


def test_without_an_interpreter_nothing_is_asked() -> None:
    def absent() -> str:
        raise MissingExtra("No Python here has SkyPilot.")

    assert problems(job(), find_python=absent, check=fails(AssertionError())) == {
        "skypilot": "No Python here has SkyPilot."
    }

    def not_built() -> str:
        raise ModuleNotFoundError("metta_jobs.executors.sky")

    assert problems(job(), find_python=not_built)["skypilot"].startswith("SkyPilot is not installed. `uv tool install")


def fails(error: BaseException) -> Callable[[], dict[str, Any]]:
    """A check that raises."""

    def check() -> dict[str, Any]:
        raise error

    return check


@pytest.mark.parametrize(
    ("answer", "infra", "says"),
    [
        ({"healthy": False}, None, "http://sky does not answer as it should. `sky api info`"),
        ({"enabled": []}, None, "http://sky has no infra enabled. `sky check` says"),
        ({"enabled": None}, None, "has no infra enabled"),
        ({"endpoint": None, "enabled": []}, None, "SkyPilot's API server has no infra enabled"),
        ({}, "gcp/us-east1", "gcp is not enabled at http://sky; there is aws, slurm. `sky check gcp` says"),
        ({}, "slurm/lab", None),
        ({"enabled": ["Kubernetes/context"]}, "k8s", None),
        ({}, "*", None),
    ],
)
def test_the_infra_must_be_enabled(answer: dict[str, Any], infra: str | None, says: str | None) -> None:
    found = problems(job(infra=infra), check=lambda: FINE | answer)
    assert found.keys() == (set() if says is None else {"infra"})
    assert says is None or says in found["infra"]


def test_a_server_that_cannot_be_asked_is_told_in_its_words() -> None:
    assert problems(job(), check=fails(InvalidInput("It is away."))) == {"infra": "It is away."}


# --------------------------------------------------------------------------------------------------- runs


def test_each_distinct_configuration_is_built_once(
    tmp_path: Path, own_recipes: None, capsys: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path, {"pyproject.toml": "", "recipes/toy.py": RECIPE})
    runs = [job(f"r{n}", "toy.train", f"steps={n % 2}") for n in range(6)]
    assert problems(*runs, job("other"), project=tmp_path) == {}
    assert capsys.readouterr().out.count("built") == 2
    wrong = [job("good", "toy.train"), job("bad", "toy.train", "stebs=1"), job("worse", "toy.train", "steps=x")]
    said = problems(*wrong, project=tmp_path)["runs"]
    assert "bad: There is no field 'stebs' in Train. Did you mean 'steps'?" in said
    assert "; worse: steps=x" in said
    assert "good" not in said


# --------------------------------------------------------------------------------------------------- told together


def test_one_problem_is_told_as_it_is() -> None:
    with pytest.raises(InvalidInput) as refused:
        refuse([Finding("a", True, "Fine."), Finding("b", False, "Broken.", "Mend it.")])
    assert str(refused.value) == "Broken. Mend it."


def test_several_are_told_together_a_line_each(tmp_path: Path) -> None:
    config = job("lr=1", workdir=tmp_path / "gone", secrets=("A",))
    with pytest.raises(InvalidInput) as refused:
        refuse(
            examine(
                [config],
                tmp_path,
                check=lambda: FINE | {"enabled": []},
                find_python=lambda: "/opt/python",
                environment={},
            )
        )
    head, *lines = str(refused.value).splitlines()
    assert head == "Before these jobs can run remotely, 4 things have to be seen to:"
    assert [line.split(":")[0].strip() for line in lines] == ["names", "files", "secrets", "infra"]
