"""What all commands share: the options before the command, the manager, consoles, completion."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from metta_jobs.errors import MettaError

if TYPE_CHECKING:
    from rich.console import Console

    from metta_jobs.manager import JobManager


@dataclass
class _State:
    state_dir: Path | None = None
    debug: bool = False


STATE = _State()


def manager(*, create: bool = False) -> JobManager:
    """The manager of the state folder that the command line named; who only looks does not make one."""
    from metta_jobs.manager import JobManager

    return JobManager(STATE.state_dir, create=create)


def console() -> Console:
    """Where tables go."""
    from rich.console import Console

    return Console(highlight=False)


def print_json(value: Any) -> None:
    """One JSON document on stdout, nothing else."""
    typer.echo(json.dumps(value, indent=2))


def complete_group(incomplete: str) -> list[str]:
    """Names of groups for the shell; none when the state cannot be read."""
    try:
        with manager() as opened:
            return [group.name for group in reversed(opened.groups()) if group.name.startswith(incomplete)]
    except MettaError:
        return []  # a shell's prompt is no place for error messages
