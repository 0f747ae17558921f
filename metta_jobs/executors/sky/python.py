"""Which interpreter has SkyPilot. Looks at files only: to import sky takes 5 s."""

from __future__ import annotations

import importlib.util
import os
import re
import shlex
import shutil
import sys
from pathlib import Path

from metta_jobs.errors import MettaError

REMEDY = 'Install SkyPilot with `uv tool install "skypilot[kubernetes]"`, or this package\'s extra `skypilot`.'


def find_python(setting: str | None = None) -> str:
    """The interpreter that has SkyPilot: the setting `sky_python`, else ours, else the one behind `sky` on PATH.

    Raises MettaError with a remedy when there is none.
    """
    if setting:
        found = shutil.which(str(Path(setting).expanduser()))
        if found is None:
            raise MettaError(
                f"The setting sky_python names {setting}, which cannot be run: name a Python that has sky."
            )
        return str(Path(found).absolute())
    # A package has a file of its own; a folder that happens to be called sky has none.
    spec = importlib.util.find_spec("sky")
    if spec is not None and spec.origin is not None:
        return sys.executable
    command = shutil.which("sky")
    if command is None:
        raise MettaError(f"SkyPilot is not installed. {REMEDY} To run on this machine, say remote=false.")
    found = _behind(Path(command))
    if found is None:
        raise MettaError(f"It cannot be told which Python {command} uses: name it by the setting sky_python.")
    return found


def _behind(command: Path) -> str | None:
    """The interpreter that a console script runs with; None when it is no such script."""
    try:
        with command.open("rb") as file:
            head = file.read(4096).decode("utf-8", "replace").splitlines()
    except OSError:
        return None
    if not head or not head[0].startswith("#!"):
        return None
    words = _split(head[0][2:])
    if words and Path(words[0]).name == "env":
        names = [word for word in words[1:] if not word.startswith("-") and "=" not in word]
        return shutil.which(names[0]) if names else None
    if words and Path(words[0]).name in ("sh", "bash", "dash"):
        return _executed(head[1:], command)
    return _usable(head[0][2:].strip()) or (_usable(words[0]) if words else None)


def _executed(lines: list[str], command: Path) -> str | None:
    """The interpreter of `'''exec' "/long path/python" "$0" "$@"`, by which pip and uv get around the limit of the
    kernel, or of uv's relocatable form, which names it beside the script."""
    for line in lines[:5]:
        if found := re.match(r"\s*(?:'''exec'|exec|\"\"\"exec\")\s+(.*)", line):
            words = _split(found.group(1).replace('$(dirname -- "$(realpath -- "$0")")', str(command.resolve().parent)))
            return _usable(words[0]) if words else None
    return None


def _split(text: str) -> list[str]:
    try:
        return shlex.split(text)
    except ValueError:  # quotes that are not closed
        return text.split()


def _usable(path: str) -> str | None:
    return path if Path(path).is_absolute() and os.access(path, os.X_OK) else None
