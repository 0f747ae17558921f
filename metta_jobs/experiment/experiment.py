"""Experiments in Python: trainings that belong together, planned, shown, and launched as one group."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, ClassVar, Generic, TypeVar

from pydantic import TypeAdapter, ValidationError

from metta_jobs.criteria import AcceptanceCriterion, Criteria, HealthRule
from metta_jobs.errors import InvalidInput, MettaError
from metta_jobs.experiment.base_config import BaseExperimentConfig
from metta_jobs.experiment.infrastructure import TrainingJobConfig
from metta_jobs.experiment.notebook import notebook_job
from metta_jobs.experiment.program import tool_of
from metta_jobs.experiment.skypilot import get_skypilot_service
from metta_jobs.job import JobConfig
from metta_jobs.manager import JobManager
from metta_jobs.paths import find_project, find_state_dir
from metta_jobs.policy import GroupConfig
from metta_jobs.recipe import find_recipe
from metta_jobs.refusal import explain
from metta_jobs.views import GroupView

METRICS = ("overview/reward", "overview/sps")
_CRITERIA: TypeAdapter[Criteria] = TypeAdapter(Criteria)
Config = TypeVar("Config", bound=BaseExperimentConfig)


@dataclass
class TrainingRun:
    """One training of an experiment: its job, and the file that says what is trained. `job_id` is set at launch."""

    name: str
    config: TrainingJobConfig
    job: JobConfig
    yaml_path: Path
    job_id: int | None = None


class Experiment(Generic[Config]):
    """Base of experiments. Say what trains, and override `training_job_configs` or `launch_training_runs`.

    `module` names a recipe's function that takes a TrainingRunConfig and returns a tool ("arena.from_config").
    `program` is instead the command of any Hydra program, as ("python", "train.py"): it gets --config-path and
    --config-name. `metrics` are what the monitor and the notebook follow, `acceptance` what the metrics of a training
    must be at its end for it to have succeeded, as in ("overview/reward >= 5",); `health` are rules for the trainings
    while they run, as in ({"when": "nan", "action": "kill"},).
    """

    module: ClassVar[str] = ""
    program: ClassVar[tuple[str, ...]] = ()
    metrics: ClassVar[tuple[str, ...]] = METRICS
    acceptance: ClassVar[Sequence[AcceptanceCriterion | str]] = ()
    health: ClassVar[Sequence[HealthRule | Mapping[str, Any]]] = ()

    def __init__(self, config: Config) -> None:
        self.config = config
        self.name = config.name or f"{_snake(type(self).__name__)}_{datetime.now().astimezone():%Y%m%d_%H%M%S}"
        self._planned: list[TrainingRun] | None = None
        self._configs = find_state_dir() / "configs"

    # ------------------------------------------------------------------------------------------------ to override

    def training_job_configs(self) -> Mapping[str, TrainingJobConfig] | Sequence[TrainingJobConfig]:
        """The trainings, by the names of their jobs; in a list, by their own names or else run1, run2, …"""
        raise NotImplementedError(
            f"{type(self).__name__} has neither training_job_configs() nor launch_training_runs(): write one of them."
        )

    def launch_training_runs(self) -> None:
        """Call `launch_training_run_from_config` for each training: those that `training_job_configs` returns."""
        found = self.training_job_configs()
        if not isinstance(found, Mapping):
            found = {config.name or f"run{number}": config for number, config in _numbered(found)}
        for name, config in found.items():
            self.launch_training_run_from_config(name, config)

    # ------------------------------------------------------------------------------------------------ to call

    def launch_training_run_from_config(self, name: str, config: TrainingJobConfig) -> TrainingRun | None:
        """Launch one training as the job `name`.

        Within `launch_training_runs` it joins the group, which is stored as a whole, and None is returned. Called by
        itself, it is submitted to the experiment's group at once. Raises InvalidInput.
        """
        if self._planned is not None:
            self._planned += self._seeded(name, config)
            return None
        with JobManager() as manager:
            self._configs = manager.state_dir / "configs"
            run = self._run(name, config, find_project())
            self._check([run.job], manager)
            manager.submit([run.job], group=self.name, options=self._options())
            run.job_id = manager.jobs([f"{self.name}/{name}"])[0].id
        return run

    def runs(self) -> list[TrainingRun]:
        """The trainings as they would be launched; their files are written, nothing is submitted.

        Raises InvalidInput, naming the run that cannot be.
        """
        self._planned = []
        try:
            self.launch_training_runs()
            planned = self._planned
        finally:
            self._planned = None
        if not planned:
            raise InvalidInput(f"{type(self).__name__} has no training to launch.")
        names = [run.name for run in planned]
        if twice := [name for name in names if names.count(name) > 1]:
            raise InvalidInput(f"The run {twice[0]!r} is named twice: give each a name of its own.")
        return planned

    def launch(self, manager: JobManager | None = None) -> GroupView:
        """Submit all trainings, and the job that writes the notebook, as a new group; return it.

        Raises InvalidInput, or AlreadyExists where the group exists, and then nothing is stored.
        """
        if manager is None:
            with JobManager() as own:
                return self.launch(own)
        self._configs = manager.state_dir / "configs"
        jobs = [run.job for run in self.runs()]
        if self.config.notebook:
            jobs.append(notebook_job(self.name, jobs, manager.project_dir, self.config.sections, self.metrics))
        self._check(jobs, manager)
        return manager.submit(jobs, group=self.name, new_group=True, options=self._options())

    def command(self) -> tuple[str, ...]:
        """What trains, without the flags that name the configuration. Raises InvalidInput, UnknownName."""
        if bool(self.module) == bool(self.program):
            raise InvalidInput(
                f"{type(self).__name__} must say what trains: either module='RECIPE.FUNCTION' or program=(…)."
            )
        if self.program:
            first = sys.executable if self.program[0] in ("python", "python3") else self.program[0]
            return (first, *self.program[1:])
        find_recipe(self.module, find_project())
        return (sys.executable, "-m", "metta_jobs.experiment", self.module)

    # ------------------------------------------------------------------------------------------------ inside

    def _seeded(self, name: str, config: TrainingJobConfig) -> list[TrainingRun]:
        project = find_project()
        if not self.config.seeds:
            return [self._run(name, config, project)]
        runs = [self._run(f"{name}.s{seed}", with_seed(config, seed), project) for seed in self.config.seeds]
        for run, seed in zip(runs, self.config.seeds, strict=True):
            run.job = run.job.model_copy(update={"variant": name, "seed": seed})
        return runs

    def _run(self, name: str, config: TrainingJobConfig, project: Path) -> TrainingRun:
        try:
            command = self.command()
            if self.module:
                tool_of(self.module, config.training, project)
            job, path = config.job(name, command, project, folder=self._configs, metrics=self.metrics)
            job = job.model_copy(update={"acceptance": self._criteria()})
        except MettaError as error:
            raise type(error)(f"Run {name!r}: {error}") from error
        return TrainingRun(name, config, job, path)

    def _criteria(self) -> Criteria:
        try:
            return _CRITERIA.validate_python(self.acceptance)
        except ValidationError as error:
            raise InvalidInput(explain(error, Criteria, path="acceptance")) from error

    def _options(self) -> GroupConfig:
        try:
            return GroupConfig.model_validate({"health": self.health or None})
        except ValidationError as error:
            raise InvalidInput(f"{type(self).__name__}: {explain(error, GroupConfig)}") from error

    def _check(self, jobs: Sequence[JobConfig], manager: JobManager) -> None:
        get_skypilot_service(manager).preflight(jobs, skip_git_check=self.config.skip_git_check)


class SingleJobExperiment(Experiment[Config]):
    """An experiment of one training, "train": its configuration's, unless `training` is overridden."""

    def training(self) -> dict[str, Any]:
        """The training's fields beside those that are flags, as in {"curriculum": …, "trainer": TrainerConfig(…)}."""
        return {}

    def training_job_configs(self) -> Mapping[str, TrainingJobConfig]:
        """The one."""
        return {"train": self.config.job_config(**self.training())}


def with_seed(config: TrainingJobConfig, seed: int) -> TrainingJobConfig:
    """The same job with another seed."""
    fields = {**config.training.model_dump(), "seed": seed}
    return config.model_copy(update={"training": type(config.training).model_validate(fields)})


def _numbered(configs: Sequence[TrainingJobConfig]) -> list[tuple[int, TrainingJobConfig]]:
    names = [config.name for config in configs if config.name is not None]
    if twice := [name for name in names if names.count(name) > 1]:
        raise InvalidInput(f"The run {twice[0]!r} is named twice: give each a name of its own.")
    return list(enumerate(configs, start=1))


def _snake(name: str) -> str:
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()
