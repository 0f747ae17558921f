"""What a person submits: jobs, what they wait for, where they run. All of it is checked before anything is stored."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, field_validator, model_validator

from metta_jobs.criteria import Criteria
from metta_jobs.environment import check_env, check_secret_names, secret_argument
from metta_jobs.policy import Hooks, Model, RetryPolicy
from metta_jobs.remote import RemoteConfig
from metta_jobs.states import DependencyKind

_NAME = re.compile(r"\w[\w.=,+@-]{0,127}")
_NAME_BYTES = 200  # names become parts of file names, which have 255


def check_name(name: str) -> str:
    """Return `name` if it can name a job or a group; raise ValueError with the rule otherwise."""
    if not _NAME.fullmatch(name) or len(name.encode()) > _NAME_BYTES:
        raise ValueError(
            f"{name!r} cannot be a name: use 1 to 128 letters, digits and _ . = , + @ -, not beginning with a sign, "
            f"at most {_NAME_BYTES} bytes"
        )
    if name.isdigit():
        raise ValueError(f"{name!r} cannot be a name: a number alone means a job's id")
    return name


Name = Annotated[str, AfterValidator(check_name)]


class Dependency(Model):
    """A job, or a whole group, that must end before another job may start.

    `job` is an id, the name of a job in the same group, or "group/name". `group` instead of it means the jobs that
    this group has at the moment of submit. `kind` says how they must end: afterok (all succeeded), afterany (all
    ended), afternotok (all ended, at least one without success).
    """

    job: int | str | None = None
    group: Name | None = None
    kind: DependencyKind = DependencyKind.AFTEROK

    @model_validator(mode="after")
    def _one(self) -> Dependency:
        if (self.job is None) == (self.group is None):
            raise ValueError("a dependency names either a job or a group")
        return self

    @property
    def label(self) -> str:
        """What it waits for, as typed at a shell."""
        return f"{self.group}/" if self.group is not None else str(self.job)

    @classmethod
    def parse(cls, text: str) -> Dependency:
        """Read "[KIND:]JOB" or "[KIND:]GROUP/" as typed at a shell: "train", "14", "afterany:g/train", "afterok:g/"."""
        kind, colon, job = text.partition(":")
        if not colon:
            kind, job = DependencyKind.AFTEROK.value, text
        try:
            parsed = DependencyKind(kind)
        except ValueError:
            kinds = ", ".join(k.value for k in DependencyKind)
            raise ValueError(f"{kind!r} is no kind of dependency; there are {kinds}") from None
        if job.endswith("/"):
            return cls(group=job[:-1], kind=parsed)
        return cls(job=int(job) if job.isdigit() else job, kind=parsed)


_PARENT = "a job or a group (NAME, GROUP/NAME, ID, GROUP/; afterany: or afternotok: may come first)"


def _as_dependency(value: Any) -> Any:
    if isinstance(value, str):
        return Dependency.parse(value)
    return Dependency(job=value) if isinstance(value, int) else value


class JobConfig(Model):
    """One command to run.

    `command` is an argv list; it never goes through a shell. `cwd` is the folder it runs in. `env` is added to the
    environment that the submitter had; secrets are refused there, because configurations are stored: `secrets` names
    variables of the submitter's environment to hand on unseen, beside those that look like secrets by themselves.

    `gpus`, `cpus` and `memory_gb` (GB) are slots that it holds while it runs; `gpus` is a whole number or a fraction
    below 1 of one GPU. `priority`: higher starts first, then older. `depends_on` says what must end before.

    `timeout_s` limits its running time (none by default; time in the queue and while the machine sleeps does not
    count), `queue_timeout_s` the time that it waits for slots, or for its group's limit, once nothing else holds it
    back. `grace_s` is the pause between TERM and KILL when it must end. `retry` says when it is tried again, `on_end`
    whom to tell of its end. `max_log_mb` keeps that much of its output (MB): the head and the tail.

    `remote` sends it to SkyPilot. `metrics` are keys that the monitor and the notebook follow. `acceptance`: what its
    metrics must be at the end for exit code 0 to be a success; otherwise it has FAILED.

    `variant` and `seed` say which cell of an experiment's matrix it is: results are told per variant, over its seeds.
    They only label the job; that the command is given the seed is its submitter's to see to.
    """

    name: Name
    command: tuple[str, ...] = Field(min_length=1)
    cwd: Path | None = None
    env: Annotated[dict[str, str], AfterValidator(check_env)] = {}
    secrets: Annotated[tuple[str, ...], AfterValidator(check_secret_names)] = ()
    gpus: float = Field(default=0, ge=0)
    cpus: float = Field(default=1, ge=0)
    memory_gb: float = Field(default=0, ge=0)
    priority: int = Field(default=0, ge=-1_000_000, le=1_000_000)
    timeout_s: float | None = Field(default=None, gt=0)
    queue_timeout_s: float | None = Field(default=None, gt=0)
    grace_s: float = Field(default=15, ge=0)
    max_log_mb: float | None = Field(default=None, ge=1)
    depends_on: tuple[Annotated[Dependency, BeforeValidator(_as_dependency), Field(description=_PARENT)], ...] = ()
    retry: RetryPolicy | None = None
    on_end: Hooks = ()
    remote: RemoteConfig | None = None
    metrics: tuple[str, ...] = ()
    acceptance: Criteria = ()
    kind: Literal["run", "notebook"] = "run"
    variant: Name | None = None
    seed: int | None = None

    @property
    def executor(self) -> str:
        """Where it runs: "local" or "skypilot"."""
        return "local" if self.remote is None else "skypilot"

    @property
    def slots(self) -> tuple[float, float, float]:
        """GPUs, CPUs and memory (GB) that it holds of this machine: none when it runs elsewhere."""
        return (self.gpus, self.cpus, self.memory_gb) if self.remote is None else (0, 0, 0)

    @field_validator("gpus")
    @classmethod
    def _gpus(cls, gpus: float) -> float:
        if gpus > 1 and gpus != int(gpus):
            raise ValueError(f"{gpus:g} GPUs cannot be given: use a whole number, or a fraction below 1 of one GPU")
        return gpus

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
