"""One training from beginning to end. Imports the heavy libraries."""

from __future__ import annotations

import os
import time
from pathlib import Path

import torch
from stable_baselines3 import PPO
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.save_util import load_from_zip_file
from stable_baselines3.common.vec_env import VecEnv

from recipes.ppo.callback import Progress, diverged
from recipes.ppo.folder import CHECKPOINT_VARIABLE, RunFolder
from recipes.ppo.play import episode_returns
from recipes.ppo.runlog import REWARD, RunLog
from recipes.ppo.stop import StopSignals
from recipes.ppo.tool import TrainTool

#: The untrained policy is measured on other maps than those of the training.
_EVALUATION_SEED = 1_000_003


def learn(tool: TrainTool) -> int:
    """Train as `tool` says; return the exit code (see TrainTool.run)."""
    started = time.monotonic()
    torch.set_num_threads(tool.torch_threads)
    folder = RunFolder.of_this_process(tool.recipe)
    total = tool.trainer.total_timesteps
    config = {**tool.model_dump(mode="json"), "recipe": tool.recipe, "num_envs": tool.num_envs}
    env = tool.make_env(tool.seed, stagger=True)
    model = make_model(tool, env)
    with StopSignals() as stop, RunLog(folder, tool.recipe, config, stop) as log:
        print(f"{tool.recipe}: {tool.num_envs} agents at once, {total:,} agent steps, into {folder.root}", flush=True)
        if (checkpoint := os.environ.get(CHECKPOINT_VARIABLE)) is not None:
            go_on_from(model, Path(checkpoint))
            print(f"Going on from step {model.num_timesteps:,} of {checkpoint}", flush=True)
        else:
            untrained = _untrained_reward(tool, model)
            log.row(0, {REWARD: untrained})
            print(f"step 0 of {total:,} · reward {untrained:.2f} (untrained)", flush=True)
        progress = Progress(log, folder, stop, total, tool.checkpoint_every, tool.keep_checkpoints)
        improve(model, total, progress)
        progress.save()
        if stop.received is not None:
            print(f"Stopped by signal {stop.received} at step {model.num_timesteps:,}; checkpoint saved.", flush=True)
        else:
            tool.write_replay(model, folder)
            print(f"Done: {model.num_timesteps:,} steps in {time.monotonic() - started:.0f} s.", flush=True)
    env.close()
    return stop.exit_code


def make_model(tool: TrainTool, env: VecEnv) -> PPO:
    """Return an untrained PPO model with the tool's settings."""
    trainer = tool.trainer
    rate = trainer.learning_rate
    return PPO(
        "MlpPolicy",
        env,
        learning_rate=(lambda remaining: remaining * rate) if trainer.anneal else rate,
        n_steps=trainer.n_steps,
        batch_size=trainer.batch_size,
        n_epochs=trainer.n_epochs,
        gamma=trainer.gamma,
        gae_lambda=trainer.gae_lambda,
        clip_range=trainer.clip_coef,
        ent_coef=trainer.ent_coef,
        vf_coef=trainer.vf_coef,
        max_grad_norm=trainer.max_grad_norm,
        policy_kwargs={"net_arch": list(trainer.hidden_sizes)},
        stats_window_size=tool.stats_window,
        seed=tool.seed,
        device=tool.device,
    )


def go_on_from(model: PPO, checkpoint: Path) -> None:
    """Give `model` the weights, the optimiser's state and the number of steps of a checkpoint; its settings stay.

    A checkpoint is a pickle inside: the queue names only those that the same job has saved.
    """
    saved, parameters, _ = load_from_zip_file(str(checkpoint), device=model.device)
    model.set_parameters(parameters, device=model.device)
    model.num_timesteps = saved["num_timesteps"] if saved else 0


def improve(model: PPO, total: int, callback: BaseCallback) -> None:
    """Train `model` until it has made `total` agent steps; raise RunFailed when its weights become NaN or infinite."""
    left = max(0, total - model.num_timesteps)
    try:
        model.learn(left, callback=callback, log_interval=None, reset_num_timesteps=False)  # type: ignore[arg-type]
    except ValueError as error:
        # Once the weights are NaN, torch refuses to make a distribution of actions, in words about tensors.
        if all(bool(weights.isfinite().all()) for weights in model.policy.parameters()):
            raise
        raise diverged(model.num_timesteps) from error


def _untrained_reward(tool: TrainTool, model: PPO) -> float:
    env = tool.make_env(tool.seed + _EVALUATION_SEED)
    try:
        return float(episode_returns(model, env, tool.stats_window).mean())
    finally:
        env.close()
