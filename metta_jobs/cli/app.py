"""The program `metta`: its commands, and how errors become sentences and exit codes."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from metta_jobs import __version__
from metta_jobs.cli import daemon, doctor, job, notebook, run_tool, sweep
from metta_jobs.cli.context import STATE
from metta_jobs.cli.guard import guarded
from metta_jobs.experiment.spaced import SpacedLists

app = typer.Typer(
    name="metta",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    help="Run experiments: jobs on your own machine, watched live, told in notebooks.",
    epilog="Start with `metta run --list`.",
)
app.add_typer(job.app, name="job")
app.add_typer(sweep.app, name="sweep")
app.add_typer(daemon.app, name="daemon")
app.command(
    "run",
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True},
    epilog="Example: `metta run arena.experiment remote=false`, `metta run arena.train --dry-run`",
)(run_tool.run)
app.command("doctor", epilog="Example: `metta doctor`, `metta doctor --repair`")(doctor.doctor)
app.command(
    "notebook",
    cls=SpacedLists,
    epilog="Example: `metta notebook my_group --open`, `metta notebook --job-ids 3 5 8 --sections monitor,analysis`",
)(notebook.notebook)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"metta-jobs {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    state_dir: Annotated[
        Path | None,
        typer.Option(help="Folder of the state, instead of job_state/ in the project.", envvar="METTA_JOB_STATE"),
    ] = None,
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks.")] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    STATE.state_dir = state_dir
    STATE.debug = debug
    if state_dir is not None:
        os.environ["METTA_JOB_STATE"] = str(state_dir.expanduser().resolve())  # for tools, and what they start


def run(arguments: list[str] | None = None) -> None:
    """Run the program and exit with its code: 2 for what the user can mend, 1 where a run failed."""
    debug = "--debug" in (arguments if arguments is not None else sys.argv)
    guarded(lambda: app(args=arguments, prog_name="metta"), debug=debug)
