"""What all commands share: the options before the command, the manager, consoles, completion."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from metta_jobs.errors import InvalidInput, MettaError

if TYPE_CHECKING:
    from rich.console import Console

    from metta_jobs.manager import JobManager, Reader


@dataclass
class _State:
    state_dir: Path | None = None
    debug: bool = False


STATE = _State()


def manager(*, create: bool = False) -> JobManager:
    """The manager of the state folder that the command line named; who only looks does not make one."""
    from metta_jobs.manager import JobManager

    return JobManager(STATE.state_dir, create=create)


def reader() -> Reader:
    """The same for who only looks, loaded in half the time."""
    from metta_jobs.manager.look import Reader

    return Reader(STATE.state_dir, create=False)


def console() -> Console:
    """Where tables go."""
    from rich.console import Console

    return Console(highlight=False, emoji=False)


def print_json(value: Any) -> None:
    """One JSON document on stdout, nothing else."""
    print(json.dumps(value, indent=2))


def ask(question: str) -> None:
    """Ask a person who must agree; raise InvalidInput when nobody does."""
    import typer

    try:
        agreed = typer.confirm(question, err=True)
    except typer.Abort:
        raise InvalidInput("Nothing was done: nobody answered. --yes does not ask.") from None
    if not agreed:
        raise InvalidInput("Nothing was done.")


def complete_group(incomplete: str) -> list[str]:
    """Names of groups for the shell; none when the state cannot be read."""
    try:
        with reader() as opened:
            return [group.name for group in reversed(opened.groups()) if group.name.startswith(incomplete)]
    except MettaError:
        return []  # a shell's prompt is no place for error messages
