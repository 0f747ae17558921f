"""The settings of a training, typed and checked; light to import."""

from __future__ import annotations

import math
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, PositiveInt, model_validator

#: Cells of the arena's inner square, and the walls that it scatters there.
_ARENA_CELLS = 25 * 25
_ARENA_WALLS = 10

Fraction = Annotated[float, Field(ge=0.0, le=1.0)]


class Config(BaseModel):
    """Base of the nested settings: unknown fields are refused, assignments are checked."""

    model_config = ConfigDict(extra="forbid", validate_assignment=True, allow_inf_nan=False)


class TrainerConfig(Config):
    """Proximal Policy Optimization (Schulman et al. 2017, arXiv:1707.06347), as Stable-Baselines3 implements it.

    total_timesteps   agent steps to train for; rounded up to whole rollouts
    learning_rate     Adam's step size; with `anneal` it falls linearly to 0 at the end
    n_steps           steps per agent and rollout
    batch_size        transitions per gradient step; must divide n_steps × agents
    n_epochs          passes over each rollout
    gamma, gae_lambda discount, and the λ of generalised advantage estimation
    clip_coef         how far the probability ratio may move from 1
    ent_coef, vf_coef weights of the entropy bonus and of the value loss
    max_grad_norm     gradients are scaled down to this norm
    hidden_sizes      widths of the hidden layers, of policy and value function alike
    """

    total_timesteps: PositiveInt = 1_000_000
    learning_rate: float = Field(default=3e-4, gt=0.0, le=1.0)
    anneal: bool = False
    n_steps: PositiveInt = 64
    batch_size: PositiveInt = 1024
    n_epochs: PositiveInt = 4
    gamma: Fraction = 0.99
    gae_lambda: Fraction = 0.95
    clip_coef: float = Field(default=0.2, gt=0.0, le=1.0)
    ent_coef: float = Field(default=0.0, ge=0.0)
    vf_coef: float = Field(default=0.5, ge=0.0)
    max_grad_norm: float = Field(default=0.5, gt=0.0)
    hidden_sizes: list[PositiveInt] = Field(default=[64, 64], min_length=1)

    def batch_problem(self, num_envs: int) -> str | None:
        """Say what is wrong with batch_size for rollouts of `num_envs` agents, or None."""
        rollout = self.n_steps * num_envs
        if rollout < 2:
            return "A rollout of one step of one agent has no advantage to learn from: raise trainer.n_steps."
        if self.batch_size < 2:
            return "trainer.batch_size must be at least 2: advantages are normalised within a batch."
        if rollout % self.batch_size == 0:
            return None
        return (
            f"trainer.batch_size={self.batch_size} does not divide the rollout of {self.n_steps} steps × {num_envs} "
            f"agents = {rollout} transitions. Try trainer.batch_size={_nearest_divisor(rollout, self.batch_size)}."
        )


class ArenaConfig(Config):
    """Arenas side by side, each 25 × 25 cells with walls around, and altars that hold hearts.

    An agent that walks into an altar takes one heart from it: that is all the reward there is, and an agent's return is
    the number of its hearts. Together the agents of an arena can take num_altars × hearts_per_altar. An emptied altar
    stays where it is. Map and starting places are drawn anew for each episode of `max_steps` steps.
    """

    num_arenas: int = Field(default=8, ge=1, le=1024)
    num_agents: int = Field(default=8, ge=1, le=128)
    num_altars: int = Field(default=20, ge=1)
    hearts_per_altar: int = Field(default=5, ge=1, le=255)
    max_steps: int = Field(default=64, ge=1, le=100_000)

    @property
    def num_envs(self) -> int:
        """Agents of all arenas together: the batch that the learner sees."""
        return self.num_arenas * self.num_agents

    @model_validator(mode="after")
    def _fits(self) -> ArenaConfig:
        needed = self.num_agents + self.num_altars + _ARENA_WALLS
        if needed > _ARENA_CELLS:
            raise ValueError(
                f"{self.num_agents} agents, {self.num_altars} altars and {_ARENA_WALLS} walls do not fit into the "
                f"arena's {_ARENA_CELLS} cells: lower num_agents or num_altars."
            )
        return self


def _nearest_divisor(number: int, wanted: int) -> int:
    """Return the divisor of `number`, at least 2, that is nearest to `wanted` as a ratio."""
    small = [d for d in range(1, math.isqrt(number) + 1) if number % d == 0]
    divisors = [d for d in {*small, *(number // d for d in small)} if d >= 2]
    return min(divisors, key=lambda d: (abs(math.log(d / wanted)), d))
