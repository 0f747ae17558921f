"""`metta job events` and `metta job watch-events`: what happened, and what happens."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from metta_jobs.cli.context import complete_group, console, print_json, reader
from metta_jobs.errors import nearest

if TYPE_CHECKING:
    from metta_jobs.manager import Reader
    from metta_jobs.views import EventView

Json = Annotated[bool, typer.Option("--json", help="Print JSON with stable keys.")]
LOOK_S = 0.1
PAGE = 1000


def register(app: typer.Typer) -> None:
    """Add these commands to `metta job`."""
    app.command(epilog="Example: `metta job events 14`")(events)
    app.command("watch-events", epilog="Example: `metta job watch-events my_group --json | my_program`")(watch_events)


def events(
    targets: Annotated[
        list[str], typer.Argument(metavar="GROUP|ID…", help="Groups or jobs.", autocompletion=complete_group)
    ],
    as_json: Json = False,
) -> None:
    """Show what happened to jobs, oldest first."""
    with reader() as opened:
        found = opened.events(targets)
    if as_json:
        print_json({"events": [event.to_dict() for event in found]})
        return
    from metta_jobs.display.job import render_events
    from metta_jobs.display.listing import show as show_table

    show_table(render_events(found, of_one_job=len({event.job_id for event in found}) == 1), console())


def watch_events(
    groups: Annotated[
        list[str] | None,
        typer.Argument(metavar="[GROUP…]", help="Only these groups.", autocompletion=complete_group),
    ] = None,
    after: Annotated[
        int | None, typer.Option(min=0, help="Begin after the event with this id (0: all there are); by default now.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line, with stable keys.")] = False,
) -> None:
    """Print each event as it happens, until Ctrl-C. Who was away goes on with --after and the last id it saw."""
    with reader() as opened:
        known = [group.name for group in opened.groups()] if groups else []
        for name in [name for name in groups or () if name not in known]:
            typer.echo(f"There is no group {name!r} yet: waiting for it.{nearest(name, known)}", err=True)
        for event in _follow(opened, opened.last_event() if after is None else after):
            if groups and event.group not in groups:
                continue
            typer.echo(json.dumps(event.to_dict()) if as_json else _line(event))


def _follow(opened: Reader, last: int) -> Iterator[EventView]:
    seen = None
    while True:
        version = opened.version()
        if version == seen:
            time.sleep(LOOK_S)
            continue
        found = opened.all_events(after=last, limit=PAGE)
        if len(found) < PAGE:
            seen = version
        for event in found:
            last = event.id
            yield event


def _line(event: EventView) -> str:
    whose = f"{event.group}/{event.name} ({event.job_id})" if event.job_id else event.group
    change = f"{event.from_state or ''} → {event.to_state}" if event.to_state and event.from_state else event.kind
    why = f": {event.reason}" if event.reason else ""
    return " ".join(f"{event.at:%Y-%m-%d %H:%M:%S}Z {whose} {change}{why}".split())
