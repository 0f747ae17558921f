"""Watching a group of the queue: the monitor, fed by the manager, and what is said when it ends."""

from __future__ import annotations

from rich.console import Console

from metta_jobs.display.monitor import MonitorEnd, monitor
from metta_jobs.display.snapshot import MonitorState
from metta_jobs.manager import JobManager
from metta_jobs.states import JobState


def watch_group(manager: JobManager, group: str, *, refresh: float = 2.0, logs: bool = True, once: bool = False) -> int:
    """Show the group until it has ended; return 0 when all its jobs succeeded, 1 when not, 130 after Ctrl-C.

    A look with `once` at jobs that go on returns 0. The notebook's job counts only for the notebook.
    """
    console = Console(highlight=False)
    end = monitor(lambda: _state(manager, group), refresh=refresh, logs=logs, once=once, console=console)
    if end is MonitorEnd.INTERRUPTED:
        console.print(
            f"\nThe jobs go on. Come back with `metta job monitor {group}`, end them with `metta job kill {group}`.",
            markup=False,
            soft_wrap=True,
        )
        return 130
    if end is MonitorEnd.SHOWN:
        return 0
    jobs = manager.group(group).jobs
    if once:
        return 0
    unsuccessful = [job for job in jobs if job.state is not JobState.SUCCEEDED]
    if unsuccessful:
        first = unsuccessful[0]
        console.print(
            f"{len(unsuccessful)} of {len(jobs)} jobs did not succeed. See `metta job logs {first.id}`; try again with "
            f"`metta job retry {group} --failed`.",
            markup=False,
            soft_wrap=True,
        )
    return 1 if unsuccessful else 0


def _state(manager: JobManager, group: str) -> MonitorState:
    view = manager.group(group)
    return MonitorState(view, manager.warning(not view.finished))
