"""What the recipes offer, what they refuse, and what they do not load."""

from __future__ import annotations

import subprocess
import sys
from collections import namedtuple
from pathlib import Path

import pytest

from metta_jobs.errors import InvalidInput, MissingExtra, UnknownName
from metta_jobs.experiment import ExperimentTool
from metta_jobs.recipe import build, list_recipes
from recipes.ppo import requirements
from recipes.ppo.tool import ArenaEvaluateTool, ArenaTrainTool, GymTrainTool

PROJECT = Path(__file__).parents[2]
HEAVY = ("torch", "stable_baselines3", "mettagrid", "wandb", "gymnasium", "pandas", "matplotlib")


def test_the_recipes_are_listed_with_one_line_each() -> None:
    found, broken = list_recipes(PROJECT)
    assert broken == []
    names = {recipe.name for recipe in found}
    wanted = {f"{module}.{verb}" for module in ("arena", "gym") for verb in ("train", "evaluate", "experiment")}
    assert wanted <= names
    assert all(recipe.title.endswith(".") for recipe in found if recipe.name in wanted)


@pytest.mark.parametrize("module", ["arena", "gym"])
def test_importing_a_recipe_and_building_its_tools_loads_nothing_heavy(module: str) -> None:
    code = (
        "import sys; from pathlib import Path; from metta_jobs.recipe import build\n"
        f"for verb in ('train', 'evaluate', 'experiment'): build(f'{module}.{{verb}}', [], Path(sys.argv[1]))\n"
        f"print([name for name in {HEAVY!r} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code, str(PROJECT)], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_overrides_reach_the_nested_fields() -> None:
    tool = build(
        "arena.train", ["trainer.total_timesteps=1000000", "env.num_agents=4", "seed=7", "trainer.n_steps=32"], PROJECT
    )
    assert isinstance(tool, ArenaTrainTool)
    assert (tool.trainer.total_timesteps, tool.trainer.n_steps) == (1_000_000, 32)
    assert (tool.env.num_agents, tool.num_envs, tool.seed) == (4, 32, 7)


def test_the_two_gym_tasks_have_settings_of_their_own() -> None:
    cartpole, pendulum = (build("gym.train", [f"env={env}"], PROJECT) for env in ("CartPole-v1", "Pendulum-v1"))
    assert isinstance(cartpole, GymTrainTool)
    assert isinstance(pendulum, GymTrainTool)
    assert (cartpole.env, pendulum.env) == ("CartPole-v1", "Pendulum-v1")
    assert cartpole.trainer != pendulum.trainer


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("trainer.batch_size=1000", r"does not divide the rollout of 64 steps × 64 agents = 4096 .*batch_size=1024"),
        ("trainer.batch_size=1", r"at least 2"),
        ("trainer.total_timesteps=0", r"total_timesteps.*greater than 0"),
        ("trainer.n_steps=-64", r"n_steps.*greater than 0"),
        ("trainer.learning_rate=0", r"learning_rate.*greater than 0"),
        ("trainer.learning_rate=NaN", r"learning_rate.*at most 1"),
        ("trainer.max_grad_norm=Infinity", r"max_grad_norm.*finite"),
        ("trainer.gamma=1.5", r"gamma.*from 0 to 1"),
        ("trainer.ent_coef=-0.1", r"ent_coef.*at least 0"),
        ("env.num_altars=700", r"do not fit into the arena's 625 cells"),
        ("env.max_steps=0", r"max_steps.*from 1 to 100000"),
        ("checkpoint_every=0", r"checkpoint_every.*greater than 0"),
        ("seed=-1", r"seed.*at least 0"),
        ("device=tpu", r"device"),
    ],
)
def test_values_that_cannot_be_used_are_refused(argument: str, message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        build("arena.train", [argument], PROJECT)


@pytest.mark.parametrize(
    ("argument", "hint"),
    [("trainer.learning_rat=0.1", "learning_rate"), ("env.num_agent=3", "num_agents"), ("sede=3", "seed")],
)
def test_unknown_fields_are_refused_with_the_nearest_name(argument: str, hint: str) -> None:
    with pytest.raises(UnknownName, match=f"Did you mean .*{hint}"):
        build("arena.train", [argument], PROJECT)


def test_a_batch_spoilt_by_assignment_is_refused_before_the_work() -> None:
    tool = build("arena.train", [], PROJECT)
    assert isinstance(tool, ArenaTrainTool)
    tool.trainer.batch_size = 1000
    with pytest.raises(InvalidInput, match="does not divide"):
        tool.run()


def test_a_checkpoint_that_is_no_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="is no file"):
        ArenaEvaluateTool(checkpoint=tmp_path / "nothing.zip").run()


def test_missing_packages_say_how_to_get_them(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(MissingExtra, match=r"\(no-such-package\): run `uv sync --extra train`"):
        requirements.require("sys", "no_such_package")
    monkeypatch.setattr(requirements, "find_spec", lambda name: None)
    version = namedtuple("version", ["major", "minor", "micro"])
    monkeypatch.setattr(requirements.sys, "version_info", version(3, 13, 1))
    with pytest.raises(MissingExtra, match=r"only for Python 3\.11 and 3\.12, and this is Python 3\.13"):
        requirements.require("mettagrid")


@pytest.mark.parametrize(("name", "variant"), [("arena", "high_lr"), ("gym", "low_lr")])
def test_an_experiment_has_a_baseline_and_a_variant_that_differ(name: str, variant: str) -> None:
    tool = build(f"{name}.experiment", ["remote=false"], PROJECT)
    assert isinstance(tool, ExperimentTool)
    assert (tool.runs, tool.remote) == (["baseline", variant], False)
    rates = {
        run: build(tool.module, tool.args_per_run.get(run, []), PROJECT).trainer.learning_rate for run in tool.runs
    }
    assert rates["baseline"] != rates[variant]
    assert [job.name for job in tool.jobs(PROJECT)] == ["baseline", variant, "notebook"]
