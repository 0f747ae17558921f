"""What a person says of an experiment as a whole; each field is a flag of its program."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import Field, field_validator, model_validator

from metta_jobs.errors import UnknownName
from metta_jobs.experiment.infrastructure import SkypilotJobConfig, TrainingJobConfig
from metta_jobs.experiment.sections import choose_sections
from metta_jobs.experiment.training import KnownFields, TrainingRunConfig
from metta_jobs.job import Name


class BaseExperimentConfig(KnownFields):
    """An experiment's configuration. Subclass it to add flags: every field is one, with its description as help.

    A field that nobody has set leaves the decision to what it is handed to: `gpus` to SkypilotJobConfig, say.
    """

    name: Name | None = Field(default=None, description="Name of the group; by default the experiment's and the time.")
    remote: bool = Field(default=True, description="Through SkyPilot, or on this machine.")
    gpus: int | None = Field(default=None, ge=0, description="GPUs of a job, on each node.")
    gpu_type: str | None = Field(default=None, description="Which GPUs, as in A100.")
    nodes: int = Field(default=1, ge=1, description="Nodes of a job.")
    cpus: float | None = Field(default=None, gt=0, description="CPUs of a job, on each node.")
    memory_gb: float | None = Field(default=None, gt=0, description="Memory of a job, on each node (GB).")
    spot: bool = Field(default=True, description="On spot instances.")
    infra: str | None = Field(default=None, description="Where: k8s, slurm, aws/us-east-1, ...")
    max_runtime_hours: float | None = Field(default=None, gt=0, description="Ends a job that runs longer.")
    seed: int | None = Field(default=None, ge=0, description="The random seed.")
    seeds: tuple[int, ...] = Field(default=(), description="Several: each run becomes one job a seed, NAME.s1, ...")
    wandb_entity: str | None = Field(default=None, description="W&B entity.")
    wandb_project: str | None = Field(default=None, description="W&B project.")
    wandb_group: str | None = Field(default=None, description="W&B group, instead of the group of jobs.")
    wandb_tags: tuple[str, ...] = Field(default=(), description="W&B tags.")
    wandb_notes: str | None = Field(default=None, description="W&B notes.")
    launch: bool = Field(default=False, description="Submit the jobs; without it, they are shown.")
    skip_git_check: bool = Field(default=False, description="Changes that are not committed are no reason to stop.")
    notebook: bool = Field(default=True, description="The group writes its notebook when its jobs have ended.")
    job_ids: tuple[int, ...] = Field(default=(), description="Jobs that exist, for the notebook.")
    sections: tuple[str, ...] = Field(default=(), description="Sections of the notebook: monitor,analysis,...")
    open: bool = Field(default=False, description="Write the notebook now, and open it.")
    watch: bool = Field(default=False, description="Show the jobs live after launching them.")

    @field_validator("sections")
    @classmethod
    def _known_sections(cls, sections: tuple[str, ...]) -> tuple[str, ...]:
        try:
            return choose_sections(sections) if sections else ()
        except UnknownName as error:
            raise ValueError(str(error)) from None

    @field_validator("seeds", "job_ids")
    @classmethod
    def _once(cls, numbers: tuple[int, ...]) -> tuple[int, ...]:
        if any(number < 0 for number in numbers):
            raise ValueError(f"{min(numbers)} is negative")
        return tuple(dict.fromkeys(numbers))

    @model_validator(mode="after")
    def _either(self) -> BaseExperimentConfig:
        if self.launch and self.job_ids:
            raise ValueError("job_ids are jobs that exist, for a notebook, and launch makes new ones: say one of them")
        if self.seed is not None and self.seeds:
            raise ValueError(f"seed={self.seed}, and seeds name several: say one of them")
        return self

    def skypilot_config(self) -> SkypilotJobConfig:
        """The machines that these fields ask for."""
        return SkypilotJobConfig.model_validate(self._given(SkypilotJobConfig))

    def training_config(self, **changes: Any) -> TrainingRunConfig:
        """A training with these fields' seed and W&B settings, and `changes`."""
        return TrainingRunConfig.model_validate({**self._given(TrainingRunConfig), **changes})

    def job_config(self, **changes: Any) -> TrainingJobConfig:
        """Both together; `changes` are the training's."""
        return TrainingJobConfig(skypilot=self.skypilot_config(), training=self.training_config(**changes))

    def _given(self, model: type[KnownFields]) -> Mapping[str, Any]:
        """The fields that `model` has too, as far as they say something: defaults of a subclass do."""
        own = BaseExperimentConfig.model_fields
        found = {}
        for name in type(self).model_fields.keys() & model.model_fields.keys() - {"name"}:
            value = getattr(self, name)
            untouched = name not in self.model_fields_set and name in own and value == own[name].default
            if value is not None and not untouched:
                found[name] = value
        return found
