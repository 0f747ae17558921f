"""The sections that a notebook can have."""

from __future__ import annotations

from collections.abc import Iterable

from metta_jobs.errors import UnknownName, nearest

#: In the order in which they stand.
SECTIONS = ("setup", "state", "launch", "monitor", "analysis", "replays", "log", "scratch", "export")
#: Those that a notebook has when nobody chooses.
DEFAULT_SECTIONS = ("setup", "state", "analysis", "replays", "log", "scratch")


def choose_sections(names: Iterable[str] = ()) -> tuple[str, ...]:
    """Return the named sections in their order, the default ones where none is named; setup is always among them.

    Names may be joined by commas. Raises UnknownName.
    """
    wanted = [part.strip().lower() for name in names for part in name.split(",") if part.strip()]
    for name in wanted:
        if name not in SECTIONS:
            raise UnknownName(
                f"A notebook has no section {name!r}.{nearest(name, SECTIONS)} There are: {', '.join(SECTIONS)}."
            )
    chosen = {"setup", *(wanted or DEFAULT_SECTIONS)}
    return tuple(name for name in SECTIONS if name in chosen)
