"""From the settings that all trainings share to those of Stable-Baselines3 and the arena. Light to import."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from metta_jobs.errors import InvalidInput, nearest
from metta_jobs.experiment import OptimizerConfig, PPOConfig
from metta_jobs.experiment import TrainerConfig as SharedTrainerConfig
from recipes.ppo.config import ArenaConfig, TrainerConfig

CURRICULA = {
    "default": ArenaConfig(),
    "arena/dense": ArenaConfig(num_altars=40),
    "arena/sparse": ArenaConfig(num_altars=5, hearts_per_altar=20),
}
#: Widths of the hidden layers.
AGENTS = {"default": [128, 128], "small": [64, 64], "large": [256, 256]}
#: What Stable-Baselines3's PPO does not let us choose: another value would do nothing, so it is refused.
_FIXED_OPTIMIZER = ("type", "beta1", "beta2", "eps", "weight_decay", "momentum")
_FIXED_PPO = ("vf_clip_coef", "norm_adv", "target_kl")


def arena(curriculum: str | Mapping[str, Any]) -> ArenaConfig:
    """The arena that a curriculum names, or whose fields it gives. Raises InvalidInput."""
    if not isinstance(curriculum, str):
        return ArenaConfig.model_validate(curriculum)
    return _chosen("curriculum", curriculum, CURRICULA)


def agent(agent_config: str | Mapping[str, Any]) -> list[int]:
    """The hidden layers of the agent that a configuration names, or gives as hidden_sizes. Raises InvalidInput."""
    if isinstance(agent_config, str):
        return _chosen("agent_config", agent_config, AGENTS)
    if set(agent_config) != {"hidden_sizes"}:
        raise InvalidInput("agent_config of the arena is a name, or {'hidden_sizes': [128, 128]}.")
    return list(agent_config["hidden_sizes"])


def trainer(shared: SharedTrainerConfig, num_envs: int, hidden_sizes: list[int]) -> TrainerConfig:
    """The trainer's settings for rollouts of `num_envs` agents. Raises InvalidInput for what it would not obey."""
    if shared.num_workers != 1:
        raise InvalidInput(f"trainer.num_workers={shared.num_workers}: the arena steps its agents in 1 process.")
    _refuse("trainer.optimizer", shared.optimizer, OptimizerConfig(), _FIXED_OPTIMIZER)
    _refuse("trainer.ppo", shared.ppo, PPOConfig(), _FIXED_PPO)
    if shared.batch_size % num_envs:
        near = max(1, round(shared.batch_size / num_envs)) * num_envs
        raise InvalidInput(
            f"trainer.batch_size={shared.batch_size} is no multiple of the {num_envs} agents that play at once: try "
            f"{near}."
        )
    return TrainerConfig(
        total_timesteps=shared.total_timesteps,
        learning_rate=shared.optimizer.learning_rate,
        anneal=shared.optimizer.anneal_lr,
        n_steps=shared.batch_size // num_envs,
        batch_size=shared.minibatch_size,
        n_epochs=shared.update_epochs,
        gamma=shared.ppo.gamma,
        gae_lambda=shared.ppo.gae_lambda,
        clip_coef=shared.ppo.clip_coef,
        ent_coef=shared.ppo.ent_coef,
        vf_coef=shared.ppo.vf_coef,
        max_grad_norm=shared.ppo.max_grad_norm,
        hidden_sizes=hidden_sizes,
    )


def _refuse(where: str, given: Any, fixed: Any, names: tuple[str, ...]) -> None:
    for name in names:
        if getattr(given, name) != getattr(fixed, name):
            raise InvalidInput(
                f"{where}.{name}={getattr(given, name)!r} would do nothing here: Stable-Baselines3's PPO trains with "
                f"{getattr(fixed, name)!r}."
            )


def _chosen(field: str, name: str, known: Mapping[str, Any]) -> Any:
    if name not in known:
        raise InvalidInput(f"The arena has no {field} {name!r}.{nearest(name, known)} It has: {', '.join(known)}.")
    return known[name]
