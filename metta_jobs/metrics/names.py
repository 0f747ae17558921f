"""The names under which common trainers log the same thing: a short list, best first.

Who asks for a canonical name that a run never logged (`overview/reward`, `overview/sps`) gets the first of the others
that it did log. Stable-Baselines3 says `rollout/`, `time/`; CleanRL `charts/`; RLlib the names with `_mean` and
`throughput`.
"""

from __future__ import annotations

from collections.abc import Iterable

REWARD_KEYS = (
    "overview/reward",
    "rollout/ep_rew_mean",
    "charts/episodic_return",
    "env_runners/episode_return_mean",
    "episode_reward_mean",
    "episode_return",
    "reward",
)
SPS_KEYS = (
    "overview/sps",
    "time/fps",
    "charts/SPS",
    "num_env_steps_sampled_lifetime_throughput",
    "steps_per_second",
    "SPS",
)
#: Where a row stands on the x axis: the first of these that was logged with it. `_step` is what the source itself
#: counts: W&B's log calls, TensorBoard's steps, a file's own step column, else its lines.
STEP_KEYS = (
    "metric/agent_step",
    "global_step",
    "time/total_timesteps",
    "num_env_steps_sampled_lifetime",
    "_step",
)
#: Columns of a CSV or JSONL file that are its `_step`, when none of STEP_KEYS is there.
FILE_STEP_KEYS = ("total_timesteps", "timesteps_total", "timesteps", "step", "steps", "iteration", "epoch")

_FAMILIES = {family[0]: family for family in (REWARD_KEYS, SPS_KEYS)}


def spellings(key: str) -> tuple[str, ...]:
    """The names to look for when `key` is asked for, best first: `key` itself, and others if it is canonical."""
    return _FAMILIES.get(key, (key,))


def first_of(keys: Iterable[str], present: Iterable[str]) -> str | None:
    """The first of `keys` that is among `present`, else None."""
    there = set(present)
    return next((key for key in keys if key in there), None)
