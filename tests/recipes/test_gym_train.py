"""A whole training of CartPole, in a process of its own: curves, checkpoints, evaluation, ends."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from conftest import RunRecipe
from stable_baselines3 import PPO

from metta_jobs.errors import InvalidInput
from metta_jobs.metrics import ProgressReader, find_artifacts, read_series
from metta_jobs.recipe import build
from recipes.ppo.learn import make_model
from recipes.ppo.tool import GymTrainTool

PROJECT = Path(__file__).parents[2]
STEPS = 8192


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, run_recipe: RunRecipe) -> tuple[Path, str]:
    """The folder and the output of a short training of CartPole."""
    folder = tmp_path_factory.mktemp("cartpole")
    code, output = run_recipe(
        folder, "gym.train", f"trainer.total_timesteps={STEPS}", "checkpoint_every=2048", "keep_checkpoints=2"
    )
    assert code == 0, output
    return folder, output


@pytest.mark.xdist_group("cartpole")
def test_rows_are_logged_offline_under_the_names_of_the_house(trained: tuple[Path, str]) -> None:
    folder, _ = trained
    series = read_series(folder, ["overview/reward", "overview/sps", "train/loss"])
    rewards = series["overview/reward"]
    assert rewards.steps == [0, *range(512, STEPS + 1, 512)]
    assert series["overview/sps"].steps == rewards.steps[1:]
    assert series["train/loss"].steps == rewards.steps[1:]
    assert min(series["overview/sps"].values) > 0
    assert 10 < rewards.values[0] < 50, "an untrained policy holds the pole some twenty steps"
    assert rewards.values[-1] > 2 * rewards.values[0], "it has learnt something"


@pytest.mark.xdist_group("cartpole")
def test_the_progress_and_the_artefacts_are_found(trained: tuple[Path, str]) -> None:
    folder, _ = trained
    progress = ProgressReader(folder).poll()
    assert (progress.steps, progress.total) == (STEPS, STEPS)
    checkpoints = sorted(path.name for path in (folder / "checkpoints").iterdir())
    assert checkpoints == ["step-000000006144.zip", "step-000000008192.zip"]
    assert PPO.load(folder / "checkpoints" / checkpoints[-1], device="cpu").num_timesteps == STEPS
    assert {artifact.kind for artifact in find_artifacts(folder)} == {"wandb", "checkpoint"}
    assert not (folder / "links.json").exists()


@pytest.mark.xdist_group("cartpole")
def test_people_read_one_plain_line_per_row(trained: tuple[Path, str]) -> None:
    lines = trained[1].splitlines()
    assert lines[0].startswith("CartPole-v1: 8 agents at once, 8,192 agent steps, into ")
    assert lines[1].startswith("step 0 of 8,192 · reward ")
    assert sum(line.startswith("step ") for line in lines) == 1 + STEPS // 512
    assert lines[-1].startswith("Done: 8,192 steps in ")


@pytest.mark.xdist_group("cartpole")
def test_a_checkpoint_is_evaluated(trained: tuple[Path, str], tmp_path: Path, run_recipe: RunRecipe) -> None:
    [*_, checkpoint] = sorted((trained[0] / "checkpoints").iterdir())
    code, output = run_recipe(tmp_path, "gym.evaluate", f"checkpoint={checkpoint}", "episodes=16")
    assert code == 0, output
    result = json.loads(output)
    assert (result["episodes"], result["agent_step"]) == (16, STEPS)
    assert 40 < result["reward_mean"] <= 500
    assert result["reward_min"] <= result["reward_mean"] <= result["reward_max"]
    logged = read_series(tmp_path, ["overview/reward"])["overview/reward"]
    assert logged.steps == [STEPS]
    assert logged.values[0] == pytest.approx(result["reward_mean"], abs=1e-3)


@pytest.mark.xdist_group("cartpole")
def test_a_checkpoint_of_another_environment_is_refused(trained: tuple[Path, str]) -> None:
    [*_, checkpoint] = sorted((trained[0] / "checkpoints").iterdir())
    with pytest.raises(InvalidInput, match="was trained on another environment than Pendulum-v1"):
        build("gym.evaluate", ["env=Pendulum-v1", f"checkpoint={checkpoint}"], PROJECT).run()


def test_a_file_that_is_no_checkpoint_is_refused() -> None:
    with pytest.raises(InvalidInput, match="is no checkpoint"):
        build("gym.evaluate", [f"checkpoint={__file__}"], PROJECT).run()


def test_a_server_that_does_not_answer_costs_no_training(tmp_path: Path, run_recipe: RunRecipe) -> None:
    code, output = run_recipe(
        tmp_path,
        "gym.train",
        "trainer.total_timesteps=512",
        WANDB_API_KEY="0" * 40,
        WANDB_BASE_URL="http://127.0.0.1:9",
        WANDB_INIT_TIMEOUT="1",
    )
    assert code == 0, output
    assert "the run stays offline" in output
    assert read_series(tmp_path, ["overview/reward"])["overview/reward"].steps == [0, 512]
    assert not (tmp_path / "links.json").exists()


def test_a_loss_that_is_not_finite_ends_the_run_with_a_sentence(tmp_path: Path, run_recipe: RunRecipe) -> None:
    code, output = run_recipe(tmp_path, "gym.train", "trainer.vf_coef=1e300")
    assert code != 0
    assert "The loss is no longer finite at step" in output.splitlines()[-1]


def test_the_seed_decides_the_training() -> None:
    def weights(seed: int) -> np.ndarray:
        tool = build("gym.train", [f"seed={seed}"], PROJECT)
        assert isinstance(tool, GymTrainTool)
        env = tool.make_env(tool.seed)
        model = make_model(tool, env)
        model.learn(1024)
        env.close()
        return np.concatenate([p.detach().numpy().ravel() for p in model.policy.parameters()])

    assert np.array_equal(weights(3), weights(3))
    assert not np.array_equal(weights(3), weights(4))
