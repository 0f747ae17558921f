"""`metta job list --remote-orphans`: managed jobs of this queue's that nobody here looks after any more."""

from __future__ import annotations

from collections.abc import Sequence

import typer

from metta_jobs.cli.context import ask, manager, print_json
from metta_jobs.errors import InvalidInput, UnknownName
from metta_jobs.manager import JobManager
from metta_jobs.manager.orphans import Orphan, find
from metta_jobs.manager.orphans import cancel as cancel_orphans
from metta_jobs.manager.sky import Sky


def orphans(*, cancel: bool, adopt: bool, as_json: bool) -> None:
    """List managed jobs in SkyPilot that carry this queue's naming and that no live job owns; end them, or make them
    their jobs' attempts again."""
    if cancel and adopt:
        raise InvalidInput("Use either --cancel or --adopt: what is cancelled cannot be taken back.")
    adopted: list[int] = []
    with manager() as opened:
        with Sky(opened.state_dir, opened.project_dir) as sky:
            found = find(sky, opened.state_dir, *opened.owned())
            if cancel and found:
                if not as_json:
                    _list(found)
                    ask(f"Cancel {_managed_jobs(len(found))}?")
                cancel_orphans(sky, found)
        if adopt:
            adopted = [orphan.managed_id for orphan in found if _adopt(opened, orphan)]
    if as_json:
        print_json({"orphans": [orphan.to_dict() for orphan in found], "cancelled": cancel, "adopted": adopted})
    elif not found:
        typer.echo("No orphans: every managed job of this queue's is owned by a job here, or has ended.")
    elif cancel:
        typer.echo(f"{len(found)} cancelled; SkyPilot takes their machines away.")
    elif not adopt:
        _list(found)
        typer.echo("`metta job list --remote-orphans --cancel` ends them; with --adopt their jobs get them back.")
    if len(adopted) < len(found) and adopt:
        raise typer.Exit(1)


def _adopt(opened: JobManager, orphan: Orphan) -> bool:
    try:
        job = opened.adopt(orphan)
    except UnknownName:
        typer.echo(
            f"Managed job {orphan.managed_id} cannot be taken back: there is no job {orphan.job_id} here. --cancel "
            "ends it.",
            err=True,
        )
        return False
    except InvalidInput as refusal:
        typer.echo(f"{refusal} --cancel ends it.", err=True)
        return False
    typer.echo(f"Managed job {orphan.managed_id} is job {job.id} ({job.group}/{job.name}) again.", err=True)
    return True


def _managed_jobs(count: int) -> str:
    return f"{count} managed job{'s' if count > 1 else ''}"


def _list(found: Sequence[Orphan]) -> None:
    for orphan in found:
        typer.echo(f"{orphan.managed_id}  {orphan.name}  {orphan.status.lower()}  of job {orphan.job_id}")
