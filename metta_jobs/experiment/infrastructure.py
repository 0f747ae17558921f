"""Where a training runs, apart from what it learns; and both together, as one job."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import Field, field_validator

from metta_jobs.display.format import counted
from metta_jobs.errors import InvalidInput
from metta_jobs.executors.devices import find_gpus
from metta_jobs.experiment.hydra import fingerprint
from metta_jobs.experiment.training import KnownFields, TrainingRunConfig
from metta_jobs.job import JobConfig, Name
from metta_jobs.remote import RemoteConfig
from metta_jobs.settings import Settings

#: Where a node finds the configuration of its training.
MOUNT = "/tmp/metta_train_config.yaml"  # noqa: S108 - a path on a machine that is made for the job
#: Clouds whose machines are shared: jobs of one machine must not find each other's configuration.
_SHARED = frozenset({"slurm", "ssh"})
#: By this a program can tell that the file that it found is the one that was meant.
FINGERPRINT_VARIABLE = "METTA_TRAIN_CONFIG_ID"


class SkypilotJobConfig(KnownFields, RemoteConfig):
    """The machines of a training: RemoteConfig's fields, with whole GPUs per node.

    With `remote=False` it runs on this machine: then `gpus` (by default 1 where there are any), `cpus`, `memory_gb`
    and `max_runtime_hours` are the job's slots and limit, and the other fields are not used.
    """

    remote: bool = True

    @field_validator("shipped", "adopted")
    @classmethod
    def _ours(cls, value: Any) -> Any:
        if value is not None:
            raise ValueError("it is set at submit, not by people: leave it out")
        return value

    def resources_of(self, project: Path) -> dict[str, Any]:
        """The fields of a JobConfig that say where it runs. Raises InvalidInput where that cannot be."""
        if self.remote:
            given = self.model_dump(include=self.model_fields_set - {"remote"})
            return {"remote": RemoteConfig.model_validate(given)}
        if self.nodes > 1:
            raise InvalidInput(f"nodes={self.nodes}, and this machine is one: leave nodes out, or run it remotely.")
        gpus = self.gpus if "gpus" in self.model_fields_set else int(bool(find_gpus(Settings.load(project))))
        hours = self.max_runtime_hours
        return {
            "gpus": gpus,
            "cpus": 1 if self.cpus is None else self.cpus,
            "memory_gb": self.memory_gb or 0,
            "timeout_s": None if hours is None else hours * 3600,
            "env": self.env,
            "secrets": self.secrets,
        }

    @property
    def summary(self) -> str:
        """What it asks for, in a line."""
        if self.remote:
            return self.words
        asked = [counted(self.gpus, "GPU")] if "gpus" in self.model_fields_set and self.gpus else []
        asked += [f"{self.cpus:g} CPUs" if self.cpus not in (None, 1) else "1 CPU"]
        asked += [f"{self.memory_gb:g} GB"] if self.memory_gb else []
        asked += [f"at most {self.max_runtime_hours:g} h"] if self.max_runtime_hours is not None else []
        return ", ".join(["this machine", *asked])


class TrainingJobConfig(KnownFields):
    """One training and the machines that it gets. `name` is the job's; an experiment names those that have none."""

    name: Name | None = None
    skypilot: SkypilotJobConfig = Field(default_factory=SkypilotJobConfig)
    training: TrainingRunConfig = Field(default_factory=TrainingRunConfig)

    def job(
        self,
        name: str,
        program: tuple[str, ...],
        project: Path,
        *,
        folder: Path | None = None,
        metrics: tuple[str, ...] = (),
    ) -> tuple[JobConfig, Path]:
        """The job that runs `program` with this training, and the file (in `folder`) that tells the program of it.

        The program gets --config-path and --config-name, as any Hydra program takes them. Raises InvalidInput.
        """
        where = self.skypilot.resources_of(project)
        path, _ = self.training.serialize_to_yaml_file(name, folder)
        told, environment = path, self.training.wandb_environment()
        remote: RemoteConfig | None = where.get("remote")
        if remote is not None:
            told = Path(MOUNT)
            if remote.cloud in _SHARED:
                told = told.with_stem(f"{told.stem}_{path.parent.name[:16]}")
            mounts = {**remote.file_mounts, str(told): str(path)}
            where["remote"] = remote.model_copy(update={"file_mounts": mounts})
            environment[FINGERPRINT_VARIABLE] = fingerprint(path)
        where["env"] = {**environment, **where.get("env", {})}
        command = (*program, "--config-path", str(told.parent), "--config-name", told.stem)
        return JobConfig(name=name, command=command, cwd=project, metrics=metrics, **where), path
