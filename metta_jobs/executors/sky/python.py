"""Which interpreter has SkyPilot, told without importing sky: that takes 5 s."""

from __future__ import annotations

import importlib.util
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

from metta_jobs.errors import MettaError, MissingExtra

REMEDY = 'Install SkyPilot with `uv tool install "skypilot[kubernetes]"`, or this package\'s extra `skypilot`.'
#: For `python -I -c`: prints the version (nothing where the package does not tell), or ends with 3 without the package.
_TELL_VERSION = """
import importlib.metadata as metadata, importlib.util, sys
spec = importlib.util.find_spec("sky")
if spec is None or spec.origin is None:
    sys.exit(3)
for name in ("skypilot", "skypilot-nightly"):
    try:
        print(metadata.version(name))
        break
    except metadata.PackageNotFoundError:
        pass
"""


def find_python(setting: str | None = None) -> str:
    """The interpreter that has SkyPilot: the setting `sky_python`, else ours, else the one behind `sky` on PATH.

    Raises MettaError with a remedy when there is none: MissingExtra when SkyPilot is simply not installed.
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
        raise MissingExtra(f"SkyPilot is not installed. {REMEDY} To run on this machine, say remote=false.")
    found = _behind(Path(command))
    if found is None:
        raise MettaError(f"It cannot be told which Python {command} uses: name it by the setting sky_python.")
    return found


def installed_version(python: str, timeout_s: float = 20) -> str | None:
    """The version of the SkyPilot that this interpreter has, None when its package does not tell; takes 0.1 s.

    Raises MettaError when it has none, or cannot be asked.
    """
    try:
        asked = subprocess.run(
            [python, "-I", "-c", _TELL_VERSION],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=timeout_s,
            cwd="/",
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise MettaError(f"{python} did not start within {timeout_s:.0f} s.") from None
    except OSError as error:
        raise MettaError(f"{python} cannot be run: {error.strerror}.") from error
    if asked.returncode == 3:
        raise MettaError(f"{python} has no SkyPilot.")
    if asked.returncode != 0:
        last = (asked.stderr.strip().splitlines() or [f"exit code {asked.returncode}"])[-1]
        raise MettaError(f"{python} cannot say whether it has SkyPilot: {last.rstrip('.')}.")
    return asked.stdout.strip() or None


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
