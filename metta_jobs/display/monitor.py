"""The live monitor of a group: a reader, it never changes anything."""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum

from rich.console import Console

from metta_jobs.clock import Clock, SystemClock
from metta_jobs.display.screen import show_once, watch
from metta_jobs.display.snapshot import MonitorState
from metta_jobs.display.source import Source
from metta_jobs.display.stream import follow


class MonitorEnd(StrEnum):
    """How the monitor ended."""

    FINISHED = "finished"  # every job has ended
    INTERRUPTED = "interrupted"  # Ctrl-C or SIGTERM; the jobs go on
    SHOWN = "shown"  # one frame was asked for, and the jobs go on


def monitor(
    fetch: Callable[[], MonitorState],
    *,
    refresh: float = 2.0,
    logs: bool = True,
    once: bool = False,
    console: Console | None = None,
    clock: Clock | None = None,
) -> MonitorEnd:
    """Show a group until all its jobs have ended, or Ctrl-C.

    `fetch` is called every `refresh` seconds; when it raises a MettaError, the message shows as a banner above the last
    known state (the first call's error is the caller's). `logs` shows the ends of the jobs' logs. `once` prints one
    frame. On a terminal the frame is redrawn in place and its last state stays on the screen; elsewhere there is one
    line per change.
    """
    console = console or Console(highlight=False)
    clock = clock or SystemClock()
    source = Source(fetch, clock, logs)
    on_screen = console.is_terminal and not console.is_dumb_terminal
    try:
        if once:
            snapshot = source.snapshot(console.height if on_screen else 1_000)
            show_once(snapshot, console)
            return MonitorEnd.FINISHED if snapshot.group.finished else MonitorEnd.SHOWN
        if on_screen:
            watch(source, console, refresh)
        else:
            follow(source, console, refresh, clock)
    except KeyboardInterrupt:
        return MonitorEnd.INTERRUPTED
    return MonitorEnd.FINISHED
