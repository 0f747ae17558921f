"""`metta doctor`: looking the state folder over, and mending it."""

from __future__ import annotations

import shutil
import sys
import textwrap
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from metta_jobs.cli.context import STATE, print_json
from metta_jobs.paths import StateDir, find_state_dir

if TYPE_CHECKING:
    from metta_jobs.upkeep.findings import Finding

_ASKING = "Asking SkyPilot, which takes about ten seconds (--no-remote leaves it out) …"
_INDENT = 23

Json = Annotated[bool, typer.Option("--json", help="Print JSON with stable keys.")]


def doctor(
    repair: Annotated[
        bool,
        typer.Option(
            "--repair", help="Mend the database; what is damaged is kept beside it. No daemon may be running."
        ),
    ] = False,
    remote: Annotated[
        bool, typer.Option("--remote/--no-remote", help="Ask SkyPilot's API server, where SkyPilot is installed.")
    ] = True,
    as_json: Json = False,
) -> None:
    """Look over what there is: database, queue, daemon, disk, GPUs, wandb, SkyPilot. Exit code 1 when something is
    broken."""
    from metta_jobs.upkeep.findings import Verdict

    state_dir, now = StateDir(find_state_dir(STATE.state_dir)), datetime.now(UTC)
    said = _repair(state_dir, now, quiet=as_json) if repair else []
    found: list[Finding] = []
    for finding in _examine(state_dir, now, remote=remote, quiet=as_json):
        found.append(finding)
        if not as_json:
            _show(finding)
    worst = max((finding.verdict for finding in found), key=list(Verdict).index)
    if as_json:
        document = {"verdict": worst.value, "checks": [finding.to_dict() for finding in found]}
        print_json(document | ({"repaired": said} if repair else {}))
    else:
        _sum_up(found)
    raise typer.Exit(1 if worst is Verdict.BROKEN else 0)


def _examine(state_dir: StateDir, now: datetime, *, remote: bool, quiet: bool) -> Iterator[Finding]:
    """The findings as they are known; what takes long comes last, and is announced."""
    from metta_jobs.manager import reachable
    from metta_jobs.upkeep.doctor import examine, guarded
    from metta_jobs.upkeep.patient import Patient

    patient = Patient(state_dir, now)
    announced = sys.stderr.isatty() and not quiet

    def asking() -> None:
        if announced:
            typer.echo(_ASKING, err=True, nl=False)
        elif not quiet:
            typer.echo(_ASKING, err=True)

    try:
        yield from examine(patient)
        asked = guarded(reachable.INTERPRETER, lambda _: reachable.examine(patient, ask=remote, asking=asking), patient)
        for finding in asked:
            if announced and finding.check != reachable.INTERPRETER:
                typer.echo("\r\x1b[K", err=True, nl=False)  # the announcement has done its work
            yield finding
    finally:
        patient.close()


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
    _echo(f"{finding.verdict.value:<8} {finding.check:<13}", f"{finding.says}.")
    for detail in finding.details:
        _echo("", detail)
    if finding.remedy is not None:
        _echo("", f"→ {finding.remedy}.", deeper=2)


def _sum_up(found: list[Finding]) -> None:
    """What asks for attention, once more: on a small terminal it has scrolled away by now."""
    from metta_jobs.upkeep.findings import Verdict

    said = []
    for verdict, word in ((Verdict.BROKEN, "Broken"), (Verdict.WARNING, "Warnings")):
        names = dict.fromkeys(finding.check for finding in found if finding.verdict is verdict)
        said += [f"{word}: {', '.join(names)}."] if names else []
    typer.echo(" ".join(said) or "Nothing is wrong.")


def _echo(before: str, text: str, deeper: int = 0) -> None:
    """A line; on a terminal, broken where it is too long, but not within a command between backquotes."""
    line = f"{before:<{_INDENT}}{text}"
    if sys.stdout.isatty():
        width = max(shutil.get_terminal_size().columns, _INDENT + 30)
        parts = line.split("`")
        parts[1::2] = [part.replace(" ", "\0") for part in parts[1::2]]
        wrapped = textwrap.wrap(
            "`".join(parts),
            width,
            subsequent_indent=" " * (_INDENT + deeper),
            break_long_words=False,
            break_on_hyphens=False,
        )
        line = "\n".join(wrapped).replace("\0", " ")
    typer.echo(line)
