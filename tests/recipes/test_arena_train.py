"""A short training on the real arena: it learns, leaves a replay, and ends in order when told to stop."""

from __future__ import annotations

import json
import os
import signal
import zlib
from pathlib import Path

import pytest
from conftest import RunRecipe, StartRecipe
from stable_baselines3 import PPO

from metta_jobs.metrics import find_artifacts, read_series
from recipes.ppo.config import ArenaConfig
from recipes.ppo.folder import RunFolder
from recipes.ppo.play import RandomPlayer, episode_returns
from recipes.ppo.replay import write_replay
from recipes.ppo.vec_arena import VecArena

STEPS = 49_152


def test_agents_learn_to_collect_hearts(tmp_path: Path, run_recipe: RunRecipe) -> None:
    code, output = run_recipe(
        tmp_path, "arena.train", f"trainer.total_timesteps={STEPS}", "trainer.learning_rate=0.001"
    )
    assert code == 0, output
    rewards = read_series(tmp_path, ["overview/reward"])["overview/reward"]
    assert rewards.steps == [0, *range(4096, STEPS + 1, 4096)]
    assert 0.5 < rewards.values[0] < 3, "an untrained policy stumbles over some hearts"
    assert rewards.values[-1] > 2 * rewards.values[0]

    assert {artifact.kind for artifact in find_artifacts(tmp_path)} == {"wandb", "checkpoint", "replay"}
    [replay] = (tmp_path / "replays").iterdir()
    content = json.loads(zlib.decompress(replay.read_bytes()))
    assert (content["num_agents"], content["max_steps"]) == (8, 64)
    assert "altar" in content["type_names"]
    assert sum(content["infos"]["episode_rewards"]) > 0

    [checkpoint] = (tmp_path / "checkpoints").iterdir()
    folder = tmp_path / "evaluation"
    folder.mkdir()
    code, output = run_recipe(folder, "arena.evaluate", f"checkpoint={checkpoint}")
    assert code == 0, output
    result = json.loads(output)
    assert (result["agent_step"], result["episodes"]) == (STEPS, 64)
    assert result["reward_min"] <= result["reward_mean"] <= result["reward_max"]
    assert result["reward_mean"] > 2 * rewards.values[0]
    logged = read_series(folder, ["overview/reward"])["overview/reward"]
    assert logged.steps == [STEPS]
    assert logged.values == [pytest.approx(result["reward_mean"], abs=1e-3)]


def test_random_players_collect_some_hearts_and_leave_a_replay(tmp_path: Path) -> None:
    env = VecArena(ArenaConfig(), seed=1000)
    player = RandomPlayer(env.action_space, seed=1)
    returns = episode_returns(player, env, 128)
    env.close()
    assert len(returns) == 128
    assert 0.5 < returns.mean() < 3
    path = write_replay(player, ArenaConfig(), 1, RunFolder(tmp_path))
    assert path == tmp_path / "replays" / "final.json.z"
    assert json.loads(zlib.decompress(path.read_bytes()))["num_agents"] == 8


def test_a_kill_of_all_its_processes_saves_a_last_checkpoint(tmp_path: Path, start_recipe: StartRecipe) -> None:
    """As the queue kills a job: wandb's own processes get the signal too."""
    token = f"token-{os.getpid()}"
    process = start_recipe(tmp_path, "arena.train", METTA_ATTEMPT_TOKEN=token)
    assert process.stdout is not None
    seen = []
    for line in process.stdout:
        seen.append(line)
        if line.startswith("step 4,096 "):
            break
    reached = _with_token(token)
    assert len(reached) > 1, "wandb runs a process of its own"
    for pid in reached:
        os.kill(pid, signal.SIGTERM)
    rest, _ = process.communicate(timeout=30)
    output = "".join(seen) + rest
    assert process.returncode == 128 + signal.SIGTERM, output
    assert "checkpoint saved" in rest
    assert "Traceback" not in output
    [checkpoint] = (tmp_path / "checkpoints").iterdir()
    assert PPO.load(checkpoint, device="cpu").num_timesteps >= 4096
    assert not (tmp_path / "replays").exists()


def _with_token(token: str) -> list[int]:
    """The processes that carry the token: the training and those that it started."""
    mark = f"METTA_ATTEMPT_TOKEN={token}".encode()
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                if mark in (entry / "environ").read_bytes().split(b"\0"):
                    found.append(int(entry.name))
            except OSError:
                continue  # another user's, or gone meanwhile
    return found
