"""Playing whole episodes, with a model or at random."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.vec_env import VecEnv


class Player(Protocol):
    """Whatever chooses actions for a batch of observations; a model of Stable-Baselines3 does."""

    def predict(
        self, observation: Any, state: Any = None, episode_start: Any = None, deterministic: bool = False
    ) -> tuple[NDArray[Any], Any]:
        """Return (actions, state)."""


class RandomPlayer:
    """Draws actions uniformly, one for each observation of the batch."""

    def __init__(self, action_space: spaces.Space[Any], seed: int) -> None:
        self._space = action_space
        self._space.seed(seed)

    def predict(
        self, observation: Any, state: Any = None, episode_start: Any = None, deterministic: bool = False
    ) -> tuple[NDArray[Any], Any]:
        """Return (actions, state)."""
        return np.stack([self._space.sample() for _ in range(len(observation))]), state


def episode_returns(player: Player, env: VecEnv, episodes: int, *, deterministic: bool = False) -> NDArray[np.float64]:
    """Play `episodes` whole episodes, shared out evenly over the environments; returns their undiscounted returns."""
    returns, _ = evaluate_policy(
        player,
        env,
        n_eval_episodes=episodes,
        deterministic=deterministic,
        return_episode_rewards=True,
        warn=False,
    )
    return np.asarray(returns, dtype=np.float64)
