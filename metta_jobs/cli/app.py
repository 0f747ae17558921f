"""The program `metta`: its commands, and how errors become sentences and exit codes."""

from __future__ import annotations

import io
import os
import sys
from pathlib import Path
from typing import Annotated

import typer
from pydantic import ValidationError

from metta_jobs import __version__
from metta_jobs.cli import daemon, job, notebook, run_tool
from metta_jobs.cli.context import STATE
from metta_jobs.errors import MettaError

app = typer.Typer(
    name="metta",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    help="Run experiments: jobs on your own machine, watched live, told in notebooks.",
    epilog="Start with `metta run --list`.",
)
app.add_typer(job.app, name="job")
app.add_typer(daemon.app, name="daemon")
app.command(
    "run",
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True},
    epilog="Example: `metta run arena.experiment remote=false`, `metta run arena.train --dry-run`",
)(run_tool.run)
app.command("notebook", epilog="Example: `metta notebook my_group --open`")(notebook.notebook)


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
    if sys.stdout is None or sys.stderr is None:  # closed by the caller
        quiet = Path(os.devnull).open("w")  # noqa: SIM115  (for as long as we run)
        sys.stdout, sys.stderr = sys.stdout or quiet, sys.stderr or quiet
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal that knows no "✓" shall not end the program
    debug = "--debug" in (arguments if arguments is not None else sys.argv)
    try:
        app(args=arguments, prog_name="metta")
    except MettaError as error:
        code = _complain(error, str(error), error.exit_code, debug)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        code = _complain(error, f"{where}: {first['msg'].removeprefix('Value error, ')}.", 2, debug)
    except Exception as error:  # noqa: BLE001  (the last resort: a sentence instead of a traceback)
        code = _complain(
            error,
            f"metta-jobs met a defect of its own: {type(error).__name__}: {error}. Nothing stored is lost. Run it "
            "again as `metta --debug …` and report what it shows.",
            70,
            debug,
        )
    sys.exit(code)


def _complain(error: BaseException | None, message: str, code: int, debug: bool) -> int:
    if debug and error is not None:
        import traceback

        traceback.print_exception(error)
    typer.echo(f"error: {message}", err=True)
    return code
