"""Watching a group of the queue: the monitor, fed by the manager, and what is said when it ends."""

from __future__ import annotations

from rich.console import Console

from metta_jobs.display.format import counted
from metta_jobs.display.monitor import MonitorEnd, monitor
from metta_jobs.display.snapshot import MonitorState
from metta_jobs.display.targets import shown_target
from metta_jobs.manager import JobManager
from metta_jobs.metrics.artifacts import find_artifacts
from metta_jobs.paths import PROGRAM
from metta_jobs.states import FAILURES, JobState


def watch_group(manager: JobManager, group: str, *, refresh: float = 2.0, logs: bool = True, once: bool = False) -> int:
    """Show the group until it has ended; return 0 when all its jobs succeeded, 1 when not, 130 after Ctrl-C.

    A look with `once` at jobs that go on returns 0. The notebook's job counts only for the notebook.
    """
    console = Console(highlight=False)
    end = monitor(lambda: _state(manager, group), refresh=refresh, logs=logs, once=once, console=console)
    if end is MonitorEnd.INTERRUPTED:
        console.print(
            f"\nThe jobs go on. Come back with `{PROGRAM} job monitor {group}`, end them with "
            f"`{PROGRAM} job kill {group}`.",
            markup=False,
            soft_wrap=True,
        )
        return 130
    if end is MonitorEnd.SHOWN:
        return 0
    jobs = manager.group(group).jobs
    if once:
        return 0
    for job in jobs:
        if job.kind == "notebook" and job.state is JobState.SUCCEEDED and job.folder:
            notebooks = [item for item in find_artifacts(job.folder) if item.kind == "notebook"]
            for notebook in notebooks:
                console.print(f"Notebook: {shown_target(notebook)}", markup=False, soft_wrap=True)
    unsuccessful = [job for job in jobs if job.unsuccessful]
    if unsuccessful:
        telling = [job for job in unsuccessful if job.state in FAILURES] or unsuccessful
        console.print(
            f"{len(unsuccessful)} of {counted(len(jobs), 'job')} did not succeed. See `{PROGRAM} job show "
            f"{telling[0].id}`; try again with "
            f"`{PROGRAM} job retry {group} --failed`.",
            markup=False,
            soft_wrap=True,
        )
    return 1 if unsuccessful else 0


def _state(manager: JobManager, group: str) -> MonitorState:
    view = manager.group(group)
    return MonitorState(view, manager.warning(not view.finished, view.elsewhere))
