"""Lists on command lines, as people type them. Loaded by `metta` itself, so it stays light."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from typer.core import TyperCommand


class SpacedLists(TyperCommand):
    """Lets lists be typed as people do: `--job-ids 1 2 3` is `--job-ids 1 --job-ids 2 --job-ids 3`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Write each value's flag before it."""
        many = {name for option in self.params if getattr(option, "multiple", False) for name in option.opts}
        return super().parse_args(ctx, list(_spread(args, many)))


def _spread(arguments: list[str], many: set[str]) -> Iterator[str]:
    flag, waits = None, False
    for position, argument in enumerate(arguments):
        if argument == "--":
            yield from arguments[position:]
            return
        if argument.startswith("-") and not _number(argument):
            flag, waits = (argument if argument in many else None), True
        elif flag is not None and not waits:
            yield flag
        else:
            waits = False
        yield argument


def _number(text: str) -> bool:
    return text[1:].replace(".", "", 1).isdigit()
