"""One frame of the live monitor, from asking the store to the text that the terminal gets."""

from __future__ import annotations

import importlib.util
import io
import os
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path

from rich.console import Console

from benchmarks import history
from benchmarks.bed import Bed, bed, noops, until
from benchmarks.figures import Figure, Must
from metta_jobs import JobConfig
from metta_jobs.clock import SystemClock
from metta_jobs.display.frame import render_monitor
from metta_jobs.display.snapshot import MonitorState
from metta_jobs.display.source import Source

WIDTH, HEIGHT = 120, 50
JOBS, FINISHED, RUNNING = 1_000, 700, 12
GROUP = "screen"
LOGGED_ROWS = 400


def measure(quick: bool) -> list[Figure]:
    """A group of 1,000 jobs: most have ended, some run and log, the others wait."""
    with bed(cpus=RUNNING) as place:
        runs = _fill(place)
        frames = _frames(place, runs, 12 if quick else 60)
    first, *others = frames
    metrics = "logs and metrics" if runs[0].metrics else "logs; without metrics, for wandb is not installed"
    return [
        Figure(
            "monitor.redraw",
            f"monitor redraw, {JOBS:,} jobs in the group",
            statistics.median(others),
            "ms",
            Must("<", 50),
            f"{WIDTH}×{HEIGHT}, {RUNNING} run with {metrics}; the first frame {first:.0f} ms",
            {"ms": others, "first_ms": first},
        )
    ]


class _Run:
    """A running job as the monitor sees it: before each frame its files grow, as a training lets them."""

    def __init__(self, folder: Path, logged: bytes | None, place: Path | None) -> None:
        self.metrics = logged is not None
        self._log = folder / "output.log"
        self._rest = memoryview(logged or b"")
        self._wandb = folder / place if place else None
        if self._wandb:
            self._wandb.parent.mkdir(parents=True)
            self._wandb.write_bytes(self._take(len(self._rest) // 2))

    def _take(self, count: int) -> memoryview:
        taken, self._rest = self._rest[:count], self._rest[count:]
        return taken

    def goes_on(self, frame: int) -> None:
        """Log a little more."""
        with self._log.open("a") as file:
            file.write(f"step {frame * 1000} loss 0.0123 entropy 1.204\n")
        if self._wandb:
            with self._wandb.open("ab") as file:
                file.write(self._take(300))


def _fill(place: Bed) -> list[_Run]:
    """Make the group, and return its running jobs."""
    place.run(noops(1), GROUP)
    history.fill(place.database, FINISHED - 1, per_group=None)
    speak = ("sh", "-c", "seq -f 'update %g of the policy, all is well' 200; exec sleep 1000")
    waiting = JOBS - FINISHED
    place.manager.submit([JobConfig(name=f"run{n}", command=speak) for n in range(waiting)], group=GROUP)
    until(lambda: place.manager.group(GROUP).counts.running == RUNNING, "the jobs that run")
    data, where = logged(place.root.parent / "logged")
    folders = [job.folder for job in place.manager.group(GROUP).jobs if job.state.live and job.folder]
    until(lambda: all((folder / "output.log").exists() for folder in folders), "the logs of the jobs that run")
    return [_Run(folder, data, where) for folder in folders]


def logged(folder: Path) -> tuple[bytes | None, Path | None]:
    """What a real run leaves, and where in its folder; nothing where wandb is not installed."""
    if importlib.util.find_spec("wandb") is None:
        return None, None
    folder.mkdir()
    program = Path(__file__).with_name("logged_run.py")
    environment = {**os.environ, "WANDB_X_DISABLE_STATS": "true", "WANDB_CONSOLE": "off"}
    command = [sys.executable, str(program), str(folder), str(LOGGED_ROWS)]
    subprocess.run(command, check=True, capture_output=True, env=environment, cwd=folder)
    (path,) = folder.glob("wandb/*run-*/run-*.wandb")
    found = path.read_bytes(), path.relative_to(folder)
    shutil.rmtree(folder)
    return found


def _frames(place: Bed, runs: list[_Run], count: int) -> list[float]:
    """Milliseconds of each of so many frames."""
    manager, taken = place.manager, []

    def fetch() -> MonitorState:
        view = manager.group(GROUP)
        return MonitorState(view, manager.warning(not view.finished))

    source = Source(fetch, SystemClock(), logs=True)
    for frame in range(count):
        for run in runs:
            run.goes_on(frame)
        screen = io.StringIO()
        began = time.perf_counter()
        console = Console(file=screen, width=WIDTH, height=HEIGHT, force_terminal=True, color_system="256")
        console.print(render_monitor(source.snapshot(HEIGHT), WIDTH, HEIGHT, fill=True))
        taken.append(1000 * (time.perf_counter() - began))
        if GROUP not in screen.getvalue():
            raise RuntimeError("the frame does not name its group")
    return taken
