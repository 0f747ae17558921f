"""`metta job prune`: removing old groups, rows and files together."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from metta_jobs.cli.context import STATE, ask, print_json
from metta_jobs.errors import InvalidInput
from metta_jobs.paths import StateDir, find_state_dir

if TYPE_CHECKING:
    from metta_jobs.upkeep.prune import Done, Group, Plan

Json = Annotated[bool, typer.Option("--json", help="Print JSON with stable keys.")]
LISTED = 50


def register(app: typer.Typer) -> None:
    """Add this command to `metta job`."""
    app.command(
        epilog="Example: `metta job prune --older-than 30d --keep-last 5 --dry-run`, then the same without `--dry-run`"
    )(prune)


def prune(
    older_than: Annotated[str, typer.Option(help="Only what ended longer ago than this: 45s, 90m, 12h, 30d, 2w.")],
    keep_last: Annotated[int, typer.Option(min=0, help="Never the newest groups, so many.")] = 0,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what would go.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    as_json: Json = False,
) -> None:
    """Remove groups that ended long ago, with everything their jobs have left. Whole groups only.

    Stays: what has not ended, what a job that stays depends on, what somebody is still to be told of.
    """
    from metta_jobs.store.engine import Store
    from metta_jobs.upkeep import prune as upkeep

    span = upkeep.parse_span(older_than)
    state_dir = StateDir(find_state_dir(STATE.state_dir))
    if not state_dir.root.exists():
        _nothing(as_json)
        return
    store = Store(state_dir.database)
    try:
        planned = upkeep.plan(state_dir, store, datetime.now(UTC), span, keep_last)
    except OSError as error:
        raise InvalidInput(f"The folders of jobs cannot be listed: {error.strerror or error}.") from error
    finally:
        store.close()
    if not as_json:
        _show(planned)
    if dry_run or not (planned.batches or planned.orphans):
        if as_json:
            _print(planned, None)
        return
    if not yes:
        ask(f"Remove {_what(planned)} for ever?")
    done = upkeep.carry_out(state_dir, store.path, planned, (lambda _: None) if as_json else _say_removed)
    if as_json:
        _print(planned, done)
    else:
        _conclude(done)
    raise typer.Exit(1 if done.troubles else 0)


def _show(planned: Plan) -> None:
    from metta_jobs.disk import amount
    from metta_jobs.display.format import age, fit

    now = datetime.now(UTC)
    width = max((len(group.row.name) for group in planned.groups[:LISTED]), default=0)
    for group in planned.groups[:LISTED]:
        jobs = f"{len(group.row.jobs)} job{'' if len(group.row.jobs) == 1 else 's'}"
        typer.echo(
            f"{fit(group.row.name, width)}  {jobs:>10}  ended {age(group.ended_at, now)} ago  {amount(group.size)}"
        )
    if len(planned.groups) > LISTED:
        typer.echo(f"… and {len(planned.groups) - LISTED} more groups")
    if planned.orphans:
        shown = ", ".join(folder.name for folder in list(planned.orphans)[:10])
        more = ", …" if len(planned.orphans) > 10 else ""
        typer.echo(f"{_folders(planned)} of jobs that are not stored (any more): {shown}{more}")
    for name, why in planned.kept.items():
        typer.echo(f"{name} stays: {why}.")
    if planned.batches or planned.orphans:
        typer.echo(f"In all {_what(planned)}.")
    else:
        typer.echo("Nothing is that old, or nothing of it may go.")


def _what(planned: Plan) -> str:
    from metta_jobs.disk import amount

    groups, jobs = planned.groups, sum(len(group.row.jobs) for group in planned.groups)
    parts = [f"{len(groups)} group{'' if len(groups) == 1 else 's'} with {jobs} job{'' if jobs == 1 else 's'}"]
    if planned.orphans:
        parts.append(_folders(planned))
    return f"{' and '.join(parts if groups else parts[1:])}, {amount(planned.size)} of files"


def _folders(planned: Plan) -> str:
    return f"{len(planned.orphans)} folder{'' if len(planned.orphans) == 1 else 's'}"


def _say_removed(group: Group) -> None:
    typer.echo(f"Removed {group.row.name}.")


def _conclude(done: Done) -> None:
    from metta_jobs.disk import amount

    for name, why in done.spared.items():
        typer.echo(f"{name} stays after all: {why}.", err=True)
    for trouble in done.troubles[:LISTED]:
        typer.echo(f"{trouble}. `metta doctor` lists what is left over.", err=True)
    if len(done.troubles) > LISTED:
        typer.echo(f"… and {len(done.troubles) - LISTED} more folders", err=True)
    typer.echo(f"{amount(done.size)} of files are gone. The database keeps its size and uses the room again.")


def _print(planned: Plan, done: Done | None) -> None:
    print_json(
        {
            "groups": [group.to_dict() for group in (planned.groups if done is None else done.groups)],
            "orphans": [{"folder": str(folder), "bytes": size} for folder, size in planned.orphans.items()],
            "kept": planned.kept | ({} if done is None else done.spared),
            "bytes": planned.size if done is None else done.size,
            "removed": done is not None,
            "troubles": [] if done is None else done.troubles,
        }
    )


def _nothing(as_json: bool) -> None:
    if as_json:
        print_json({"groups": [], "orphans": [], "kept": {}, "bytes": 0, "removed": False, "troubles": []})
    else:
        typer.echo("There are no jobs yet, so there is nothing to remove.")
