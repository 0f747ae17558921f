"""`metta job list --remote-orphans`: managed jobs of this queue's that nobody here looks after any more."""

from __future__ import annotations

from collections.abc import Sequence

import typer

from metta_jobs.cli.context import ask, manager, print_json
from metta_jobs.manager.sky import Orphan, Sky


def orphans(*, cancel: bool, as_json: bool) -> None:
    """List managed jobs in SkyPilot that carry this queue's naming and that no live job owns, and end them."""
    with manager() as opened:
        owned = opened.live_attempts()
        with Sky(opened.state_dir, opened.project_dir) as sky:
            found = sky.orphans(owned)
            if cancel and found:
                if not as_json:
                    _list(found)
                    ask(f"Cancel {len(found)} managed job{'s' if len(found) > 1 else ''}?")
                sky.cancel(found)
    if as_json:
        print_json({"orphans": [orphan.to_dict() for orphan in found], "cancelled": cancel})
    elif not found:
        typer.echo("No orphans: every managed job of this queue's is owned by a job here, or has ended.")
    elif cancel:
        typer.echo(f"{len(found)} cancelled; SkyPilot takes their machines away.")
    else:
        _list(found)
        typer.echo("`metta job list --remote-orphans --cancel` ends them.")


def _list(found: Sequence[Orphan]) -> None:
    for orphan in found:
        typer.echo(f"{orphan.managed_id}  {orphan.name}  {orphan.status.lower()}  of job {orphan.job_id}")
