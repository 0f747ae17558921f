"""`metta sweep run | list | status | best | stop | pause | resume | extend | tell | import | export`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from metta_jobs.cli.context import console, manager, print_json
from metta_jobs.errors import InvalidInput, MettaError, NoState
from metta_jobs.paths import find_project

if TYPE_CHECKING:
    from metta_jobs.manager import JobManager
    from metta_jobs.sweep.book import Book

app = typer.Typer(no_args_is_help=True, help="Sweeps: search hyperparameters by trials on the queue.")


def complete_sweep(incomplete: str) -> list[str]:
    """Names of sweeps for the shell; none when the state cannot be read."""
    try:
        with _opened() as (_, book):
            return [name for name in book.names() if name.startswith(incomplete)]
    except MettaError:
        return []  # a shell's prompt is no place for error messages


Name = Annotated[str, typer.Argument(metavar="NAME", help="The sweep.", autocompletion=complete_sweep)]
Json = Annotated[bool, typer.Option("--json", help="Print JSON with stable keys.")]
Changes = Annotated[list[str] | None, typer.Argument(metavar="KEY=VALUE…", help="Fields and their values.")]


@contextmanager
def _opened(*, create: bool = False) -> Iterator[tuple[JobManager, Book]]:
    from metta_jobs.sweep.book import Book

    with manager(create=create) as opened, Book(opened.state_dir) as book:
        yield opened, book


@app.command(
    epilog="Example: `metta sweep run lr sweep=quick sim_name=gym remote=false`, `metta sweep run lr --config lr.yaml`"
)
def run(
    name: Annotated[str, typer.Argument(metavar="NAME", help="What to call it; its group of jobs is called so, too.")],
    arguments: Changes = None,
    config: Annotated[Path | None, typer.Option("--config", help="A YAML file that says all of it.")] = None,
    detach: Annotated[bool, typer.Option("--detach", help="Start it, and do not show it.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print configuration and commands; store nothing.")
    ] = False,
) -> None:
    """Start a sweep, or come back to it.

    Without --config it is what RECIPE.sweep returns: sim_name=RECIPE says of which recipe, sweep=quick or sweep=full
    which of its presets. Other arguments are fields by their dotted path (settings.max_parallel=2,
    sweep.protein.num_random_samples=10, sweep_job_overrides.trainer.total_timesteps=100000).
    """
    from metta_jobs.sweep.define import from_file, from_recipe
    from metta_jobs.sweep.tool import watch_sweep

    project = find_project()
    tool = from_file(config, name, arguments or []) if config else from_recipe(name, arguments or [], project)
    if dry_run:
        from metta_jobs.cli.run_tool import preview

        preview(f"sweep {name}", tool, project)
        return
    with manager(create=True) as opened:
        page = tool.submit(opened)
        if detach:
            typer.echo(f"{page.name} is {page.sweep.state.value}. `metta sweep status {page.name}` shows it.")
            return
        raise typer.Exit(watch_sweep(opened, page.name))


@app.command("list", epilog="Example: `metta sweep list`")
def list_sweeps(as_json: Json = False) -> None:
    """List the sweeps: state, trials, best score."""
    from datetime import UTC, datetime

    from metta_jobs.display.listing import show
    from metta_jobs.sweep.facts import facts
    from metta_jobs.sweep.tables import render_sweeps

    try:
        with _opened() as (_, book):
            pages = book.pages()
    except NoState:
        pages = []
    now = datetime.now(UTC)
    if as_json:
        print_json({"sweeps": [facts(page, now) for page in reversed(pages)]})
    elif not pages:
        typer.echo("No sweeps yet. `metta sweep run NAME sweep=quick sim_name=RECIPE` starts one.")
    else:
        show(render_sweeps(list(reversed(pages)), now), console())


@app.command(epilog="Example: `metta sweep status lr`")
def status(name: Name, as_json: Json = False) -> None:
    """Show a sweep: its trials and why each was suggested, phase, best so far, spent against budget, forecast."""
    from datetime import UTC, datetime

    from metta_jobs.display.listing import show
    from metta_jobs.errors import UnknownName
    from metta_jobs.sweep.exchange import rows_of
    from metta_jobs.sweep.facts import facts
    from metta_jobs.sweep.launch import loops_of
    from metta_jobs.sweep.tables import render_trials, summary

    with _opened() as (opened, book):
        page = book.page(name)
        try:
            group = opened.group(name)
        except UnknownName:
            group = None  # forgotten by `metta job prune`, or not submitted yet
    now = datetime.now(UTC)
    if as_json:
        print_json(facts(page, now) | {"trials": rows_of(page), "definition": page.config.definition()})
        return
    loops = loops_of(group) if group else []
    for line in summary(page, now, loops[-1] if loops else None):
        typer.echo(line)
    if page.trials:
        typer.echo()
        show(render_trials(page, {job.name: job for job in group.jobs} if group else {}), console())


@app.command(epilog="Example: `metta sweep best lr`, `metta sweep best lr --top-n 5 --show-scores`")
def best(
    name: Name,
    top_n: Annotated[int, typer.Option("--top-n", min=1, help="So many of the best, with what differs.")] = 1,
    show_scores: Annotated[bool, typer.Option("--show-scores", help="Every score of each.")] = False,
    output_dir: Annotated[Path, typer.Option("--output-dir", help="Where the patch file goes.")] = Path(),
    as_json: Json = False,
) -> None:
    """Print the best as YAML and as overrides, and write NAME_best.yaml for `metta run RECIPE.train +patch=…`."""
    import shlex

    from metta_jobs.display.listing import show
    from metta_jobs.sweep.best import best_of, command_line, patch_text, write_patch
    from metta_jobs.sweep.facts import best_facts
    from metta_jobs.sweep.tables import render_best

    with _opened() as (_, book):
        page = book.page(name)
    found = best_of(page, top_n)
    if as_json:
        print_json({"sweep": name, "best": [best_facts(page, one) for one in found]})
        return
    path = write_patch(page, found[0], output_dir)
    if top_n > 1 or show_scores:
        show(render_best(page.config, found, scores=show_scores), console())
        typer.echo()
    typer.echo(patch_text(page, found[0]))
    typer.echo(shlex.join(command_line(page, found[0])))
    typer.echo(f"\nWritten: {path}. Use it: metta run {page.config.target} +patch={shlex.quote(str(path))}")


@app.command(epilog="Example: `metta sweep stop lr`, `metta sweep stop lr --kill`")
def stop(
    name: Name, kill: Annotated[bool, typer.Option("--kill", help="End the trials that run, too.")] = False
) -> None:
    """Start no more trials; those that run go on and are told."""
    from metta_jobs.sweep import change, plan

    with _opened() as (opened, book):
        page = change.stop(opened, book, name, kill=kill)
    left = len(plan.open_trials(page.trials))
    typer.echo(f"{name} is {page.sweep.state.value}; {left} of its trials {'is' if left == 1 else 'are'} still open.")


@app.command(epilog="Example: `metta sweep pause lr`")
def pause(name: Name) -> None:
    """Ask for no more trials until it is resumed; those that run go on."""
    with _opened() as (_, book):
        done = book.pause(name, paused=True)
    typer.echo(f"{name} is paused." if done else f"{name} was paused already.")


@app.command(epilog="Example: `metta sweep resume lr`")
def resume(name: Name) -> None:
    """Go on after a pause, a stop, or too many failures in a row; start its loop again if it is gone."""
    from metta_jobs.sweep import change

    with _opened() as (opened, book):
        page = change.resume(opened, book, name)
    typer.echo(f"{name} is {page.sweep.state.value}.")


@app.command(epilog="Example: `metta sweep extend lr trials=+10`, `metta sweep extend lr settings.max_parallel=4`")
def extend(name: Name, changes: Changes = None) -> None:
    """Give a sweep a larger budget (trials, cost_seconds, gpu_hours, dollars, wall_seconds; +N: more), or other fields.

    It goes on from all that it has tried.
    """
    from metta_jobs.sweep import change

    with _opened() as (opened, book):
        page = change.extend(opened, book, name, changes or [])
    typer.echo(f"{name} is {page.sweep.state.value}, with {' '.join(changes or [])}.")


@app.command(epilog="Example: `metta sweep tell lr trainer.learning_rate=0.001 --score 17.5 --cost 600`")
def tell(
    name: Name,
    parameters: Changes = None,
    score: Annotated[float | None, typer.Option(help="What it has reached.")] = None,
    cost: Annotated[float | None, typer.Option(min=0, help="What it has cost, in the sweep's unit.")] = None,
    failed: Annotated[bool, typer.Option("--failed", help="It has failed.")] = False,
) -> None:
    """Add an observation by hand: every parameter, and its score."""
    from metta_jobs.sweep import change

    with _opened() as (_, book):
        number = change.tell(book, name, parameters or [], score, cost, failed)
    typer.echo(f"{name} knows it as trial {number}.")


@app.command("import", epilog="Example: `metta sweep import lr old_lr`, `metta sweep import lr trials.csv`")
def import_(
    name: Name,
    source: Annotated[str, typer.Argument(metavar="SWEEP|FILE.csv", help="Where the observations are.")],
    limit: Annotated[int | None, typer.Option(min=0, help="So many of the newest at most.")] = None,
    as_json: Json = False,
) -> None:
    """Load observations of another sweep, or of a CSV file; twice the same is stored once."""
    from metta_jobs.sweep import change

    with _opened() as (_, book):
        done = change.take_over(book, name, source, limit)
    if as_json:
        print_json({"stored": done.stored, "known": done.known, "lacking": done.lacking})
        return
    others = f", {done.known} were known" if done.known else ""
    others += f", {done.lacking} lack a parameter of the space" if done.lacking else ""
    typer.echo(f"{done.stored} observations loaded into {name}{others}.")


@app.command(epilog="Example: `metta sweep export lr --output lr.csv`")
def export(
    name: Name,
    output: Annotated[Path | None, typer.Option(help="Where to; by default it is printed.")] = None,
) -> None:
    """Write the trials as CSV: a line each, a column for each parameter."""
    from metta_jobs.sweep.exchange import to_csv

    with _opened() as (_, book):
        text = to_csv(book.page(name))
    if output is None:
        typer.echo(text, nl=False)
        return
    try:
        output.expanduser().write_text(text)
    except OSError as error:
        raise InvalidInput(f"{output} cannot be written: {error.strerror}.") from error
    typer.echo(f"Written: {output}")
