"""What is refused before it is stored, and how `key=value` changes what is stored already."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from metta_jobs.daemon.slots import Slots
from metta_jobs.errors import InvalidInput, MettaError
from metta_jobs.executors.devices import find_gpus
from metta_jobs.executors.machine import memory_gb, usable_cpus
from metta_jobs.executors.sky.python import find_python
from metta_jobs.job import JobConfig
from metta_jobs.recipe.build import build, override, split_argument
from metta_jobs.remote import RemoteConfig
from metta_jobs.settings import Settings
from metta_jobs.store.capacity import Machine
from metta_jobs.store.queue import Need

_RECIPE_COMMAND = (sys.executable, "-m", "metta_jobs", "run")


def check_jobs(configs: Sequence[JobConfig], project: Path, machine: Machine | None = None) -> list[JobConfig]:
    """Refuse what can never run on this machine, before it is stored; return the jobs with the folders they run in.

    `machine` is what a running daemon has found; without one, it is looked for here. Raises InvalidInput.
    """
    if machine is None:
        settings = Settings.load(project)
        gpus = find_gpus(settings) if any(config.gpus for config in configs) else ()
        machine = Machine(usable_cpus(settings), memory_gb(settings), gpus)
    slots = Slots(machine)
    seen: dict[tuple[object, ...], JobConfig] = {}
    checked = []
    for config in configs:
        _check_retry(config)
        # Thousands of jobs of one group differ in their arguments, not in what is checked here.
        alike = (config.command[0], config.cwd, config.env.get("PATH"), config.gpus, config.cpus, config.memory_gb)
        like = seen.get((*alike, config.remote, config.secrets))
        if like is None:
            like = seen[(*alike, config.remote, config.secrets)] = _checked(config, slots, project)
        checked.append(config.model_copy(update={"cwd": like.cwd}))
    return checked


def _check_retry(config: JobConfig) -> None:
    """Exit codes that no command can fail with would be waited for in vain."""
    for field in ("on", "never_on"):
        causes = getattr(config.retry, field, ())
        if wrong := [cause for cause in causes if isinstance(cause, int) and not 1 <= cause <= 255]:
            raise InvalidInput(
                f"The job {config.name!r}: retry.{field} has {wrong[0]}, and no command fails with that: exit codes of "
                "failures are from 1 to 255."
            )


def _checked(config: JobConfig, slots: Slots, project: Path) -> JobConfig:
    if config.remote is not None:
        return _checked_remote(config, config.remote, project)
    cwd = (config.cwd or Path.cwd()).expanduser().resolve()
    if not cwd.is_dir():
        raise InvalidInput(f"The job {config.name!r} is to run in {cwd}, which is no folder.")
    path = config.env.get("PATH", os.environ.get("PATH"))
    program = config.command[0]
    candidate = str(cwd / program) if "/" in program and not Path(program).is_absolute() else program
    if shutil.which(candidate, path=path) is None:
        raise InvalidInput(
            f"The command {program!r} of the job {config.name!r} was not found, or may not be executed. "
            "Check its spelling and your PATH."
        )
    if missing := [name for name in config.secrets if name not in os.environ]:
        raise InvalidInput(f"The job {config.name!r} wants the secret {missing[0]}, which is not in your environment.")
    if reason := slots.never_fits(Need(config.gpus, config.cpus, config.memory_gb)):
        raise InvalidInput(f"The job {config.name!r} can never start: {reason}.")
    return config.model_copy(update={"cwd": cwd})


def _checked_remote(config: JobConfig, remote: RemoteConfig, project: Path) -> JobConfig:
    """A remote job runs in its copy of the project, at the same place below it."""
    try:
        find_python(Settings.load(project).sky_python)
    except MettaError as error:
        raise InvalidInput(f"The job {config.name!r} is remote. {error}") from error
    if missing := [name for name in (*config.secrets, *remote.secrets) if name not in os.environ]:
        raise InvalidInput(f"The job {config.name!r} wants the secret {missing[0]}, which is not in your environment.")
    if config.cwd is None or remote.workdir is None or isinstance(remote.workdir, Path):
        return config
    cwd = config.cwd.expanduser()
    if not cwd.is_absolute():
        return config
    if not cwd.resolve().is_relative_to(project.resolve()):
        raise InvalidInput(
            f"The job {config.name!r} is to run in {cwd}, which is not in the project that it takes along ({project})."
        )
    return config.model_copy(update={"cwd": cwd.resolve().relative_to(project.resolve())})


def changed(config: JobConfig, arguments: Sequence[str], project: Path, machine: Machine | None = None) -> JobConfig:
    """Return the job with `key=value` arguments applied: to its own fields, or to its recipe's where it runs one.

    Raises InvalidInput or UnknownName.
    """
    own: list[str] = []
    recipe: list[str] = []
    for argument in arguments:
        key, _ = split_argument(argument)
        field = key.split(".")[0]
        if field in _FIXED:
            raise InvalidInput(f"{field} of a job that is stored cannot be changed: submit another job.")
        if field == "seed" and config.seed is not None:
            raise InvalidInput(
                f"{config.name} is seed {config.seed} of its variant, and results are told by seed: submit another job "
                "for another one."
            )
        of_job = field in JobConfig.model_fields and field not in _LABELS
        (own if of_job or not _runs_recipe(config) else recipe).append(argument)
    if recipe:
        module, *stored = config.command[len(_RECIPE_COMMAND) :]
        new = {split_argument(argument)[0]: argument for argument in recipe}
        kept = [argument for argument in stored if split_argument(argument)[0] not in new]
        build(module, [*kept, *new.values()], project)
        own.append(f"command={json.dumps([*_RECIPE_COMMAND, module, *kept, *new.values()])}")  # checked like any other
    result = override(config, own)
    if result == config and not recipe:
        return config
    # Its secrets are the submitter's, and need not be in the environment of who changes it.
    checked = check_jobs([result.model_copy(update={"secrets": ()})], project, machine)[0]
    return checked.model_copy(update={"secrets": config.secrets})


_FIXED = ("name", "depends_on", "kind", "remote", "secrets")
_LABELS = ("variant", "seed")  # of a job that runs a recipe, these mean the recipe's arguments


def _runs_recipe(config: JobConfig) -> bool:
    return config.command[: len(_RECIPE_COMMAND)] == _RECIPE_COMMAND and len(config.command) > len(_RECIPE_COMMAND)
