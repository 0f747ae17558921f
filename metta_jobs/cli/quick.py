"""`metta job list` and `metta job show`, which people type all day, without the command-line library.

Importing that takes as long as everything else that these two do. What is not plainly one of them (--help, an option
that is not known here, a mistake) goes the ordinary way; a test holds both against each other.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path

_FLAGS = {"list": {"--json", "--all"}, "show": {"--json"}}
_VALUES = {"list": {"--state"}, "show": set[str]()}


def quick(arguments: Sequence[str]) -> Callable[[], None] | None:
    """What to do for these arguments; None when they should go the ordinary way."""
    if any(name.startswith(("_METTA_COMPLETE", "_TYPER_COMPLETE")) for name in os.environ):
        return None
    words = [*arguments]
    state_dir = os.environ.get("METTA_JOB_STATE") or None
    if words[:1] == ["--state-dir"] and len(words) > 1:
        state_dir, words = words[1], words[2:]
    if len(words) < 2 or words[0] != "job" or words[1] not in _FLAGS:
        return None
    command, words = words[1], words[2:]
    flags: set[str] = set()
    values: dict[str, str] = {}
    names: list[str] = []
    while words:
        word = words.pop(0)
        if word in _FLAGS[command]:
            flags.add(word)
        elif word in _VALUES[command] and words:
            values[word] = words.pop(0)
        elif word.startswith("-"):
            return None
        else:
            names.append(word)
    if len(names) > 1 or (command == "show" and not names):
        return None

    def act() -> None:
        from metta_jobs.cli import looking
        from metta_jobs.cli.context import STATE

        STATE.state_dir = Path(state_dir) if state_dir is not None else None
        if command == "list":
            looking.list_jobs(names[0] if names else None, values.get("--state"), "--all" in flags, "--json" in flags)
        else:
            looking.show_job(names[0], "--json" in flags)

    return act
