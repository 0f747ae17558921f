"""`metta job …`: looking at jobs."""

from __future__ import annotations

import io
from datetime import UTC, datetime
from typing import Annotated

import typer

from metta_jobs.cli import job_change, job_events, job_queue, looking, prune
from metta_jobs.cli.context import complete_group, manager, print_json, reader
from metta_jobs.cli.looking import SHOWN_GROUPS, one_job
from metta_jobs.errors import InvalidInput
from metta_jobs.states import JobState
from metta_jobs.views import JobView

app = typer.Typer(no_args_is_help=True, rich_markup_mode="markdown", help="Submit, watch and end jobs.")
job_change.register(app)
job_queue.register(app)
job_events.register(app)
prune.register(app)

Json = Annotated[bool, typer.Option("--json", help="Print JSON with stable keys.")]
Target = Annotated[
    str, typer.Argument(metavar="ID|GROUP/JOB", help="A job's id or GROUP/NAME.", autocompletion=complete_group)
]


@app.command(
    "list", epilog="Example: `metta job list`, `metta job list arena_experiment_20261121_101500 --state failed`"
)
def list_jobs(
    group: Annotated[
        str | None, typer.Argument(metavar="[GROUP]", help="Show this group's jobs.", autocompletion=complete_group)
    ] = None,
    state: Annotated[str | None, typer.Option(help="Only jobs in this state (or groups that have some).")] = None,
    everything: Annotated[
        bool,
        typer.Option(
            "--all", help=f"All groups, not only the newest {SHOWN_GROUPS}; with GROUP, all jobs, seeds unfolded."
        ),
    ] = False,
    remote_orphans: Annotated[
        bool, typer.Option("--remote-orphans", help="Managed jobs of this queue in SkyPilot that no job here owns.")
    ] = False,
    cancel: Annotated[bool, typer.Option("--cancel", help="With --remote-orphans: have them cancelled.")] = False,
    adopt: Annotated[
        bool, typer.Option("--adopt", help="With --remote-orphans: let them be new attempts of their jobs.")
    ] = False,
    as_json: Json = False,
) -> None:
    """List groups with their counts, or the jobs of one group."""
    if remote_orphans:
        from metta_jobs.cli.orphans import orphans

        orphans(cancel=cancel, adopt=adopt, as_json=as_json)
        return
    if cancel or adopt:
        raise InvalidInput(
            "--cancel and --adopt go with --remote-orphans; jobs here are ended by `metta job kill`, and tried again "
            "by `metta job retry`."
        )
    looking.list_jobs(group, state, everything, as_json)


@app.command(epilog="Example: `metta job monitor arena_experiment_20261121_101500 --refresh 5`")
def monitor(
    group: Annotated[str, typer.Argument(metavar="GROUP", help="The group to watch.", autocompletion=complete_group)],
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
    looking.show_job(target, as_json)


@app.command(epilog="Example: `metta job why 14`")
def why(target: Target, as_json: Json = False) -> None:
    """Say why a job is pending, and how many are before it; or why it is as it is."""
    job = one_job(target)
    with reader() as opened:
        running = job.state.terminal or opened.daemon() is not None
        warning = opened.warning(not job.state.terminal, job.elsewhere)
        place = opened.place(job.id) if job.state is JobState.PENDING else None
    reason = job.reason or {
        JobState.PENDING: "nothing holds it back; the daemon has not looked at it yet",
        JobState.LAUNCHING: "it is being started",
        JobState.RUNNING: "it has all that it needs",
        JobState.SUCCEEDED: "exit code 0",
    }.get(job.state, "no reason is recorded")
    final = _final(job)
    if as_json:
        print_json(
            {
                "id": job.id,
                "state": job.state.value,
                "reason": reason,
                "not_tried_again": final,
                "before_it": place[0] if place else None,
                "waits_since": place[1].isoformat() if place else None,
                "daemon_running": running,
            }
        )
        return
    typer.echo(f"Job {job.id} ({job.group}/{job.name}) is {job.state.value}: {reason}.")
    if final:
        typer.echo(f"It is not tried again: {final}.")
    if place is not None:
        from metta_jobs.display.format import duration

        before = f"{place[0]} job{'' if place[0] == 1 else 's'}" if place[0] else "No job"
        waits = duration((datetime.now(UTC) - place[1]).total_seconds())
        typer.echo(f"{before} before it in the queue; it has waited {waits} for slots.")
    if warning:
        typer.echo(warning, err=True)


def _final(job: JobView) -> str | None:
    """Why a job that has failed gets no other attempt by its retry policy; None where it has none."""
    if not job.config.get("retry"):
        return None
    from metta_jobs.policy import RetryPolicy, cause_of

    cause = cause_of(job.state, job.exit_code)
    return None if cause is None else RetryPolicy.model_validate(job.config["retry"]).refuses(cause, job.tries)


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
    with reader() as opened:
        path = opened.log_path(job.id, attempt)
        if follow and attempt is None and job.elsewhere:
            from metta_jobs.cli.remote_log import follow_remote

            follow_remote(opened, job, tail, out)
            return
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
    if job.elsewhere and attempt in (None, job.attempt):
        at = datetime.fromtimestamp(path.stat().st_mtime, UTC).astimezone().strftime("%H:%M:%S")
        typer.echo(f"The job runs elsewhere: that was the end of its log at {at}; -f streams it.", err=True)


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
