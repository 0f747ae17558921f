"""A tool is what a recipe's function returns and `metta run` runs: typed fields, one `run`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path

from pydantic import BaseModel, ConfigDict, PrivateAttr

from metta_jobs.job import JobConfig


class Tool(BaseModel, ABC):
    """Base of all tools. Subclass it, give it typed fields, implement `run`.

    Every field, nested ones included, can be overridden from the command line by its dotted path:
    `metta run gym.train trainer.total_timesteps=10000`. Unknown fields and wrong types are refused.
    """

    model_config = ConfigDict(extra="forbid", validate_assignment=True)

    _origin: str = PrivateAttr(default="")

    @abstractmethod
    def run(self) -> int:
        """Do the work; return the exit code, 0 for success."""

    def jobs(self, project: Path) -> list[JobConfig]:
        """The jobs that `run` would submit, none by default; what `--dry-run` shows. Stores nothing."""
        return []

    def name_origin(self, slug: str) -> None:
        """Note which recipe made the tool ("arena_experiment"), for names that are made from it."""
        self._origin = slug
