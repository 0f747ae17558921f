from __future__ import annotations

from pathlib import Path

import pytest

from metta_jobs.errors import InvalidInput, UnknownName
from metta_jobs.recipe import build, find_recipe, list_recipes
from tests.processes import metta

RECIPE = '''
"""A recipe for tests."""
from typing import Literal
from pydantic import BaseModel, Field, model_validator
from metta_jobs import Tool

class Trainer(BaseModel):
    model_config = {"extra": "forbid"}
    steps: int = Field(default=10, gt=0)
    batch: int = 8
    minibatch: int = 4
    tags: list[str] = []

    @model_validator(mode="after")
    def fits(self):
        if self.batch % self.minibatch:
            raise ValueError(f"batch={self.batch} must be a multiple of minibatch={self.minibatch}")
        return self

class Train(Tool):
    trainer: Trainer = Trainer()
    seed: int = 0
    label: str = "x"
    lr: float | None = None
    env: dict[str, float] = {}

    def run(self):
        print(self.model_dump_json())
        return 3

def train(seed: int = 1, kind: Literal["ppo", "sac"] = "ppo") -> Train:
    """Train something.

    More words."""
    return Train(seed=seed, label=kind)

def needs(what: str) -> Train:
    """Needs an argument."""
    return Train(label=what)

def raises() -> Train:
    """Raises."""
    raise RuntimeError("boo")

def wrong() -> Train:
    """Returns no tool."""
    return 1

def _private() -> Train: ...

def helper() -> int:
    return 1
'''


@pytest.fixture
def project(tmp_path: Path, own_recipes: None) -> Path:
    """A project with one recipe."""
    (tmp_path / "pyproject.toml").write_text("")
    (tmp_path / "recipes").mkdir()
    (tmp_path / "recipes" / "toy.py").write_text(RECIPE)
    return tmp_path


def test_arguments_are_typed_and_fields_overridden(project: Path) -> None:
    tool = build(
        "toy.train",
        ["seed=7", "kind=sac", "trainer.steps=1e3", "trainer.tags=['a', \"b\"]", "lr=3e-4", "label=123", "env.x=2"],
        project,
    )
    assert tool.model_dump() == {
        "trainer": {"steps": 1000, "batch": 8, "minibatch": 4, "tags": ["a", "b"]},
        "seed": 7,
        "label": "123",
        "lr": 3e-4,
        "env": {"x": 2.0},
    }
    assert build("toy.train", ["lr=null"], project).model_dump()["lr"] is None
    assert build("toy.train", ['trainer={"steps": 5}'], project).model_dump()["trainer"]["steps"] == 5


def test_fields_that_must_fit_each_other_are_checked_together(project: Path) -> None:
    tool = build("toy.train", ["trainer.batch=9", "trainer.minibatch=3"], project)
    assert tool.model_dump()["trainer"]["minibatch"] == 3


@pytest.mark.parametrize(
    ("name", "arguments", "error", "says"),
    [
        ("toi.train", [], UnknownName, "no recipe 'toi'. Did you mean 'toy'"),
        ("toy.trian", [], UnknownName, "no function 'trian'. Did you mean 'train'"),
        ("toy", [], UnknownName, "write RECIPE.FUNCTION. toy has toy.train, toy.needs, toy.raises, toy.wrong"),
        ("toy._private", [], UnknownName, "no function"),
        ("toy.train", ["sede=1"], UnknownName, "no field 'sede' in Train. Did you mean 'seed'"),
        ("toy.train", ["trainer.step=1"], UnknownName, "'trainer.step' in Trainer. Did you mean 'steps'"),
        ("toy.train", ["trainer.steps=abc"], InvalidInput, "trainer.steps=abc: it must be a whole number"),
        ("toy.train", ["trainer.steps=-1"], InvalidInput, "trainer.steps"),
        ("toy.train", ["seed=x"], InvalidInput, "seed=x: it must be a whole number"),
        ("toy.train", ["kind=dqn"], InvalidInput, "kind=dqn.*'ppo'"),
        ("toy.train", ["trainer.batch=9"], InvalidInput, "trainer: batch=9 must be a multiple of minibatch=4"),
        ("toy.train", ["seed"], InvalidInput, "write key=value"),
        ("toy.train", ["seed=1", "seed=2"], InvalidInput, "seed is given twice"),
        ("toy.train", ["lr=x"], InvalidInput, r"lr=x: it must be a number, or null\."),
        ("toy.raises", [], InvalidInput, "toy.raises raised an error:.*toy.py.*boo"),
        ("toy.train", ["label.x=1"], InvalidInput, "label has no fields"),
        ("toy.train", ['trainer={"steps": 5}', "trainer.batch=8"], InvalidInput, "whole and in parts"),
        ("toy.needs", [], InvalidInput, "needs what=<str>"),
        ("toy.wrong", [], InvalidInput, "must return a Tool"),
    ],
)
def test_what_is_wrong_is_said(
    project: Path, name: str, arguments: list[str], error: type[Exception], says: str
) -> None:
    with pytest.raises(error, match=f"(?s){says}"):
        build(name, arguments, project)


def test_a_recipe_that_raises_on_import_shows_its_own_last_lines(project: Path) -> None:
    (project / "recipes" / "broken.py").write_text("import json\n\n\nvalue = json.loads('{')\n")
    with pytest.raises(InvalidInput, match=r"(?s)'broken' could not be imported.*Expecting property name"):
        find_recipe("broken.train", project)
    found, errors = list_recipes(project)
    assert [recipe.name for recipe in found] == ["toy.train", "toy.needs", "toy.raises", "toy.wrong"]
    assert len(errors) == 1 and "broken.py" in errors[0]


def test_listing_gives_a_line_each(project: Path) -> None:
    found, _ = list_recipes(project)
    assert {recipe.name: recipe.title for recipe in found}["toy.train"] == "Train something."


def test_any_importable_path_will_do(project: Path) -> None:
    (project / "elsewhere.py").write_text(RECIPE)
    assert build("elsewhere.train", ["seed=4"], project).model_dump()["seed"] == 4


def test_metta_run_returns_the_tool_s_code_and_dry_run_stores_nothing(project: Path) -> None:
    done = metta("run", "toy.train", "seed=5", cwd=project)
    assert (done.returncode, '"seed":5' in done.stdout) == (3, True)
    dry = metta("run", "toy.train", "seed=5", "--dry-run", cwd=project)
    assert (dry.returncode, '"seed": 5' in dry.stdout) == (0, True)
    bad = metta("run", "toy.train", "sed=5", cwd=project)
    assert (bad.returncode, "Did you mean 'seed'" in bad.stderr, "Traceback" in bad.stderr) == (2, True, False)
    assert metta("run", cwd=project).returncode == 2
    listed = metta("run", "--list", cwd=project)
    assert "toy.train" in listed.stdout and "Train something." in listed.stdout
    assert not (project / "job_state").exists()
