"""The vectorised arena: every agent of the real MettaGrid is one environment of the batch."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from recipes.ppo.config import ArenaConfig
from recipes.ppo.tokens import PLANES
from recipes.ppo.vec_arena import VecArena

WINDOW = 13
ALTAR, HEARTS, WALL, AGENT = (PLANES.index(name) for name in ("type:altar", "hearts", "type:wall", "type:agent"))
NORTH, SOUTH, WEST, EAST = 1, 2, 3, 4
NEIGHBOUR = {NORTH: (5, 6), SOUTH: (7, 6), WEST: (6, 5), EAST: (6, 7)}

SMALL = ArenaConfig(num_arenas=3, num_agents=4, num_altars=30, hearts_per_altar=2, max_steps=40)


@pytest.fixture
def arena() -> Iterator[VecArena]:
    made = VecArena(SMALL, seed=5)
    yield made
    made.close()


def image(observation: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """The agent's window as [row, column, plane]."""
    return observation[: WINDOW * WINDOW * len(PLANES)].reshape(WINDOW, WINDOW, len(PLANES))


def scalars(observation: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Share of the episode that has passed, own hearts / 10, last action one-hot."""
    return observation[WINDOW * WINDOW * len(PLANES) :]


def play(arena: VecArena, steps: int, seed: int = 0) -> tuple[np.ndarray[Any, Any], list[list[dict[str, Any]]]]:
    """Random play; returns rewards [steps, agents] and the infos of each step."""
    rng = np.random.default_rng(seed)
    rewards, infos = [], []
    for _ in range(steps):
        _, reward, _, info = arena.step(rng.integers(0, 5, arena.num_envs))
        rewards.append(reward)
        infos.append(info)
    return np.array(rewards), infos


def test_shapes(arena: VecArena) -> None:
    observations = arena.reset()
    assert arena.num_envs == 12
    assert observations.shape == (12, *arena.observation_space.shape)
    assert observations.dtype == np.float32
    assert arena.observation_space.contains(observations[0])
    observations, rewards, dones, infos = arena.step(np.zeros(12, dtype=np.int64))
    assert observations.shape == (12, *arena.observation_space.shape)
    assert rewards.shape == dones.shape == (12,)
    assert len(infos) == 12
    assert not dones.any()


def test_walls_altars_and_agents_are_seen(arena: VecArena) -> None:
    seen = np.array([image(observation) for observation in arena.reset()]).sum(axis=(0, 1, 2))
    assert (seen[[WALL, ALTAR, AGENT, HEARTS]] > 0).all()


def test_walking_into_an_altar_takes_one_heart_from_it(arena: VecArena) -> None:
    """In each of the four directions; and an empty altar gives none."""
    rng = np.random.default_rng(1)
    observations = arena.reset()
    taken, refused = set(), set()
    for _ in range(4000):
        actions = rng.integers(0, 5, arena.num_envs)
        before = [image(observation).copy() for observation in observations]
        observations, rewards, dones, _ = arena.step(actions)
        for agent, action in enumerate(actions):
            if action == 0:
                assert rewards[agent] == 0.0
                continue
            cell = before[agent][NEIGHBOUR[int(action)]]
            if cell[ALTAR] == 0.0:
                assert rewards[agent] == 0.0, "a heart came from nowhere"
            elif cell[HEARTS] == 0.0:
                assert rewards[agent] == 0.0, "an empty altar gave a heart"
                refused.add(int(action))
            elif rewards[agent] == 1.0 and not dones[agent]:
                assert scalars(observations[agent])[2 + action] == 1.0
                assert image(observations[agent])[NEIGHBOUR[int(action)]][HEARTS] < cell[HEARTS]
                taken.add(int(action))
        if len(taken) == len(refused) == 4:
            return
    pytest.fail(f"directions in which a heart was taken: {taken}, in which none was left: {refused}")


def test_an_episode_ends_for_all_agents_and_reports_its_hearts(arena: VecArena) -> None:
    arena.reset()
    rewards, infos = play(arena, SMALL.max_steps - 1)
    assert not any("episode" in info for row in infos for info in row)
    observations, last, dones, ends = arena.step(np.ones(12, dtype=np.int64))
    assert dones.all()
    hearts = rewards.sum(axis=0) + last
    assert hearts.sum() > 0
    assert [info["episode"]["r"] for info in ends] == hearts.tolist()
    assert {info["episode"]["l"] for info in ends} == {SMALL.max_steps}
    for agent, info in enumerate(ends):
        assert scalars(info["terminal_observation"])[1] == pytest.approx(hearts[agent] / 10)
        assert scalars(info["terminal_observation"])[0] > 0.9
        assert scalars(observations[agent])[0] == 0.0
        assert scalars(observations[agent])[1] == 0.0


def test_the_hearts_on_the_map_are_all_there_are() -> None:
    few = ArenaConfig(num_arenas=1, num_agents=16, num_altars=3, hearts_per_altar=1, max_steps=600)
    arena = VecArena(few, seed=2)
    arena.reset()
    rewards, _ = play(arena, 600)
    assert 0 < rewards.sum() <= 3
    arena.close()


def test_stagger_spreads_the_ends_and_reports_only_whole_episodes() -> None:
    env = SMALL.model_copy(update={"num_arenas": 4})
    arena = VecArena(env, seed=3, stagger=True)
    arena.reset()
    _, infos = play(arena, 2 * env.max_steps)
    reported = [step + 1 for step, row in enumerate(infos) if any("episode" in info for info in row)]
    assert reported == [40, 50, 60, 70, 80]
    assert {info["episode"]["l"] for row in infos for info in row if "episode" in info} == {env.max_steps}
    ended = [step + 1 for step, row in enumerate(infos) if any("terminal_observation" in info for info in row)]
    assert ended == [10, 20, 30, 40, 50, 60, 70, 80]
    arena.close()


def test_the_seed_decides_maps_and_episodes() -> None:
    def trajectory(seed: int) -> np.ndarray[Any, Any]:
        arena = VecArena(SMALL, seed=seed)
        first = arena.reset()
        rewards, _ = play(arena, 60)
        arena.close()
        return np.concatenate([first.ravel(), rewards.ravel()])

    assert np.array_equal(trajectory(7), trajectory(7))
    assert not np.array_equal(trajectory(7), trajectory(8))


def test_each_episode_has_a_new_map(arena: VecArena) -> None:
    first = arena.reset()
    play(arena, SMALL.max_steps - 1)
    second, _, dones, _ = arena.step(np.zeros(12, dtype=np.int64))
    assert dones.all()
    assert not np.array_equal(first, second)
