"""`metta job edit`, `move`, `pause`, `resume`: changing what waits."""

from __future__ import annotations

from typing import Annotated

import typer

from metta_jobs.cli.context import complete_group, manager, print_json
from metta_jobs.errors import InvalidInput
from metta_jobs.views import hooks_words, rule_words

Json = Annotated[bool, typer.Option("--json", help="Print JSON with stable keys.")]
Groups = Annotated[list[str], typer.Argument(metavar="GROUP…", help="Groups.", autocompletion=complete_group)]


def register(app: typer.Typer) -> None:
    """Add these commands to `metta job`."""
    app.command(epilog="Example: `metta job edit 14 gpus=2 timeout_s=3600`, `metta job edit my_group max_parallel=4`")(
        edit
    )
    app.command(epilog="Example: `metta job move 14 15 --first`, `metta job move my_group --before 9`")(move)
    app.command(epilog="Example: `metta job pause my_group`")(pause)
    app.command(epilog="Example: `metta job resume my_group`")(resume)


def edit(
    target: Annotated[
        str, typer.Argument(metavar="ID|GROUP/JOB|GROUP", help="What to change.", autocompletion=complete_group)
    ],
    changes: Annotated[list[str], typer.Argument(metavar="KEY=VALUE…", help="Fields and their values.")],
    as_json: Json = False,
) -> None:
    """Change a pending job, or how a group shares the machine.

    Of a job: gpus, cpus, memory_gb, priority, timeout_s, queue_timeout_s, grace_s, max_log_mb, retry.max_attempts,
    env.NAME, command, cwd, on_end, acceptance; where it runs a recipe, any argument of the recipe. Of a group:
    priority, max_parallel, max_failures, on_end, health; null takes a limit away.
    """
    with manager() as opened:
        if "/" not in target and not target.isdigit():
            group = opened.edit_group(target, changes)
            if as_json:
                print_json({key: value for key, value in group.to_dict().items() if key != "jobs"})
                return
            limits = f"max_parallel={_shown(group.max_parallel)}, max_failures={_shown(group.max_failures)}"
            told = f"its end is told by {hooks_words(group.on_end)}" if group.on_end else "nobody is told of its end"
            rules = f"; health: {', '.join(map(rule_words, group.health))}" if group.health else ""
            typer.echo(f"{target}: priority={group.priority}, {limits}; {told}{rules}.")
            return
        (job_id,) = opened.ids([target])
        job = opened.edit(job_id, changes)
    if as_json:
        print_json(job.to_dict())
        return
    typer.echo(f"Job {job.id} ({job.group}/{job.name}) is changed: {' '.join(changes)}.")


def _shown(limit: int | None) -> str:
    return "none" if limit is None else str(limit)


def move(
    targets: Annotated[
        list[str],
        typer.Argument(
            metavar="GROUP|ID…",
            help="Pending jobs, in the order to keep: groups, job ids, or GROUP/NAME.",
            autocompletion=complete_group,
        ),
    ],
    first: Annotated[bool, typer.Option("--first", help="To the head of the queue.")] = False,
    before: Annotated[
        str | None,
        typer.Option(metavar="ID|GROUP/NAME", help="Just before this pending job.", autocompletion=complete_group),
    ] = None,
    as_json: Json = False,
) -> None:
    """Move pending jobs in the queue; they take the priority of the job that they are put before."""
    if first == (before is not None):
        raise InvalidInput("Say where to: --first, or --before ID or GROUP/NAME.")
    with manager() as opened:
        moved = opened.move(targets, before=before)
    if as_json:
        print_json({"jobs": [job.to_dict() for job in moved]})
        return
    where = "the first of the queue" if first else f"before {f'job {before}' if str(before).isdigit() else before}"
    typer.echo(f"{len(moved)} job{'' if len(moved) == 1 else 's'} moved: now {where}.")


def pause(groups: Groups) -> None:
    """Start no more jobs of these groups; those that run go on."""
    with manager() as opened:
        for group in groups:
            done = opened.pause(group)
            typer.echo(f"{group} is paused." if done else f"{group} was paused already.")


def resume(groups: Groups) -> None:
    """Start jobs of paused groups again."""
    with manager() as opened:
        for group in groups:
            done = opened.resume(group)
            typer.echo(f"{group} goes on." if done else f"{group} was not paused.")
