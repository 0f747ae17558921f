"""From trials to jobs: their commands, and what is checked before a sweep is stored."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from metta_jobs.errors import AlreadyExists, InvalidInput, MettaError, UnknownName
from metta_jobs.executors.devices import find_gpus
from metta_jobs.job import JobConfig
from metta_jobs.manager import JobManager
from metta_jobs.optimizer.space import Space
from metta_jobs.policy import RetryPolicy
from metta_jobs.recipe import build, takes
from metta_jobs.recipe.patch import as_text, flattened
from metta_jobs.refusal import explain
from metta_jobs.remote import RemoteConfig
from metta_jobs.settings import Settings
from metta_jobs.states import JobState
from metta_jobs.store.sweeps import TrialRow
from metta_jobs.sweep.config import SweepConfig
from metta_jobs.views import GroupView, JobView

LOOP_JOB = "sweep"
#: A loop that has nothing left to do is gone after this long (seconds).
LEAVING_S = 10.0
#: Points of each phase's space with which the recipe is tried before a sweep is stored.
TRIED = 24
#: Exit codes of a loop that was ended by a signal.
_SIGNALS = (129, 130, 131, 132, 134, 135, 136, 137, 139, 143)


def arguments_of(config: SweepConfig, params: Mapping[str, Any], seed: int | None = None) -> list[str]:
    """The `key=value` of a trial: the sweep's own arguments, its overrides, the parameters, the seed of a re-run."""
    overrides = [*flattened(config.sweep_job_overrides), *params.items()]
    own = [text for text in config.args if seed is None or text.partition("=")[0] != "seed"]
    seeded = [] if seed is None else [f"seed={seed}"]
    return [
        *own,
        *(f"{path}={as_text(value)}" for path, value in overrides if not (seeded and path == "seed")),
        *seeded,
    ]


def trial_jobs(config: SweepConfig, trial: TrialRow, group: str, project: Path, gpus: float) -> list[JobConfig]:
    """The jobs of a trial: its training and, where the sweep has one, its evaluation."""
    assert trial.job is not None
    arguments = arguments_of(config, trial.params, trial.seed)
    metric = config.sweep.cost.removeprefix("metric:")
    metrics = (config.sweep.metric, *([metric] if metric != config.sweep.cost else []))
    delay = config.settings.rollout_retry_delay
    again = RetryPolicy(max_attempts=10, backoff_s=delay, factor=1, on=("lost", "preempted", "no_capacity"))
    slots = {} if config.remote else {"gpus": gpus, "cpus": 1 if config.cpus is None else config.cpus}
    training = JobConfig(
        name=trial.job,
        command=(sys.executable, "-m", "metta_jobs", "run", config.target, *arguments),
        cwd=project,
        memory_gb=0 if config.remote else config.memory_gb or 0,
        timeout_s=config.timeout_s,
        retry=config.retry or again,
        metrics=metrics,
        remote=_elsewhere(config) if config.remote else None,
        secrets=config.secrets,
        **slots,
    )
    if config.evaluation is None:
        return [training]
    one = config.evaluation
    evaluation = JobConfig(
        name=f"{trial.job}.eval",
        command=(sys.executable, "-m", "metta_jobs.sweep.evaluate", f"{group}/{trial.job}", one.module, *one.args),
        cwd=project,
        gpus=one.gpus,
        cpus=one.cpus,
        memory_gb=one.memory_gb,
        timeout_s=one.timeout_s,
        retry=again,
        metrics=(config.sweep.metric,),
        depends_on=(trial.job,),
        secrets=config.secrets,
    )
    return [training, evaluation]


def loop_job(name: str, job: str, project: Path, secrets: tuple[str, ...]) -> JobConfig:
    """The job that is the sweep's loop: started again whatever signal has ended it."""
    return JobConfig(
        name=job,
        command=(sys.executable, "-m", "metta_jobs.sweep", name),
        cwd=project,
        cpus=0,
        secrets=secrets,
        retry=RetryPolicy(max_attempts=1000, backoff_s=1, factor=1, on=("lost", *_SIGNALS)),
    )


def loops_of(group: GroupView) -> list[JobView]:
    """The jobs of a group that are or were its sweep's loop."""
    return [job for job in group.jobs if job.command[1:] == ("-m", "metta_jobs.sweep", group.name)]


def ensure_loop(manager: JobManager, name: str, config: SweepConfig, *, was_over: bool = False) -> None:
    """See to it that the sweep's loop is a job that runs or is about to.

    `was_over`: the sweep had nothing left to do until now, so that a loop which still runs may be about to end.
    """
    try:
        loops = loops_of(manager.group(name))
        if was_over and loops:
            manager.wait([loops[-1].id], timeout_s=LEAVING_S)
            loops = loops_of(manager.group(name))
    except UnknownName:
        loops = []
    if any(not job.state.terminal for job in loops):
        manager.start_daemon()
    elif loops and loops[-1].state is not JobState.SUCCEEDED:
        manager.retry([loops[-1].id])
    else:
        job = manager.free_name(name, LOOP_JOB)
        manager.submit([loop_job(name, job, manager.project_dir, config.secrets)], group=name)


def local_gpus(config: SweepConfig, project: Path) -> float:
    """GPUs that a trial holds of this machine."""
    if config.remote:
        return 0
    if config.gpus is not None:
        return config.gpus
    return 1 if find_gpus(Settings.load(project)) else 0


def _elsewhere(config: SweepConfig) -> RemoteConfig:
    asked: dict[str, Any] = {
        "nodes": config.nodes,
        "gpus": config.gpus,
        "cpus": config.cpus,
        "memory_gb": config.memory_gb,
        "infra": config.infra,
        "spot": config.spot,
    }
    try:
        return RemoteConfig(**{key: value for key, value in asked.items() if value is not None} | config.sky)
    except ValidationError as error:
        loc = error.errors()[0]["loc"]
        path = "" if loc and loc[0] in asked and loc[0] not in config.sky else "sky."
        raise InvalidInput(explain(error, RemoteConfig, path=path)) from error


def refuse_other_group(manager: JobManager, name: str) -> None:
    """Raise AlreadyExists where a group of this name has jobs that are no sweep's."""
    if name in {group.name for group in manager.groups()} and not loops_of(manager.group(name)):
        raise AlreadyExists(f"There is a group {name!r} already, which is no sweep's: choose another name.")


def check(config: SweepConfig, project: Path) -> list[str]:
    """Hold every path of the space, and points of it, against the recipe; return what a person should know.

    Raises UnknownName or InvalidInput with the recipe's own words.
    """
    build(config.target, arguments_of(config, {}), project)
    notes = []
    for phase in config.schedule.phases or (None,):
        where = f"Phase {phase.name!r}: " if phase is not None else ""
        try:
            notes += [f"{where}{note}" for note in _check_space(config, config.section(phase).space(), project)]
        except MettaError as error:
            raise type(error)(f"{where}{error}") from error
    if config.validate is not None and not takes(config.target, arguments_of(config, {}), "seed", project):
        raise InvalidInput(f"validate runs the best with other seeds, and {config.target} takes no seed.")
    if config.evaluation is not None:
        _check_evaluation(config, project)
    return notes


def _check_space(config: SweepConfig, space: Space, project: Path) -> list[str]:
    import numpy as np

    def refusal(params: Mapping[str, Any]) -> str | None:
        try:
            build(config.target, arguments_of(config, params), project)
        except UnknownName as error:
            raise UnknownName(f"A path of the space is wrong. {error}") from error
        except InvalidInput as error:
            return str(error)
        return None

    centre = space.decode(space.centre)
    if (said := refusal(centre)) is not None:
        raise InvalidInput(f"The search centre cannot be run: {said}")
    points = [space.decode(x) for x in space.sample(TRIED, np.random.default_rng(config.sweep.seed))]
    seen = set(centre).union(*points)
    refused = [said for point in points if (said := refusal(point)) is not None]
    for dimension in space.dimensions:  # those that are rarely there
        if dimension.path not in seen:
            refusal({dimension.path: None})
    if len(refused) == len(points):
        raise InvalidInput(f"No point but the search centre can be run: {refused[0]}")
    if not refused:
        return []
    return [
        f"{len(refused)} of {len(points)} random points cannot be run, and would fail: {refused[0]} A constraint in "
        "sweep.parameters keeps such points out."
    ]


def _check_evaluation(config: SweepConfig, project: Path) -> None:
    one = config.evaluation
    assert one is not None
    stands_in = [text for text in one.args if "{checkpoint}" in text or "{folder}" in text]
    if stands_in and config.remote:
        raise InvalidInput(
            f"The evaluation wants {stands_in[0]}, and trainings that run elsewhere leave no checkpoint here: let the "
            "training log its score itself, or say remote=false."
        )
    try:
        build(one.module, [text for text in one.args if text not in stands_in], project)
    except MettaError as error:
        raise type(error)(f"The evaluation: {error}") from error
    for text in stands_in:
        if not takes(one.module, [], text.partition("=")[0], project):
            raise UnknownName(f"The evaluation: {one.module} takes no {text.partition('=')[0]}.")


def validation_seeds(config: SweepConfig, project: Path) -> Sequence[int]:
    """The seeds of the re-runs: other ones than the trials had, whose scores they were chosen by."""
    assert config.validate is not None
    seeds = config.validate.seeds
    if not isinstance(seeds, int):
        return seeds
    used = getattr(build(config.target, arguments_of(config, {}), project), "seed", None)
    return [seed for seed in range(1, seeds + 2) if seed != used][:seeds]
