"""A whole training of CartPole, in a process of its own: curves, checkpoints, evaluation, ends."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from conftest import RunRecipe
from stable_baselines3 import PPO
from stable_baselines3.common.callbacks import CallbackList

from metta_jobs.errors import InvalidInput, RunFailed
from metta_jobs.metrics import ProgressReader, find_artifacts, read_series
from metta_jobs.recipe import build
from recipes.ppo.learn import go_on_from, improve, make_model
from recipes.ppo.tool import GymTrainTool

PROJECT = Path(__file__).parents[2]
STEPS = 8192


def test_a_training_from_beginning_to_end(tmp_path: Path, run_recipe: RunRecipe) -> None:
    """One test, because each training costs seconds: what it logs, prints and leaves."""
    folder = tmp_path / "training"
    folder.mkdir()
    code, output = run_recipe(
        folder, "gym.train", f"trainer.total_timesteps={STEPS}", "checkpoint_every=2048", "keep_checkpoints=2"
    )
    assert code == 0, output
    check_rows(folder)
    check_lines(output)
    checkpoint = check_artefacts(folder)
    with pytest.raises(InvalidInput, match="was trained on another environment than Pendulum-v1"):
        build("gym.evaluate", ["env=Pendulum-v1", f"checkpoint={checkpoint}"], PROJECT).run()


def check_rows(folder: Path) -> None:
    series = read_series(folder, ["overview/reward", "overview/sps", "train/loss"])
    rewards = series["overview/reward"]
    assert rewards.steps == [0, *range(512, STEPS + 1, 512)]
    assert series["overview/sps"].steps == series["train/loss"].steps == rewards.steps[1:]
    assert min(series["overview/sps"].values) > 0
    assert 10 < rewards.values[0] < 50, "an untrained policy holds the pole some twenty steps"
    assert rewards.values[-1] > 2 * rewards.values[0], "it has learnt something"
    progress = ProgressReader(folder).poll()
    assert (progress.steps, progress.total) == (STEPS, STEPS)


def check_lines(output: str) -> None:
    lines = output.splitlines()
    assert lines[0].startswith("CartPole-v1: 8 agents at once, 8,192 agent steps, into ")
    assert lines[1].startswith("step 0 of 8,192 · reward ")
    assert sum(line.startswith("step ") for line in lines) == 1 + STEPS // 512
    assert lines[-1].startswith("Done: 8,192 steps in ")


def check_artefacts(folder: Path) -> Path:
    checkpoints = sorted((folder / "checkpoints").iterdir())
    assert [path.name for path in checkpoints] == ["step-000000006144.zip", "step-000000008192.zip"]
    assert PPO.load(checkpoints[-1], device="cpu").num_timesteps == STEPS
    assert {artifact.kind for artifact in find_artifacts(folder)} == {"wandb", "checkpoint"}
    assert not (folder / "links.json").exists(), "there is no link to a run that stayed offline"
    return checkpoints[-1]


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


def test_a_training_that_diverges_is_told_in_a_sentence() -> None:
    tool = build("gym.train", ["trainer.vf_coef=1e300"], PROJECT)
    assert isinstance(tool, GymTrainTool)
    env = tool.make_env(tool.seed)
    with pytest.raises(RunFailed, match=r"The training diverged: .* at step 512\. Lower trainer\.learning_rate"):
        improve(make_model(tool, env), 1024, CallbackList([]))
    env.close()


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


def test_a_training_goes_on_from_a_checkpoint(tmp_path: Path) -> None:
    tool = build("gym.train", ["trainer.total_timesteps=1024", "trainer.hidden_sizes=[8]"], PROJECT)
    assert isinstance(tool, GymTrainTool)
    env = tool.make_env(tool.seed)
    first = make_model(tool, env)
    improve(first, 512, CallbackList([]))
    first.save(tmp_path / "step-512.zip")
    second = make_model(tool, env)
    go_on_from(second, tmp_path / "step-512.zip")
    assert second.num_timesteps == 512
    for mine, theirs in zip(second.policy.parameters(), first.policy.parameters(), strict=True):
        assert bool((mine == theirs).all())
    improve(second, 1024, CallbackList([]))
    assert second.num_timesteps == 1024
    env.close()
