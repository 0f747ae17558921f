"""Settings of a machine and a project, from the environment, a file, or pyproject.toml, in this order of precedence.

environment        METTA_<NAME>, e.g. METTA_CPUS=8
file               ~/.config/metta-jobs/config.toml ($XDG_CONFIG_HOME is honoured)
pyproject.toml     [tool.metta-jobs]
"""

from __future__ import annotations

import os
import tomllib
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from metta_jobs.errors import InvalidInput, nearest


class Settings(BaseModel):
    """What can be set.

    `cpus`: slots for jobs on this machine (default: its cores). `gpus`: indices or UUIDs of the GPUs to give out
    (default: those found; METTA_GPUS=0,1). `max_parallel`: most jobs at a time (default: no limit but the slots).
    `daemon_idle_exit_s`: the daemon ends itself after so many idle seconds; the next command that needs it starts it.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    cpus: float | None = Field(default=None, gt=0)
    gpus: tuple[str, ...] | None = None
    max_parallel: int | None = Field(default=None, ge=1)
    daemon_idle_exit_s: float = Field(default=3600, gt=0)

    @field_validator("gpus", mode="before")
    @classmethod
    def _gpus(cls, value: Any) -> Any:
        if isinstance(value, str):
            return tuple(part.strip() for part in value.split(",") if part.strip())
        return tuple(str(part) for part in value) if isinstance(value, list | tuple) else value

    @classmethod
    def load(cls, project: Path) -> Settings:
        """Read all sources; raise InvalidInput naming the source and the field when one cannot be used."""
        config = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "metta-jobs" / "config.toml"
        values: dict[str, Any] = {}
        for source, found in (
            (project / "pyproject.toml", _toml(project / "pyproject.toml").get("tool", {}).get("metta-jobs", {})),
            (config, _toml(config)),
        ):
            for name in found:
                if name not in cls.model_fields:
                    raise InvalidInput(f"{source}: there is no setting {name!r}.{nearest(name, cls.model_fields)}")
            values |= found
        for name in cls.model_fields:
            if (text := os.environ.get(f"METTA_{name.upper()}")) is not None:
                values[name] = text
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            first = error.errors()[0]
            raise InvalidInput(f"The setting {first['loc'][0]!r} cannot be used: {first['msg']}.") from error


def _toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text())
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except (OSError, tomllib.TOMLDecodeError) as error:
        raise InvalidInput(f"{path} cannot be read: {error}") from error
