"""What a job that runs through SkyPilot asks for, checked before anything is stored and without asking SkyPilot.

What SkyPilot knows of its clouds is written down here as data, as of its version 0.14.1: importing it takes seconds.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, field_validator, model_validator

from metta_jobs.environment import check_env, check_secret_names, is_secret
from metta_jobs.errors import nearest
from metta_jobs.policy import Model

CLOUDS = frozenset({
    "aws", "azure", "cudo", "do", "fluidstack", "gcp", "hyperbolic", "ibm", "kubernetes", "lambda", "mithril", "nebius",
    "oci", "paperspace", "primeintellect", "runpod", "scp", "seeweb", "shadeform", "slurm", "ssh", "vast", "verda",
    "vsphere", "yotta",
})  # fmt: skip
ALIASES = {"k8s": "kubernetes", "digitalocean": "do"}
#: Clouds for which SkyPilot refuses spot instances, always.
NO_SPOT = frozenset({
    "cudo", "do", "fluidstack", "hyperbolic", "lambda", "paperspace", "scp", "seeweb", "shadeform", "slurm", "vsphere",
    "yotta",
})  # fmt: skip
BUCKETS = ("s3", "gs", "https", "r2", "cos", "oci", "nebius", "cw", "vastdata", "hf")
RECOVERIES = ("FAILOVER", "EAGER_NEXT_REGION")
#: What stands for "any GPU": the memory that it has at least; Slurm's own word for GPUs whose type it was not told.
ANY_GPU, ANY_SLURM_GPU = "8GB+", "GPU"
NODE_WORKDIR = "~/sky_workdir"
_NAME = re.compile(r"[a-zA-Z0-9]+(?:[._-]{1,2}[a-zA-Z0-9]+)*")
_POOL = re.compile(r"[a-zA-Z]([-_.a-zA-Z0-9]*[a-zA-Z0-9])?")
_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")


def is_legal_name(text: str) -> bool:
    """True when SkyPilot takes `text` as the name of a managed job."""
    return _NAME.fullmatch(text) is not None


def legal_name(text: str) -> str:
    """Make a name that SkyPilot takes out of any text: other characters become "-"; "x" when nothing is left."""
    return "-".join(re.findall(r"[a-zA-Z0-9]+(?:[._-][a-zA-Z0-9]+)*", text)) or "x"


def cloud_of(infra: str | None) -> str | None:
    """The cloud that an infra begins with ("k8s/context" is on "kubernetes"); None when it may be any."""
    word = (infra or "*").strip().strip("/").split("/")[0].strip().lower()
    return None if word in ("", "*") else ALIASES.get(word, word)


def _absolute(path: Path | str) -> str:
    """The daemon works in a folder of its own; what is absolute already stays the same."""
    return os.path.abspath(os.path.expanduser(path))  # noqa: PTH100, PTH111 - links are not to be followed


class Adopted(Model):
    """A managed job that is there already, and is to be the job's attempt of this number. `token` marks its evidence
    ("" when that is not known any more)."""

    attempt: int
    managed_id: int
    name: str
    token: str


class RemoteConfig(Model):
    """Resources of a job that runs through SkyPilot, and what it finds on its nodes.

    `gpus` (of `gpu_type`, or any), `cpus` and `memory_gb` (GB, both at least) are per node, of which there are `nodes`,
    on `spot` instances or on demand; where an infra has no spot, the default is on demand. `infra` is
    cloud[/region[/zone]], or kubernetes/context; None lets SkyPilot choose. `image` is a machine image or
    docker:<image>, `disk_gb` (GB) the size of the disk. `max_runtime_hours` ends an attempt that runs longer.

    `env` and `secrets` are as in JobConfig. `file_mounts` maps absolute paths on the nodes to local paths or URLs of
    buckets. `setup` is a shell script that runs first. `workdir` says where the code comes from: "snapshot" is the
    working tree at submit, "git" its commit, a path that folder as it is at launch; with None the image has it all.

    SkyPilot restarts it after failures of its own up to `max_restarts_on_errors` times, and after a preemption as
    `recovery` says (failover or eager_next_region). `pool` names a pool of workers to run on, whatever they are;
    `priority` is SkyPilot's, from -1000 to 1000. `shipped` is set at submit: what "snapshot" or "git" stood for then;
    `adopted` when a managed job that nobody looks after is taken back.
    """

    gpus: int = Field(default=1, ge=0)
    gpu_type: str | None = None
    cpus: float | None = Field(default=None, gt=0)
    memory_gb: float | None = Field(default=None, gt=0)
    nodes: int = Field(default=1, ge=1)
    spot: bool = True
    infra: str | None = None
    image: str | None = None
    disk_gb: int | None = Field(default=None, ge=1)
    max_runtime_hours: float | None = Field(default=None, gt=0)
    env: Annotated[dict[str, str], AfterValidator(check_env)] = {}
    secrets: Annotated[tuple[str, ...], AfterValidator(check_secret_names)] = ()
    file_mounts: dict[str, str] = {}
    setup: str | None = None
    workdir: Literal["snapshot", "git"] | Path | None = "snapshot"
    max_restarts_on_errors: int = Field(default=0, ge=0)
    recovery: str | None = None
    pool: str | None = None
    priority: int | None = Field(default=None, ge=-1000, le=1000)
    shipped: dict[str, str] | None = None
    adopted: Adopted | None = None

    def __hash__(self) -> int:
        return hash(self.model_dump_json())

    @property
    def cloud(self) -> str | None:
        """The cloud that `infra` names; None when it may be any."""
        return cloud_of(self.infra)

    @property
    def words(self) -> str:
        """What it asks for, in a line: "slurm, 2 nodes of 8 H100, 4+ CPUs each, on demand, snapshot of the code"."""
        machine = [f"{self.gpus} {self.gpu_type or ('GPU' if self.gpus == 1 else 'GPUs')}"] if self.gpus else []
        machine += [f"{self.cpus:g}+ CPUs"] if self.cpus is not None else []
        machine += [f"{self.memory_gb:g}+ GB"] if self.memory_gb is not None else []
        size = f"{self.nodes} node{'' if self.nodes == 1 else 's'}" + (f" of {', '.join(machine)}" if machine else "")
        code = {"snapshot": "snapshot of the working tree", "git": "the git commit", None: "no code"}
        parts = [self.infra or "any infra", size]
        parts += [f"pool {self.pool}"] if self.pool else ["spot" if self.spot else "on demand"]
        parts += [f"at most {self.max_runtime_hours:g} h"] if self.max_runtime_hours is not None else []
        shipped = f"the folder {self.workdir}" if isinstance(self.workdir, Path) else code[self.workdir]
        return ", ".join([*parts, shipped])

    def resources(self) -> dict[str, Any]:
        """The keyword arguments of sky.Resources, as plain data; what was not asked for is not in it."""
        wanted: dict[str, Any] = {
            "infra": self.infra,
            "cpus": None if self.cpus is None else f"{self.cpus:.12g}+",
            "memory": None if self.memory_gb is None else f"{self.memory_gb:.12g}+",
            "accelerators": self._accelerators() or None,
            "image_id": self.image,
            "disk_size": self.disk_gb,
            "job_recovery": self._recovery() or None,
            "priority": self.priority,
        }
        if self.pool is None:  # a pool's workers are there already, and are what they are
            wanted["use_spot"] = self.spot
        return {key: value for key, value in wanted.items() if value is not None}

    def task_fields(self) -> dict[str, Any]:
        """The rest of a task, as plain data, but for what it runs and the secrets' values."""
        code: str | dict[str, str] | None = str(self.workdir) if isinstance(self.workdir, Path) else None
        if self.shipped is not None:
            code = self.shipped.get("path") or {"url": self.shipped["url"], "ref": self.shipped["ref"]}
        return {
            "setup": self.setup,
            "envs": dict(self.env),
            "num_nodes": self.nodes,
            "workdir": code,
            "file_mounts": dict(self.file_mounts),
            "resources": self.resources(),
        }

    def _accelerators(self) -> dict[str, int]:
        if not self.gpus:
            return {}
        return {self.gpu_type or (ANY_SLURM_GPU if self.cloud == "slurm" else ANY_GPU): self.gpus}

    def _recovery(self) -> dict[str, Any]:
        asked: dict[str, Any] = {"strategy": self.recovery} if self.recovery else {}
        return asked | ({"max_restarts_on_errors": self.max_restarts_on_errors} if self.max_restarts_on_errors else {})

    # ------------------------------------------------------------------------------------------------ what is refused

    @field_validator("gpus", mode="before")
    @classmethod
    def _gpus(cls, gpus: Any) -> Any:
        if isinstance(gpus, float) and not gpus.is_integer():
            raise ValueError(f"{gpus:g} GPUs cannot be given: nodes come with whole GPUs, so use a whole number")
        return gpus

    @field_validator("gpu_type")
    @classmethod
    def _gpu_type(cls, name: str | None) -> str | None:
        if name is not None and not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._+-]*", name):
            raise ValueError(f"{name!r} is no type of GPU: write A100, and how many of them as gpus")
        return name

    @field_validator("infra")
    @classmethod
    def _infra(cls, infra: str | None) -> str | None:
        if infra is None:
            return None
        parts = [part.strip() for part in infra.strip().strip("/").split("/")]
        cloud = cloud_of(infra)
        if cloud is not None and cloud not in CLOUDS:
            raise ValueError(
                f"SkyPilot knows no infra {parts[0]!r}.{nearest(parts[0].lower(), [*CLOUDS, *ALIASES])} "
                f"There are {', '.join(sorted(CLOUDS))}"
            )
        if "" in parts or (len(parts) > 3 and cloud not in ("kubernetes", "ssh")):
            raise ValueError(f"{infra!r} is no infra: write cloud, cloud/region or cloud/region/zone")
        return "/".join([parts[0].lower() if cloud is None else cloud, *parts[1:]])

    @model_validator(mode="before")
    @classmethod
    def _spot(cls, fields: Any) -> Any:
        """Where there is no spot, its default gives way, but who has asked for it is told."""
        if not isinstance(fields, dict) or "spot" in fields:
            return fields
        infra = fields.get("infra")
        none = fields.get("pool") is not None or (isinstance(infra, str) and cloud_of(infra) in NO_SPOT)
        return {**fields, "spot": False} if none else fields

    @model_validator(mode="after")
    def _fits(self) -> RemoteConfig:
        if self.spot and self.cloud in NO_SPOT:
            raise ValueError(f"SkyPilot has no spot instances on {self.cloud}: say spot=false")
        if self.pool is not None:
            theirs = {"spot": self.spot, "image": self.image is not None, "disk_gb": self.disk_gb is not None}
            if named := [name for name, said in theirs.items() if said]:
                raise ValueError(f"the workers of the pool {self.pool} are as the pool was made: leave {named[0]} out")
        if self.gpu_type is not None and not self.gpus:
            raise ValueError(f"gpu_type is {self.gpu_type} and gpus is 0: say how many, or leave gpu_type out")
        return self

    @field_validator("image", "setup")
    @classmethod
    def _text(cls, text: str | None) -> str | None:
        if text is None:
            return None
        if not text.strip() or "\0" in text:
            raise ValueError("it is empty, or holds a NUL character: leave it out if there is nothing to say")
        if is_secret("", text):
            raise ValueError(
                "it holds what looks like a secret, and configurations are stored: name a variable of your environment "
                "in secrets, and use that"
            )
        return text.strip()

    @field_validator("file_mounts")
    @classmethod
    def _file_mounts(cls, mounts: dict[str, str]) -> dict[str, str]:
        return {_target(target): _source(source) for target, source in mounts.items()}

    @field_validator("workdir")
    @classmethod
    def _workdir(cls, workdir: str | Path | None) -> str | Path | None:
        return Path(_absolute(workdir)) if isinstance(workdir, Path) else workdir

    @field_validator("recovery")
    @classmethod
    def _strategy(cls, name: str | None) -> str | None:
        if name is not None and name.upper() not in RECOVERIES:
            raise ValueError(
                f"{name!r} is no way to recover.{nearest(name.upper(), RECOVERIES)} "
                f"There are {' and '.join(RECOVERIES)}"
            )
        return name and name.upper()

    @field_validator("pool")
    @classmethod
    def _pool(cls, name: str | None) -> str | None:
        if name is not None and not _POOL.fullmatch(name):
            raise ValueError(
                f"{name!r} cannot name a pool: use letters, digits and - _ . , beginning with a letter and ending with "
                "a letter or digit"
            )
        return name


def _target(path: str) -> str:
    if not path.startswith(("/", "~/")) or "\0" in path or ".." in path.split("/"):
        raise ValueError(f"{path!r} cannot be a path on a node: begin with / or ~/, and leave .. out")
    path = path.rstrip("/")
    if path in ("", "~", NODE_WORKDIR):
        raise ValueError(f"{path or '/'} cannot be replaced on a node: name a file or a folder in it")
    return path


def _source(source: str) -> str:
    if not source.strip() or "\0" in source:
        raise ValueError("the source of a file mount is empty, or holds a NUL character")
    if is_secret("", source):
        raise ValueError("the source of a file mount holds a secret, and configurations are stored: leave it out")
    scheme = _URL.match(source)
    if scheme is None:
        return _absolute(source)
    if scheme[1].lower() not in BUCKETS:
        raise ValueError(
            f"SkyPilot knows no buckets at {scheme[0]}.{nearest(scheme[1].lower(), BUCKETS)} "
            f"There are {', '.join(BUCKETS)}"
        )
    return source.rstrip("/")
