"""A tool is what a recipe's function returns and `metta run` runs: typed fields, one `run`."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Tool(BaseModel):
    """Base of all tools. Subclass it, give it typed fields, implement `run`.

    Every field, nested ones included, can be overridden from the command line by its dotted path:
    `metta run gym.train trainer.total_timesteps=10000`. Unknown fields and wrong types are refused.
    """

    model_config = ConfigDict(extra="forbid", validate_assignment=True)

    def run(self) -> int:
        """Do the work; return the exit code, 0 for success."""
        raise NotImplementedError(f"{type(self).__name__} must implement run()")
