"""Hooks are refused while somebody is there to be told, not at the end of a night: found as deliveries find them."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path

from metta_jobs.daemon.deliver import Undelivered, address_of, find_command
from metta_jobs.errors import InvalidInput, nearest
from metta_jobs.policy import Hook
from metta_jobs.settings import Settings


def check_hooks(hooks: Iterable[Hook], project: Path, variables: Mapping[str, str], hidden: Collection[str]) -> None:
    """Refuse hooks that can tell nobody: a webhook without an address, a command that is not there.

    `variables` is the submitter's environment, `hidden` names those in it whose values are not stored. `project` is
    the folder in which commands run. Raises InvalidInput.
    """
    settings: Settings | None = None
    for hook in dict.fromkeys(hooks):
        if hook.command is not None:
            _check_command(hook.command[0], project)
        elif hook.webhook is not None and hook.webhook not in hidden:
            settings = settings or Settings.load(project)
            _check_webhook(hook.webhook, variables, hidden, settings)


def _check_webhook(name: str, variables: Mapping[str, str], hidden: Collection[str], settings: Settings) -> None:
    try:
        address_of(name, variables.get(name), settings.webhook(name))
    except Undelivered as error:
        addresses = [other for other, value in variables.items() if value.startswith(("https://", "http://"))]
        close = "" if name in variables else nearest(name, [*settings.webhooks, *addresses, *hidden])
        raise InvalidInput(f"on_end: the webhook {name!r} cannot be told: {error}.{close}") from None


def _check_command(program: str, project: Path) -> None:
    if find_command(program, project) is not None:
        return
    if "/" in program:
        where = project / program
        what = "may not be executed" if where.exists() else "does not exist"
        raise InvalidInput(f"on_end: the command {program!r} {what}; hooks run in {project}.")
    raise InvalidInput(
        f"on_end: the command {program!r} was not found on your PATH. Check its spelling, or give its full path."
        f"{nearest(program, _programs())}"
    )


def _programs() -> set[str]:
    """The names of what is on the PATH."""
    found: set[str] = set()
    for folder in os.get_exec_path():
        try:
            found.update(os.listdir(folder))  # noqa: PTH208 - names, not paths
        except OSError:
            continue  # a PATH may name folders that are not there, or not ours to read
    return found
