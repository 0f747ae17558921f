"""What a training is told: typed, checked settings, and the Hydra file that carries them to a job, here or anywhere."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, JsonValue, PositiveInt, field_validator, model_validator

from metta_jobs.environment import is_secret
from metta_jobs.errors import nearest
from metta_jobs.experiment import hydra
from metta_jobs.policy import Model

Fraction = Annotated[float, Field(ge=0, le=1)]
Coefficient = Annotated[float, Field(ge=0)]
_TAG_CHARACTERS = 64
_NOT_IN_PROJECT = "/\\#?%:"


class KnownFields(Model):
    """Refuses fields that it does not have, with the nearest one that it has."""

    @model_validator(mode="before")
    @classmethod
    def _known(cls, fields: Any) -> Any:
        for name in fields if isinstance(fields, Mapping) else ():
            if name not in cls.model_fields:
                known = sorted(cls.model_fields)
                raise ValueError(
                    f"there is no field {name!r} in {cls.__name__}.{nearest(str(name), known)} "
                    f"It has: {', '.join(known)}"
                )
        return fields


class OptimizerConfig(KnownFields):
    """The optimiser. `learning_rate` falls linearly to 0 with `anneal_lr`; `momentum` is of sgd, rmsprop and muon."""

    type: Literal["adam", "adamw", "sgd", "rmsprop", "muon"] = "adam"
    learning_rate: float = Field(default=3e-4, gt=0, le=1)
    anneal_lr: bool = False
    beta1: float = Field(default=0.9, ge=0, lt=1)
    beta2: float = Field(default=0.999, ge=0, lt=1)
    eps: float = Field(default=1e-5, gt=0)
    weight_decay: Coefficient = 0.0
    momentum: float = Field(default=0.0, ge=0, lt=1)

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.momentum and self.type in ("adam", "adamw"):
            raise ValueError(
                f"momentum={self.momentum:g} does nothing with {self.type}, whose momentum is beta1: set beta1, or "
                "choose sgd, rmsprop or muon"
            )
        return self


class PPOConfig(KnownFields):
    """Proximal Policy Optimization (Schulman et al. 2017, arXiv:1707.06347), with the names of its libraries.

    clip_coef          how far the probability ratio may move from 1
    vf_clip_coef       the same for the value function; None does not clip it
    ent_coef, vf_coef  weights of the entropy bonus and of the value loss
    gamma, gae_lambda  discount, and the λ of generalised advantage estimation (arXiv:1506.02438)
    norm_adv           advantages are normalised within a minibatch
    max_grad_norm      gradients are scaled down to this norm
    target_kl          an update ends early when the policy has moved further than this; None never does
    """

    clip_coef: float = Field(default=0.2, gt=0, le=1)
    vf_clip_coef: float | None = Field(default=None, gt=0)
    ent_coef: Coefficient = 0.01
    vf_coef: Coefficient = 0.5
    gamma: Fraction = 0.99
    gae_lambda: Fraction = 0.95
    norm_adv: bool = True
    max_grad_norm: float = Field(default=0.5, gt=0)
    target_kl: float | None = Field(default=None, gt=0)


class TrainerConfig(KnownFields):
    """How long and in which portions a policy learns.

    `total_timesteps` and `checkpoint_interval` count agent steps (None: the program's own interval). `batch_size` is
    the number of transitions of a rollout, collected by `num_workers` processes in equal parts, and learnt from
    `update_epochs` times in minibatches of `minibatch_size`.
    """

    total_timesteps: PositiveInt = 1_000_000
    num_workers: PositiveInt = 1
    batch_size: PositiveInt = 4096
    minibatch_size: PositiveInt = 1024
    update_epochs: PositiveInt = 4
    checkpoint_interval: PositiveInt | None = None
    optimizer: OptimizerConfig = OptimizerConfig()
    ppo: PPOConfig = PPOConfig()

    @model_validator(mode="after")
    def _fits(self) -> Self:
        batch, mini = self.batch_size, self.minibatch_size
        if mini > batch:
            raise ValueError(f"minibatch_size={mini} is more than the batch_size={batch} that it is taken from")
        if batch % mini:
            raise ValueError(
                f"batch_size={batch} is not a multiple of minibatch_size={mini}, so that {batch % mini} transitions "
                f"would be left over: try minibatch_size={_nearest_divisor(batch, mini)}"
            )
        if batch % self.num_workers:
            raise ValueError(
                f"batch_size={batch} cannot be divided among num_workers={self.num_workers}: try "
                f"num_workers={_nearest_divisor(batch, self.num_workers)}"
            )
        if mini < 2 and self.ppo.norm_adv:
            raise ValueError(
                "minibatch_size=1 leaves nothing to normalise advantages with: raise it, or norm_adv=false"
            )
        if batch > self.total_timesteps:
            raise ValueError(
                f"total_timesteps={self.total_timesteps} is less than one batch of batch_size={batch}: nothing would "
                "be learnt"
            )
        return self


class TrainingRunConfig(KnownFields):
    """One training: what it learns, how, and how W&B shows it. Nothing of where it runs.

    `curriculum` (the tasks) and `agent_config` (the network) are names that the training program knows, or settings of
    its own. `wandb_group` is by default the group of jobs. Strings may be anything but secrets, which no file may hold,
    and "???", which is Hydra's word for a value that is missing.
    """

    curriculum: str | dict[str, JsonValue] = "default"
    agent_config: str | dict[str, JsonValue] = "default"
    seed: int = Field(default=1, ge=0, lt=2**31)
    wandb_entity: str | None = None
    wandb_project: str | None = None
    wandb_group: str | None = None
    wandb_tags: tuple[str, ...] = ()
    wandb_notes: str | None = None
    trainer: TrainerConfig = TrainerConfig()

    @model_validator(mode="before")
    @classmethod
    def _file(cls, given: Any) -> Any:
        """The path of its file stands for it."""
        return hydra.read(Path(given)) if isinstance(given, str | Path) else given

    @field_validator("wandb_tags")
    @classmethod
    def _tags(cls, tags: tuple[str, ...]) -> tuple[str, ...]:
        for tag in tags:
            if not tag.strip() or "," in tag or len(tag) > _TAG_CHARACTERS:
                raise ValueError(f"{tag!r} cannot be a W&B tag: use 1 to {_TAG_CHARACTERS} characters without a comma")
        return tuple(dict.fromkeys(tags))

    @field_validator("wandb_project", "wandb_entity")
    @classmethod
    def _wandb_name(cls, name: str | None) -> str | None:
        if name is not None and (not name.strip() or any(sign in name for sign in _NOT_IN_PROJECT)):
            raise ValueError(f"{name!r} cannot name a W&B project or entity: leave out {' '.join(_NOT_IN_PROJECT)}")
        return name

    @model_validator(mode="after")
    def _can_be_written(self) -> Self:
        for path, value in _leaves(self.model_dump(mode="json")):
            if value == "???":
                raise ValueError(f"{path} is '???', which means a missing value to Hydra: say it otherwise")
            if isinstance(value, str) and (is_secret("", value) or "\0" in value):
                raise ValueError(
                    f"{path} holds what looks like a secret, or a NUL character, and configurations are stored: leave "
                    "it out, and read it from the environment"
                )
        return self

    def serialize_to_yaml_file(
        self, name: str = "train", folder: Path | str | None = None
    ) -> tuple[Path, dict[str, Any]]:
        """Write the file that a job named `name` reads; return its path and what it says, as plain data.

        It is <folder>/<hash of name and content>/<name>.yaml, by default in configs/ of the project's state folder, and
        is never changed: the same training has the same file. There it is kept as long as a job that names it. Raises
        InvalidInput when it cannot be written.
        """
        return hydra.keep(self.model_dump(mode="json"), name, folder)

    @classmethod
    def from_yaml_file(cls, path: Path | str) -> TrainingRunConfig:
        """Read such a file. Raises InvalidInput when there is none, pydantic's ValidationError when it does not fit."""
        return cls.model_validate(hydra.read(Path(path)))

    def wandb_environment(self) -> dict[str, str]:
        """The variables with which any program's wandb run gets this project, entity, tags and notes."""
        said = {
            "WANDB_ENTITY": self.wandb_entity,
            "WANDB_PROJECT": self.wandb_project,
            "WANDB_TAGS": ",".join(self.wandb_tags),
            "WANDB_NOTES": self.wandb_notes,
        }
        return {name: value for name, value in said.items() if value}


def leaves(config: Mapping[str, Any]) -> dict[str, Any]:
    """A nested configuration as {"trainer.ppo.ent_coef": 0.01, …}; lists are leaves."""
    return dict(_leaves(config, lists=False))


def _leaves(value: Any, path: str = "", *, lists: bool = True) -> Iterator[tuple[str, Any]]:
    parts: Iterator[tuple[Any, Any]] | None = None
    if isinstance(value, Mapping) and value:
        parts = iter(value.items())
    elif lists and isinstance(value, list):
        parts = iter(enumerate(value))
    if parts is None:
        yield path, value
        return
    for key, part in parts:
        yield from _leaves(part, f"{path}.{key}" if path else str(key), lists=lists)


def _nearest_divisor(number: int, wanted: int) -> int:
    """The divisor of `number` that is nearest to `wanted` as a ratio."""
    small = [d for d in range(1, math.isqrt(number) + 1) if number % d == 0]
    return min({*small, *(number // d for d in small)}, key=lambda d: (abs(math.log(d / wanted)), d))
