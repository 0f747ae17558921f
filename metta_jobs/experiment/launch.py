"""Trainings launched from a program or a notebook, without an experiment of their own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from metta_jobs.errors import InvalidInput
from metta_jobs.experiment.base_config import BaseExperimentConfig
from metta_jobs.experiment.experiment import Experiment
from metta_jobs.experiment.infrastructure import SkypilotJobConfig, TrainingJobConfig
from metta_jobs.experiment.training import TrainingRunConfig
from metta_jobs.manager import JobManager
from metta_jobs.views import GroupView, JobView


def launch_training(
    name: str,
    training: TrainingRunConfig | None = None,
    *,
    module: str = "",
    program: tuple[str, ...] = (),
    skypilot: SkypilotJobConfig | None = None,
    skip_git_check: bool = False,
    manager: JobManager | None = None,
) -> JobView:
    """Launch one training as the job `name` of a new group of that name, and return the job.

    `module` or `program` says what trains, as in Experiment; `skypilot` where (SkypilotJobConfig(remote=False): here).
    Raises InvalidInput, or AlreadyExists where the group exists, and then nothing is stored.
    """
    group = _launch(name, training, (), module, program, skypilot, skip_git_check, False, manager)
    return group.jobs[0]


def launch_multiple_training_runs(
    name: str,
    training: TrainingRunConfig | None = None,
    *,
    seeds: int | Sequence[int] = 3,
    module: str = "",
    program: tuple[str, ...] = (),
    skypilot: SkypilotJobConfig | None = None,
    skip_git_check: bool = False,
    notebook: bool = True,
    manager: JobManager | None = None,
) -> GroupView:
    """Launch one training with several seeds (5 stands for 1 to 5) as the jobs NAME.s1, NAME.s2, … of a new group.

    The group writes its notebook at the end, unless `notebook` is False. As `launch_training` otherwise.
    """
    numbers = tuple(range(1, seeds + 1)) if isinstance(seeds, int) else tuple(seeds)
    if not numbers:
        raise InvalidInput(f"seeds={seeds} makes no run: say how many, or name them, as in seeds=[1, 2, 3].")
    return _launch(name, training, numbers, module, program, skypilot, skip_git_check, notebook, manager)


def _launch(
    name: str,
    training: TrainingRunConfig | None,
    seeds: tuple[int, ...],
    module: str,
    program: tuple[str, ...],
    skypilot: SkypilotJobConfig | None,
    skip_git_check: bool,
    notebook: bool,
    manager: JobManager | None,
) -> GroupView:
    config = TrainingJobConfig(
        skypilot=SkypilotJobConfig() if skypilot is None else skypilot,
        training=TrainingRunConfig() if training is None else training,
    )

    class Launched(Experiment[BaseExperimentConfig]):
        """What the arguments say."""

        def training_job_configs(self) -> Mapping[str, TrainingJobConfig]:
            """The one."""
            return {name: config}

    Launched.module, Launched.program = module, program
    said = BaseExperimentConfig(name=name, seeds=seeds, skip_git_check=skip_git_check, notebook=notebook)
    return Launched(said).launch(manager)
