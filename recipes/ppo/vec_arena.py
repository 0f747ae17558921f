"""Arenas side by side as one Stable-Baselines3 VecEnv, in which each agent is one environment of the batch."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray
from stable_baselines3.common.vec_env import VecEnv

from recipes.ppo.arena_game import arena_game, load
from recipes.ppo.config import ArenaConfig
from recipes.ppo.tokens import TokenEncoder


class VecArena(VecEnv):
    """`num_arenas` arenas in this process; agent a of arena i is environment i × num_agents + a.

    Observations are float32 [num_envs, D] (see TokenEncoder), actions 0 to 4 (stay, north, south, west, east), rewards
    the hearts that an agent took in this step. All agents of an arena end their episode together, after max_steps; the
    arena starts again at once on a new map. The end is part of the game (agents see how much of the episode is left),
    so it counts as terminated, not truncated. The info of a finished episode holds "terminal_observation" and
    "episode": {"r": hearts, "l": steps, "t": seconds}.

    With `stagger`, the first episodes of the arenas are cut to different lengths, so that some arena ends in every
    stretch of steps; these cut episodes are not reported under "episode".
    """

    def __init__(
        self, env: ArenaConfig, seed: int, *, stagger: bool = False, event_handlers: Sequence[Any] = ()
    ) -> None:
        """Build the arenas; `event_handlers` (MettaGrid's SimulatorEventHandler) are given to each of them."""
        self._env = env
        self._rng = np.random.default_rng(seed)
        self._stagger = stagger
        self._event_handlers = event_handlers
        self._simulator = load("mettagrid.simulator.simulator")
        game = arena_game(env)
        self._game = game
        actions = [action.name for action in game.game.actions.actions()]
        self._encoder = TokenEncoder(game.game, actions)
        count = env.num_envs
        self._buffers = self._simulator.Buffers(
            observations=np.zeros((count, game.game.obs.num_tokens, game.game.obs.token_dim), dtype=np.uint8),
            terminals=np.zeros(count, dtype=np.bool_),
            truncations=np.zeros(count, dtype=np.bool_),
            rewards=np.zeros(count, dtype=np.float32),
            masks=np.ones(count, dtype=np.bool_),
            actions=np.zeros(count, dtype=np.int32),
            teacher_actions=np.zeros(count, dtype=np.int32),
            vibe_actions=np.zeros(count, dtype=np.int32),
        )
        self._sims: list[Any] = [None] * env.num_arenas
        self._whole = [True] * env.num_arenas
        self._started_at = time.monotonic()
        super().__init__(
            count,
            spaces.Box(0.0, np.inf, shape=(self._encoder.size,), dtype=np.float32),
            spaces.Discrete(len(actions)),
        )

    def reset(self) -> NDArray[np.float32]:
        """Start every arena on a new map."""
        for arena in range(self._env.num_arenas):
            steps = self._env.max_steps
            if self._stagger:
                steps = max(1, steps * (arena + 1) // self._env.num_arenas)
            self._restart(arena, steps)
        return self._encoder.encode(self._buffers.observations)

    def step_async(self, actions: NDArray[Any]) -> None:
        """Set the actions of the next step."""
        self._buffers.actions[:] = actions

    def step_wait(self) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.bool_], list[dict[str, Any]]]:
        """Advance all arenas by one step."""
        for sim in self._sims:
            sim.step()
        observations = self._encoder.encode(self._buffers.observations)
        rewards = self._buffers.rewards.copy()
        dones = self._buffers.terminals | self._buffers.truncations
        infos: list[dict[str, Any]] = [{} for _ in range(self.num_envs)]
        ended = [arena for arena, sim in enumerate(self._sims) if sim.is_done()]
        for arena in ended:
            self._report(arena, observations, infos)
            self._restart(arena, self._env.max_steps)
            mine = self._slice(arena)
            observations[mine] = self._encoder.encode(self._buffers.observations[mine])
        return observations, rewards, dones, infos

    def close(self) -> None:
        """Free the arenas."""
        for arena, sim in enumerate(self._sims):
            if sim is not None:
                sim.close()
            self._sims[arena] = None

    def get_attr(self, attr_name: str, indices: Any = None) -> list[Any]:
        """Return an attribute of this object, once per environment asked for."""
        # VecEnv's own constructor asks for the render mode before it sets it; there is none.
        value = None if attr_name == "render_mode" else getattr(self, attr_name)
        return [value] * len(list(self._get_indices(indices)))

    def set_attr(self, attr_name: str, value: Any, indices: Any = None) -> None:
        """Refuse: agents of an arena share its attributes."""
        raise NotImplementedError("agents of an arena share its attributes; set them on the VecArena itself")

    def env_method(self, method_name: str, *args: Any, indices: Any = None, **kwargs: Any) -> list[Any]:
        """Refuse: an agent is no environment object of its own."""
        raise NotImplementedError("an agent of an arena is no environment object of its own")

    def env_is_wrapped(self, wrapper_class: type[Any], indices: Any = None) -> list[bool]:
        """No agent is wrapped in anything."""
        return [False] * len(list(self._get_indices(indices)))

    def _slice(self, arena: int) -> slice:
        return slice(arena * self._env.num_agents, (arena + 1) * self._env.num_agents)

    def _report(self, arena: int, observations: NDArray[np.float32], infos: list[dict[str, Any]]) -> None:
        sim = self._sims[arena]
        seconds = round(time.monotonic() - self._started_at, 6)
        for agent, hearts in enumerate(sim.episode_rewards):
            number = arena * self._env.num_agents + agent
            infos[number]["terminal_observation"] = observations[number].copy()
            if self._whole[arena]:
                infos[number]["episode"] = {"r": float(hearts), "l": int(sim.current_step), "t": seconds}

    def _restart(self, arena: int, steps: int) -> None:
        if self._sims[arena] is not None:
            self._sims[arena].close()
        mine = self._slice(arena)
        seed = int(self._rng.integers(2**31))
        game = self._game.model_copy(deep=True)
        scene: Any = game.game.map_builder
        scene.seed = seed
        game.game.max_steps = steps
        buffers = self._simulator.Buffers(**{name: value[mine] for name, value in vars(self._buffers).items()})
        self._sims[arena] = self._simulator.Simulation(
            game, seed=seed, event_handlers=self._event_handlers, buffers=buffers
        )
        self._whole[arena] = steps == self._env.max_steps
