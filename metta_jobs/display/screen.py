"""The live monitor on a terminal: a frame on the alternate screen, redrawn in place."""

from __future__ import annotations

import signal
import time

from rich.console import Console, ConsoleOptions, RenderResult
from rich.live import Live

from metta_jobs.display.frame import FOOTER, render_monitor
from metta_jobs.display.snapshot import Snapshot
from metta_jobs.display.source import Source
from metta_jobs.display.terminal import Terminal, uninterrupted

# The prompt and the words of the caller come below the last frame.
_LINES_BELOW = 3


class _View:
    """The newest snapshot, drawn at whatever size the terminal has at that moment."""

    def __init__(self, snapshot: Snapshot) -> None:
        self.snapshot = snapshot

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        footer = "" if self.snapshot.group.finished else FOOTER
        yield render_monitor(self.snapshot, options.size.width, options.size.height, footer=footer, fill=True)


def watch(source: Source, console: Console, refresh: float) -> None:
    """Show the group until it is finished. The last frame stays on the screen, also after Ctrl-C.

    Raises KeyboardInterrupt on Ctrl-C and SIGTERM, with the terminal as it was.
    """
    view = _View(source.snapshot(console.height))
    live = Live(view, console=console, screen=True, auto_refresh=False, redirect_stdout=False, redirect_stderr=False)
    with Terminal() as terminal:
        try:
            _start(live)
            while not view.snapshot.group.finished:
                _wait(live, terminal, refresh)
                view.snapshot = source.snapshot(console.height)
                live.refresh()
        finally:
            with uninterrupted():
                live.stop()
                show_once(view.snapshot, console)


def show_once(snapshot: Snapshot, console: Console) -> None:
    """Print one frame: within the screen on a terminal, of any length elsewhere."""
    height = max(1, console.height - _LINES_BELOW) if console.is_terminal else len(snapshot.group.jobs) * 16 + 16
    console.print(render_monitor(snapshot, console.width, height, footer=None))


def _start(live: Live) -> None:
    with uninterrupted():
        live.start(refresh=True)


def _wait(live: Live, terminal: Terminal, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while (left := deadline - time.monotonic()) > 0:
        woken = terminal.wait(left)
        if signal.SIGTSTP in woken:
            with uninterrupted():
                live.stop()
            terminal.suspend()
            _start(live)
        elif signal.SIGWINCH in woken:
            live.refresh()
