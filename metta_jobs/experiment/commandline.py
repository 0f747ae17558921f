"""A recipe file as a program: `./recipes/arena_experiment.py my_arena --gpus 4 --launch`."""

from __future__ import annotations

import inspect
import shlex
import sys
from typing import Any

import typer
from pydantic import ValidationError

from metta_jobs.display.watch import watch_group
from metta_jobs.errors import MettaError
from metta_jobs.experiment.base_config import BaseExperimentConfig
from metta_jobs.experiment.experiment import Experiment
from metta_jobs.experiment.flags import config_from, named
from metta_jobs.experiment.notebook import write_now
from metta_jobs.experiment.preview import preview
from metta_jobs.experiment.program import refused
from metta_jobs.experiment.spaced import SpacedLists
from metta_jobs.manager import JobManager
from metta_jobs.paths import PROGRAM


def runner(experiment: type[Experiment[Any]], config: type[BaseExperimentConfig] = BaseExperimentConfig) -> typer.Typer:
    """A Typer program that previews and launches an experiment; call it under `if __name__ == "__main__":`.

    Its argument is the group's name, its flags are the fields of `config`. It ends with 2 when something cannot be
    used, 1 when what ran has failed.

        >>> app = runner(ArenaExperiment, ArenaConfig)
    """
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)

    def act(**given: Any) -> None:
        try:
            code = run_experiment(experiment(config.model_validate(config_from(config, given))))
        except ValidationError as error:
            _fail(refused(error), 2)
        except MettaError as error:
            _fail(str(error), error.exit_code)
        raise typer.Exit(code)

    title = (inspect.getdoc(experiment) or experiment.__name__).partition("\n\n")[0]
    app.command(help=f"{title}\n\nShows what it would launch; --launch launches it.", cls=SpacedLists)(
        named(act, config)
    )
    return app


def run_experiment(experiment: Experiment[Any]) -> int:
    """Do what the experiment's configuration says: preview, launch, write the notebook; return the exit code."""
    config = experiment.config
    if config.job_ids:
        with JobManager(create=False) as manager:
            manager.jobs(config.job_ids)  # those that do not exist are told in a sentence
        write_now(config.job_ids, config.sections, open_it=config.open)
        return 0
    if not config.launch:
        for line in preview(experiment):
            typer.echo(_as_flag(line))
        typer.echo(f"\nNothing is submitted yet. To launch it:\n  {shlex.join([*_typed(), '--launch'])}")
        return 0
    with JobManager() as manager:
        view = experiment.launch(manager)
        ids = " ".join(str(job.id) for job in view.jobs)
        typer.echo(f"Launched {view.name}: jobs {ids}. `{PROGRAM} job monitor {view.name}` shows them.")
    if config.open:
        write_now(experiment.name, config.sections, open_it=True)
    if config.watch:
        with JobManager() as manager:
            return watch_group(manager, experiment.name)
    return 0


def _typed() -> list[str]:
    """The command line, as far as it says something else than not to launch."""
    return [argument for argument in sys.argv if argument != "--no-launch"]


def _as_flag(message: str) -> str:
    """Advice that is for recipes' arguments, in this program's words."""
    return message.replace("say remote=false", "say --no-remote")


def _fail(message: str, code: int) -> None:
    typer.echo(f"error: {_as_flag(message)}", err=True)
    raise typer.Exit(code)
