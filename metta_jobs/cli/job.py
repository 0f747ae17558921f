"""`metta job …`: looking at jobs."""

from __future__ import annotations

import io
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from metta_jobs.cli import job_change
from metta_jobs.cli.context import complete_group, console, manager, print_json
from metta_jobs.errors import InvalidInput, NoState, UnknownName, nearest
from metta_jobs.states import JobState
from metta_jobs.views import JobView

if TYPE_CHECKING:
    from metta_jobs.manager import JobManager

app = typer.Typer(no_args_is_help=True, rich_markup_mode="markdown", help="Submit, watch and end jobs.")
job_change.register(app)

Json = Annotated[bool, typer.Option("--json", help="Print JSON with stable keys.")]
Target = Annotated[
    str, typer.Argument(metavar="ID|GROUP/JOB", help="A job's id or GROUP/NAME.", autocompletion=complete_group)
]
SHOWN_GROUPS = 20


def one_job(target: str) -> JobView:
    """The single job that a target names."""
    with manager() as opened:
        found = opened.jobs([target])
    if len(found) != 1:
        raise InvalidInput(f"{target} names {len(found)} jobs; name one, by its id or as {target}/NAME.")
    return found[0]


@app.command(
    "list", epilog="Example: `metta job list`, `metta job list arena_experiment_20261121_101500 --state failed`"
)
def list_jobs(
    group: Annotated[str | None, typer.Argument(help="Show this group's jobs.", autocompletion=complete_group)] = None,
    state: Annotated[str | None, typer.Option(help="Only jobs in this state (or groups that have some).")] = None,
    everything: Annotated[bool, typer.Option("--all", help=f"All groups, not only the newest {SHOWN_GROUPS}.")] = False,
    as_json: Json = False,
) -> None:
    """List groups with their counts, or the jobs of one group."""
    wanted = _state(state)
    try:
        opened = manager()
    except NoState as nothing:
        if group is not None:
            raise
        if as_json:
            print_json({"groups": []})
        else:
            typer.echo(str(nothing))
        return
    with opened:
        if group is None:
            _list_groups(opened, wanted, everything, as_json)
            return
        view = opened.group(group)
        warning = opened.warning(not view.finished)
    if wanted is not None:
        view = type(view)(view.name, view.created_at, tuple(job for job in view.jobs if job.state is wanted))
    if as_json:
        print_json(view.to_dict())
        return
    if wanted is not None and not view.jobs:
        typer.echo(f"No job of {group} is {wanted.value}.")
        return
    from metta_jobs.display.listing import show as show_table
    from metta_jobs.display.tables import render_jobs

    show_table(render_jobs(view, datetime.now(UTC)), console())
    if warning:
        typer.echo(warning, err=True)


def _list_groups(opened: JobManager, wanted: JobState | None, everything: bool, as_json: bool) -> None:
    groups = opened.groups()
    if wanted is not None:
        groups = [group for group in groups if any(job.state is wanted for job in opened.group(group.name).jobs)]
    recent = {group.name for group in groups[-SHOWN_GROUPS:]}
    shown = [g for g in groups if everything or g.name in recent or g.counts.unfinished]
    warning = opened.warning(any(group.counts.unfinished for group in groups))
    if as_json:
        print_json({"groups": [group.to_dict() for group in reversed(shown)]})
        return
    if not shown:
        typer.echo("No jobs yet. `metta run --list` shows the recipes; `metta job submit -- COMMAND` runs any command.")
        return
    from metta_jobs.display.listing import show as show_table
    from metta_jobs.display.tables import render_groups

    show_table(render_groups(list(reversed(shown)), datetime.now(UTC)), console())
    if len(shown) < len(groups):
        typer.echo(f"… and {len(groups) - len(shown)} older groups: --all shows them.")
    if warning:
        typer.echo(warning, err=True)


def _state(name: str | None) -> JobState | None:
    if name is None:
        return None
    try:
        return JobState(name.lower())
    except ValueError:
        states = [state.value for state in JobState]
        raise UnknownName(f"There is no state {name!r}.{nearest(name, states)} States: {', '.join(states)}.") from None


@app.command(epilog="Example: `metta job monitor arena_experiment_20261121_101500 --refresh 5`")
def monitor(
    group: Annotated[str, typer.Argument(help="The group to watch.", autocompletion=complete_group)],
    refresh: Annotated[float, typer.Option(min=0.1, help="Seconds between refreshes.")] = 2.0,
    logs: Annotated[bool, typer.Option("--logs/--no-logs", help="Show the ends of the jobs' logs.")] = True,
    once: Annotated[bool, typer.Option("--once", help="Show one frame and exit.")] = False,
) -> None:
    """Watch a group live. Ctrl-C leaves its jobs running."""
    from metta_jobs.display.watch import watch_group

    with manager() as opened:
        opened.group(group)
        raise typer.Exit(watch_group(opened, group, refresh=refresh, logs=logs, once=once))


@app.command(epilog="Example: `metta job show 14`")
def show(target: Target, as_json: Json = False) -> None:
    """Show one job whole: configuration, state, attempts, what happened, the end of its log."""
    job = one_job(target)
    with manager() as opened:
        events = opened.events([job.id])
    if as_json:
        print_json(job.to_dict() | {"events": [event.to_dict() for event in events]})
        return
    from metta_jobs.display.job import render_job
    from metta_jobs.display.listing import show as show_table
    from metta_jobs.display.logtail import read_tail
    from metta_jobs.metrics.artifacts import find_artifacts

    tail = read_tail(job.folder / "output.log") if job.folder else []
    artifacts = find_artifacts(job.folder) if job.folder else []
    show_table(render_job(job, events, tail, artifacts, datetime.now(UTC)), console())


@app.command(epilog="Example: `metta job why 14`")
def why(target: Target, as_json: Json = False) -> None:
    """Say why a job is pending, or why it is as it is."""
    job = one_job(target)
    with manager() as opened:
        warning = opened.warning(not job.state.terminal)
    reason = job.reason or {
        JobState.PENDING: "nothing holds it back; the daemon has not looked at it yet",
        JobState.RUNNING: "it has all that it needs",
        JobState.SUCCEEDED: "exit code 0",
    }.get(job.state, "no reason is recorded")
    if as_json:
        print_json({"id": job.id, "state": job.state.value, "reason": reason, "daemon_running": warning is None})
        return
    typer.echo(f"Job {job.id} ({job.group}/{job.name}) is {job.state.value}: {reason}.")
    if warning:
        typer.echo(warning, err=True)


@app.command(epilog="Example: `metta job logs 14 -f`, `metta job logs 14 --attempt 1 --tail 50`")
def logs(
    target: Target,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until the job has ended.")] = False,
    tail: Annotated[int | None, typer.Option(min=0, help="Only the last lines.")] = None,
    attempt: Annotated[int | None, typer.Option(help="Of this attempt, not the newest.")] = None,
) -> None:
    """Print what a job wrote to stdout and stderr."""
    import sys

    from metta_jobs.cli.logfile import follow_file, print_file

    out = getattr(sys.stdout, "buffer", None) or io.BytesIO()  # somebody may have closed it
    job = one_job(target)
    with manager() as opened:
        path = opened.log_path(job.id, attempt)
        if follow and attempt is None:
            follow_file(path, tail, out, lambda: opened.job(job.id).state.terminal)
            return
    if not path.exists():
        typer.echo(
            f"Job {job.id} has written nothing: it is {job.state.value}{f', {job.reason}' if job.reason else ''}.",
            err=True,
        )
        return
    print_file(path, tail, out)


@app.command(epilog="Example: `metta job wait arena_experiment_20261121_101500 --timeout 3600 && echo done`")
def wait(
    targets: Annotated[
        list[str], typer.Argument(metavar="GROUP|ID…", help="Groups or jobs.", autocompletion=complete_group)
    ],
    timeout: Annotated[float | None, typer.Option(min=0, help="Seconds to wait at most.")] = None,
    as_json: Json = False,
) -> None:
    """Wait until jobs have ended. Exit code: 0 all succeeded, 1 some did not, 124 time is up."""
    with manager() as opened:
        found = opened.wait(targets, timeout_s=timeout)
    open_jobs = [job for job in found if not job.state.terminal]
    unsuccessful = [job for job in found if job.unsuccessful]
    if as_json:
        print_json({"jobs": [job.to_dict() for job in found]})
    else:
        for job in unsuccessful:
            typer.echo(f"{job.group}/{job.name} ({job.id}) {job.state.value}: {job.reason}", err=True)
        if open_jobs:
            typer.echo(f"Time is up: {len(open_jobs)} of {len(found)} jobs have not ended.", err=True)
    raise typer.Exit(124 if open_jobs else 1 if unsuccessful else 0)


@app.command(epilog="Example: `metta job events 14`")
def events(
    targets: Annotated[
        list[str], typer.Argument(metavar="GROUP|ID…", help="Groups or jobs.", autocompletion=complete_group)
    ],
    as_json: Json = False,
) -> None:
    """Show what happened to jobs, oldest first."""
    with manager() as opened:
        found = opened.events(targets)
    if as_json:
        print_json({"events": [event.to_dict() for event in found]})
        return
    from metta_jobs.display.job import render_events
    from metta_jobs.display.listing import show as show_table

    show_table(render_events(found, of_one_job=len({event.job_id for event in found}) == 1), console())
