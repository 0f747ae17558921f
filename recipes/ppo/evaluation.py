"""One evaluation from beginning to end. Imports the heavy libraries."""

from __future__ import annotations

import json
import zipfile

import torch
from stable_baselines3 import PPO
from stable_baselines3.common.vec_env import VecEnv

from metta_jobs.errors import InvalidInput
from recipes.ppo.folder import RunFolder
from recipes.ppo.play import Player, RandomPlayer, episode_returns
from recipes.ppo.runlog import REWARD, RunLog
from recipes.ppo.stop import StopSignals
from recipes.ppo.tool import EvaluateTool


def evaluate(tool: EvaluateTool) -> int:
    """Play, print one line of JSON, log the mean under overview/reward at the checkpoint's agent step; return 0."""
    torch.set_num_threads(tool.torch_threads)
    env = tool.make_env(tool.seed)
    player, trained_steps = _player(tool, env)
    folder = RunFolder.of_this_process(f"{tool.recipe}-evaluate")
    stop = StopSignals()
    with RunLog(folder, f"{tool.recipe}-evaluate", tool.model_dump(mode="json"), stop) as log:
        returns = episode_returns(player, env, tool.episodes, deterministic=tool.deterministic)
        result = {
            "checkpoint": str(tool.checkpoint) if tool.checkpoint else None,
            "agent_step": trained_steps,
            "episodes": len(returns),
            "reward_mean": round(float(returns.mean()), 4),
            "reward_std": round(float(returns.std()), 4),
            "reward_min": float(returns.min()),
            "reward_max": float(returns.max()),
        }
        log.row(trained_steps, {REWARD: float(returns.mean()), "overview/reward_std": float(returns.std())})
        if tool.replay:
            tool.write_replay(player, folder)
    env.close()
    print(json.dumps(result), flush=True)
    return 0


def _player(tool: EvaluateTool, env: VecEnv) -> tuple[Player, int]:
    if tool.checkpoint is None:
        return RandomPlayer(env.action_space, tool.seed), 0
    if not zipfile.is_zipfile(tool.checkpoint):
        raise InvalidInput(f"{tool.checkpoint} is no checkpoint: a checkpoint is a .zip file that a training wrote.")
    model = PPO.load(tool.checkpoint, device=tool.device)
    if model.observation_space != env.observation_space or model.action_space != env.action_space:
        raise InvalidInput(
            f"The checkpoint {tool.checkpoint} was trained on another environment than {tool.recipe}: its observations "
            "or actions have another shape."
        )
    model.set_random_seed(tool.seed)
    return model, model.num_timesteps
