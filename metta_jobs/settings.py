"""Settings of a machine and a project, from the environment, a file, or pyproject.toml, in this order of precedence.

environment        METTA_<NAME>, e.g. METTA_CPUS=8
file               ~/.config/metta-jobs/config.toml ($XDG_CONFIG_HOME is honoured)
pyproject.toml     [tool.metta-jobs]

Addresses of webhooks are secrets, and pyproject.toml is shared: `[webhooks]` is read from the file alone.
"""

from __future__ import annotations

import os
import re
import tomllib
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, field_validator

from metta_jobs.errors import InvalidInput, nearest
from metta_jobs.refusal import explain

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_GPU = re.compile(r"\d+|GPU-[^\s,]+|MIG-[^\s,]+|amd:\d+")


class Settings(BaseModel):
    """What can be set.

    `cpus`: slots for jobs on this machine (default: the cores that we may use). `memory_gb`: memory for jobs, in 10^9
    bytes (default: the machine's, or what our container or allocation may use). `gpus`: the GPUs to give out, by index,
    UUID (GPU-…, MIG-…) or as amd:<index> (default: those found; METTA_GPUS=0,1; METTA_GPUS= for none). `gpu_busy_mb`: a
    GPU is not given out while programs of others use more of its memory than this, in MiB as nvidia-smi counts (0: it
    is not looked at). `max_parallel`: most jobs at a time (default: no limit but the slots). `reserve_after_s`: a job
    that waits longer than this for slots has them kept free for it. `webhooks`: addresses by name, for hooks (only in
    your own file). `daemon_idle_exit_s`: the daemon ends itself after so many idle seconds; the next command that needs
    it starts it. `allow_network_fs`: the state folder may lie on a network file system, at your own risk. `sky_python`:
    the Python that has SkyPilot installed (default: this environment's, else the one behind `sky` on PATH).
    """

    # An error would show what it found, which may be an address.
    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    cpus: float | None = Field(default=None, gt=0)
    gpus: tuple[str, ...] | None = None
    max_parallel: int | None = Field(default=None, ge=1)
    memory_gb: float | None = Field(default=None, gt=0)
    reserve_after_s: float = Field(default=300, ge=0)
    gpu_busy_mb: float = Field(default=1024, ge=0)
    webhooks: dict[str, SecretStr] = {}
    daemon_idle_exit_s: float = Field(default=3600, gt=0)
    allow_network_fs: bool = False
    sky_python: str | None = None

    @field_validator("gpus", mode="before")
    @classmethod
    def _gpus(cls, value: Any) -> Any:
        if isinstance(value, str):
            value = [part.strip() for part in value.split(",") if part.strip()]
        if not isinstance(value, list | tuple):
            raise ValueError("it must be a list, as ['0', '1']")
        names = [str(part) for part in value]
        for name in names:
            if not _GPU.fullmatch(name):
                raise ValueError(
                    f"{name!r} is the name of no GPU: list indices (0,1), UUIDs (GPU-…, MIG-…) or amd:<index>; an "
                    "empty list stands for none"
                )
        # A GPU that is named twice is still one.
        return tuple(dict.fromkeys(names))

    @field_validator("webhooks", mode="before")
    @classmethod
    def _webhooks(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            raise ValueError("it must be a table [webhooks] with lines like TEAM_SLACK = 'https://…'")
        for name, address in value.items():
            if not _NAME.fullmatch(name):
                raise ValueError(f"{name!r} cannot name a webhook: use letters, digits and _")
            if not isinstance(address, str) or not address.startswith(("https://", "http://")):
                raise ValueError(f"the address of {name} must begin with https:// or http://")
        return value

    def webhook(self, name: str) -> str | None:
        """The address that hooks know by this name, None when there is none."""
        return self.webhooks[name].get_secret_value() if name in self.webhooks else None

    @classmethod
    def load(cls, project: Path) -> Settings:
        """Read all sources; raise InvalidInput naming the source and the field when one cannot be used."""
        config = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "metta-jobs" / "config.toml"
        values: dict[str, Any] = {}
        for source, found in (
            (project / "pyproject.toml", _toml(project / "pyproject.toml").get("tool", {}).get("metta-jobs", {})),
            (config, _toml(config)),
        ):
            if "webhooks" in found and source != config:
                raise InvalidInput(f"{source}: addresses of webhooks are secrets; put them into {config}.")
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
            raise InvalidInput(f"A setting cannot be used: {explain(error, cls)}") from None


def _toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text())
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except (OSError, tomllib.TOMLDecodeError) as error:
        raise InvalidInput(f"{path} cannot be read: {error}") from error
