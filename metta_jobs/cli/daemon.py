"""`metta daemon …`."""

from __future__ import annotations

import logging
from typing import Annotated

import typer

from metta_jobs.cli.context import STATE, manager, print_json
from metta_jobs.errors import NoState
from metta_jobs.paths import find_state_dir

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode="markdown",
    help="The process that starts and watches jobs. It starts by itself when it is needed.",
)
Json = Annotated[bool, typer.Option("--json", help="Print JSON with stable keys.")]


@app.command(epilog="Example: `metta daemon start`")
def start() -> None:
    """Start the daemon, if none runs."""
    with manager(create=True) as opened:
        before = opened.daemon()
        running = opened.start_daemon()
    typer.echo(f"The daemon {'runs already' if before else 'is started'} (pid {running.pid}).")


@app.command(epilog="Example: `metta daemon stop`")
def stop() -> None:
    """Stop the daemon. Running jobs go on, and the next daemon takes them over."""
    try:
        with manager() as opened:
            ended = opened.stop_daemon()
    except NoState:
        ended = None
    typer.echo(f"The daemon (pid {ended.pid}) is stopped; running jobs go on." if ended else "No daemon runs.")


@app.command(epilog="Example: `metta daemon status --json`")
def status(as_json: Json = False) -> None:
    """Say whether a daemon runs, and what its log said last."""
    from metta_jobs.daemon.control import log_tail
    from metta_jobs.paths import StateDir

    try:
        with manager() as opened:
            running = opened.daemon()
            unfinished = sum(group.counts.unfinished for group in opened.groups())
    except NoState:
        running, unfinished = None, 0
    root = find_state_dir(STATE.state_dir)
    log = StateDir(root).daemon_log
    if as_json:
        print_json(
            {
                "running": running is not None,
                "pid": running.pid if running else None,
                "started_at": running.started_at if running else None,
                "version": running.version if running else None,
                "state_dir": str(root),
                "unfinished_jobs": unfinished,
            }
        )
        return
    if running:
        typer.echo(f"The daemon runs (pid {running.pid}, since {running.started_at[:19].replace('T', ' ')} UTC).")
    else:
        typer.echo(
            "No daemon runs." + (f" {unfinished} jobs have not ended: `metta daemon start`." if unfinished else "")
        )
    typer.echo(f"State: {root}\nLog:   {log}")
    for line in log_tail(log, 3):
        typer.echo(f"  {line}")


@app.command(epilog="Example: `metta daemon run`")
def run() -> None:
    """Run the daemon in the foreground, with its log on stderr. Ctrl-C ends it; jobs go on."""
    from metta_jobs.daemon import service

    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    service.run(find_state_dir(STATE.state_dir))
