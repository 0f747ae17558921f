"""What a person submits: jobs, what they wait for, where they run. All of it is checked before anything is stored."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, field_validator

from metta_jobs.environment import is_secret, secret_argument
from metta_jobs.states import DependencyKind

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.=,+@-]{0,127}")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def check_name(name: str) -> str:
    """Return `name` if it can name a job or a group; raise ValueError with the rule otherwise."""
    if not _NAME.fullmatch(name):
        raise ValueError(
            f"{name!r} cannot be a name: use 1 to 128 letters, digits and _ . = , + @ -, not beginning with a sign"
        )
    if name.isdigit():
        raise ValueError(f"{name!r} cannot be a name: a number alone means a job's id")
    return name


Name = Annotated[str, AfterValidator(check_name)]


class _Config(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Dependency(_Config):
    """A job that must end before another may start.

    `job` is an id, the name of a job in the same group, or "group/name". `kind` says how it must end: afterok (it
    succeeded), afterany (it ended), afternotok (it ended without success).
    """

    job: int | str
    kind: DependencyKind = DependencyKind.AFTEROK

    @classmethod
    def parse(cls, text: str) -> Dependency:
        """Read "[KIND:]JOB" as typed at a shell: "train", "14", "afterany:g/train"."""
        kind, colon, job = text.partition(":")
        if not colon:
            kind, job = DependencyKind.AFTEROK.value, text
        try:
            parsed = DependencyKind(kind)
        except ValueError:
            kinds = ", ".join(k.value for k in DependencyKind)
            raise ValueError(f"{kind!r} is no kind of dependency; there are {kinds}") from None
        return cls(job=int(job) if job.isdigit() else job, kind=parsed)


def _as_dependency(value: Any) -> Any:
    if isinstance(value, str):
        return Dependency.parse(value)
    return Dependency(job=value) if isinstance(value, int) else value


class RemoteConfig(_Config):
    """Resources of a job that runs through SkyPilot: `gpus` and `cpus` a node, `nodes` of them, spot or on demand."""

    gpus: float = Field(default=1, ge=0)
    gpu_type: str | None = None
    cpus: float | None = Field(default=None, gt=0)
    memory_gb: float | None = Field(default=None, gt=0)
    nodes: int = Field(default=1, ge=1)
    spot: bool = True
    infra: str | None = None


class JobConfig(_Config):
    """One command to run.

    `command` is an argv list; it never goes through a shell. `gpus` and `cpus` are slots it holds while it runs.
    `timeout_s` limits its running time (none by default; time in the queue and while the machine sleeps does not
    count). `grace_s` is the pause between TERM and KILL when it must end. `env` is added to the environment that the
    submitter had; secrets are refused there, because configurations are stored. `remote` sends it to SkyPilot.
    `metrics` are keys that the monitor and the notebook follow.
    """

    name: Name
    command: tuple[str, ...] = Field(min_length=1)
    cwd: Path | None = None
    env: dict[str, str] = {}
    gpus: int = Field(default=0, ge=0)
    cpus: float = Field(default=1, ge=0)
    timeout_s: float | None = Field(default=None, gt=0)
    grace_s: float = Field(default=15, ge=0)
    depends_on: tuple[Annotated[Dependency, BeforeValidator(_as_dependency)], ...] = ()
    remote: RemoteConfig | None = None
    metrics: tuple[str, ...] = ()
    kind: Literal["run", "notebook"] = "run"

    @field_validator("command")
    @classmethod
    def _command(cls, command: tuple[str, ...]) -> tuple[str, ...]:
        if not command[0].strip():
            raise ValueError("the command is empty")
        if any("\0" in part for part in command):
            raise ValueError("a command cannot hold a NUL character")
        if found := secret_argument(command):
            raise ValueError(
                f"{found} looks like a secret, and commands are stored: export it in your shell and read it from "
                "the environment"
            )
        return command

    @field_validator("env")
    @classmethod
    def _env(cls, env: dict[str, str]) -> dict[str, str]:
        for name, value in env.items():
            if not _VARIABLE.fullmatch(name) or "\0" in value:
                raise ValueError(f"{name!r} cannot be an environment variable")
            if is_secret(name, value):
                raise ValueError(
                    f"{name} looks like a secret, and configurations are stored: export it in your shell instead, "
                    "from where it reaches the job without being written down"
                )
        return env
