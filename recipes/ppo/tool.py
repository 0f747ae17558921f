"""The tools of the recipes: their fields and what they promise. Light to import; learn and evaluation do the work."""

from __future__ import annotations

from abc import abstractmethod
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field, PositiveInt, model_validator

from metta_jobs.errors import InvalidInput
from metta_jobs.tool import Tool
from recipes.ppo.config import ArenaConfig, TrainerConfig
from recipes.ppo.requirements import TRAINING, require

if TYPE_CHECKING:
    from stable_baselines3.common.vec_env import VecEnv

    from recipes.ppo.folder import RunFolder

Device = Literal["cpu", "cuda", "auto"]
GymEnv = Literal["CartPole-v1", "Pendulum-v1"]
_SEED = Field(default=1, ge=0, lt=2**31)


class _PPOTool(Tool):
    """What training and evaluating have in common: an environment, a seed, a device."""

    seed: int = _SEED
    device: Device = "cpu"
    torch_threads: PositiveInt = 1

    @property
    @abstractmethod
    def recipe(self) -> str:
        """The run's name when nobody gave it one."""

    @property
    @abstractmethod
    def num_envs(self) -> int:
        """Environments of the learner's batch."""

    @property
    def packages(self) -> tuple[str, ...]:
        """What must be installed."""
        return TRAINING

    @abstractmethod
    def make_env(self, seed: int, *, stagger: bool = False) -> VecEnv:
        """Return a new vectorised environment; with `stagger` its episodes do not all end together."""

    def write_replay(self, model: Any, folder: RunFolder) -> None:
        """Leave a replay of the model's play in the folder, where the environment has replays."""


class TrainTool(_PPOTool):
    """Train one policy with PPO; leaves W&B curves, checkpoints/ and, for the arena, replays/.

    `checkpoint_every` counts agent steps; the newest `keep_checkpoints` are kept. `stats_window` is the number of
    finished episodes whose mean return is `overview/reward`; in the arena each agent's episode counts, so it is the
    mean of hearts per agent and episode. The row at step 0 is the untrained policy's, over as many episodes.
    """

    trainer: TrainerConfig
    checkpoint_every: PositiveInt = 200_000
    keep_checkpoints: PositiveInt = 3
    stats_window: PositiveInt = 64

    @model_validator(mode="after")
    def _batches(self) -> TrainTool:
        if problem := self.trainer.batch_problem(self.num_envs):
            raise ValueError(problem)
        return self

    def run(self) -> int:
        """Train; return 0, or 143 after a SIGTERM (130 after Ctrl-C), in each case with a last checkpoint."""
        require(*self.packages)
        # Fields of nested settings can be assigned one by one, past the validator of the whole.
        if problem := self.trainer.batch_problem(self.num_envs):
            raise InvalidInput(problem)
        from recipes.ppo.learn import learn

        return learn(self)


class EvaluateTool(_PPOTool):
    """Play whole episodes with a checkpoint, print the result as JSON and log it.

    Without `checkpoint`, actions are drawn uniformly at random. `deterministic` takes the likeliest action in place of
    drawing one. In the arena each agent's episode counts as one. A checkpoint is a pickle inside: evaluate only those
    that you trust.
    """

    checkpoint: Path | None = None
    episodes: PositiveInt = 64
    deterministic: bool = False
    replay: bool = False

    def run(self) -> int:
        """Evaluate; return 0."""
        require(*self.packages)
        if self.checkpoint is not None and not self.checkpoint.is_file():
            raise InvalidInput(
                f"The checkpoint {self.checkpoint} is no file. A training leaves its checkpoints in checkpoints/ of "
                "its folder; name one of those."
            )
        from recipes.ppo.evaluation import evaluate

        return evaluate(self)


class _Arena(_PPOTool):
    env: ArenaConfig = ArenaConfig()

    @property
    def recipe(self) -> str:
        return "arena"

    @property
    def num_envs(self) -> int:
        return self.env.num_envs

    @property
    def packages(self) -> tuple[str, ...]:
        return (*TRAINING, "mettagrid")

    def make_env(self, seed: int, *, stagger: bool = False) -> VecEnv:
        from recipes.ppo.vec_arena import VecArena

        return VecArena(self.env, seed, stagger=stagger)

    def write_replay(self, model: Any, folder: RunFolder) -> None:
        from recipes.ppo.replay import write_replay

        write_replay(model, self.env, self.seed, folder)


class _Gym(_PPOTool):
    env: GymEnv = "CartPole-v1"
    parallel_envs: int = Field(default=8, ge=1, le=1024)

    @property
    def recipe(self) -> str:
        return self.env

    @property
    def num_envs(self) -> int:
        return self.parallel_envs

    def make_env(self, seed: int, *, stagger: bool = False) -> VecEnv:
        from stable_baselines3.common.env_util import make_vec_env

        return make_vec_env(self.env, n_envs=self.parallel_envs, seed=seed)


class ArenaTrainTool(_Arena, TrainTool):
    """Train on the arena."""


class ArenaEvaluateTool(_Arena, EvaluateTool):
    """Evaluate on the arena."""


class GymTrainTool(_Gym, TrainTool):
    """Train on a Gymnasium task."""


class GymEvaluateTool(_Gym, EvaluateTool):
    """Evaluate on a Gymnasium task."""
