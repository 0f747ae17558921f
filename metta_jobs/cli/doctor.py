"""`metta doctor`: looking the state folder over, and mending it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from metta_jobs.cli.context import STATE, print_json
from metta_jobs.paths import StateDir, find_state_dir

if TYPE_CHECKING:
    from metta_jobs.upkeep.findings import Finding

Json = Annotated[bool, typer.Option("--json", help="Print JSON with stable keys.")]


def doctor(
    repair: Annotated[
        bool,
        typer.Option(
            "--repair", help="Mend the database; what is damaged is kept beside it. No daemon may be running."
        ),
    ] = False,
    as_json: Json = False,
) -> None:
    """Look the state folder over: database, queue, daemon, disk, GPUs. Exit code 1 when something is broken."""
    from metta_jobs.upkeep.doctor import examine
    from metta_jobs.upkeep.findings import Verdict

    state_dir, now = StateDir(find_state_dir(STATE.state_dir)), datetime.now(UTC)
    said = _repair(state_dir, now, quiet=as_json) if repair else []
    found: list[Finding] = []
    for finding in examine(state_dir, now):
        found.append(finding)
        if not as_json:
            _show(finding)
    worst = max((finding.verdict for finding in found), key=list(Verdict).index)
    if as_json:
        document = {"verdict": worst.value, "checks": [finding.to_dict() for finding in found]}
        print_json(document | ({"repaired": said} if repair else {}))
    raise typer.Exit(1 if worst is Verdict.BROKEN else 0)


def _repair(state_dir: StateDir, now: datetime, *, quiet: bool) -> list[str]:
    from metta_jobs.errors import NoState
    from metta_jobs.upkeep.repair import repair

    if not state_dir.root.exists():
        raise NoState(f"There is nothing to repair: {state_dir.root} holds no queue.")
    if not quiet:
        typer.echo("Looking for damage …", err=True)
    said = repair(state_dir, now)
    if not quiet:
        for sentence in said:
            typer.echo(sentence)
        typer.echo()
    return said


def _show(finding: Finding) -> None:
    typer.echo(f"{finding.verdict.value:<8} {finding.check:<13} {finding.says}.")
    for detail in finding.details:
        typer.echo(f"{'':<22} {detail}")
    if finding.remedy is not None:
        typer.echo(f"{'':<22} → {finding.remedy}.")
