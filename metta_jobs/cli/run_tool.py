"""`metta run RECIPE.FUNCTION key=value …`."""

from __future__ import annotations

import json
import os
import shlex
import traceback
from typing import TYPE_CHECKING, Annotated

import typer

from metta_jobs.cli.context import console
from metta_jobs.environment import wandb_mode
from metta_jobs.errors import InvalidInput, MettaError
from metta_jobs.paths import find_project

if TYPE_CHECKING:
    from pathlib import Path

    from metta_jobs.tool import Tool


def complete_recipe(incomplete: str) -> list[str]:
    """Names of recipes' functions for the shell."""
    from metta_jobs.recipe import list_recipes

    return [recipe.name for recipe in list_recipes(find_project())[0] if recipe.name.startswith(incomplete)]


def run(
    context: typer.Context,
    recipe: Annotated[
        str | None,
        typer.Argument(metavar="RECIPE.FUNCTION", help="What to run.", autocompletion=complete_recipe),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the resolved configuration and the jobs' commands; store nothing.")
    ] = False,
    list_all: Annotated[bool, typer.Option("--list", help="List the recipes and their functions.")] = False,
) -> None:
    """Run a recipe's function: `metta run arena.experiment remote=false`.

    Arguments are key=value: the function's own, typed; or any field of what it returns, by its dotted path
    (trainer.total_timesteps=1000000). Lists and dictionaries are JSON or Python literals. --dry-run shows them
    all.
    """
    if list_all:
        raise typer.Exit(_list())
    if recipe is None:
        raise InvalidInput("Name what to run, as RECIPE.FUNCTION; `metta run --list` shows what there is.")
    from metta_jobs.recipe import build

    tool = build(recipe, context.args, find_project())
    if not dry_run:
        raise typer.Exit(_run(tool))
    preview(recipe, tool, find_project())


def preview(name: str, tool: Tool, project: Path) -> None:
    """Print a tool's configuration and its jobs' commands; nothing is stored."""
    jobs = tool.jobs(project)
    if jobs:
        from metta_jobs.manager import check_jobs

        check_jobs(jobs, project)
    typer.echo(f"{name} → {type(tool).__name__}")
    typer.echo(json.dumps(tool.model_dump(mode="json"), indent=2))
    for job in jobs:
        typer.echo(f"\njob {job.name}{f' (gpus={job.gpus})' if job.gpus else ''}:\n  {shlex.join(job.command)}")
        if job.remote is not None:
            typer.echo(f"  through SkyPilot on {job.remote.words}")
    typer.echo("\nDry run: nothing was stored.", err=True)


def _run(tool: Tool) -> int:
    if "METTA_JOB_ID" not in os.environ:  # here and now: wandb must not stop to ask for a login
        os.environ.setdefault("WANDB_MODE", wandb_mode(os.environ))
    try:
        return tool.run()
    except MettaError:
        raise
    except Exception:  # noqa: BLE001  (the recipe's own code: its author needs the traceback, as from any script)
        traceback.print_exc()
        return 1


def _list() -> int:
    from rich.table import Table

    from metta_jobs.display.listing import show
    from metta_jobs.recipe import list_recipes

    project = find_project()
    found, broken = list_recipes(project)
    if found:
        table = Table(box=None, pad_edge=False, show_header=False)
        table.add_column(style="bold", no_wrap=True)
        table.add_column()
        for recipe in found:
            table.add_row(recipe.name, recipe.title)
        show(table, console())
    elif not broken:
        typer.echo(f"{project} has no recipes/ folder with functions that return a tool.")
    for message in broken:
        typer.echo(f"error: {message}", err=True)
    return 2 if broken else 0
