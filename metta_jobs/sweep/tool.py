"""SweepTool: what a recipe's `sweep()` returns."""

from __future__ import annotations

import sys
from datetime import datetime
from pathlib import Path

from metta_jobs.display.watch import watch_group
from metta_jobs.job import JobConfig
from metta_jobs.manager import JobManager
from metta_jobs.store.sweeps import draft
from metta_jobs.store.words import SweepState
from metta_jobs.sweep.book import Book, Page
from metta_jobs.sweep.config import SweepConfig
from metta_jobs.sweep.launch import (
    LOOP_JOB,
    check,
    ensure_loop,
    local_gpus,
    loop_job,
    refuse_other_group,
    trial_jobs,
)
from metta_jobs.tool import Tool


class SweepTool(SweepConfig, Tool):
    """Search hyperparameters of a recipe's function: see SweepConfig for its fields.

    The sweep is a group of jobs: its loop, and a job a trial. It goes on when the terminal is closed, and the same
    command again comes back to it.
    """

    def name_origin(self, slug: str) -> None:
        """Note which recipe made the tool, and name the sweep after it when nobody has named it."""
        super().name_origin(slug)
        self.name = self.name or f"{slug}_{datetime.now().astimezone():%Y%m%d_%H%M%S}"

    def jobs(self, project: Path) -> list[JobConfig]:
        """The sweep's loop, and the jobs of its first trial, at the search centre; all is checked."""
        for note in check(self, project):
            sys.stderr.write(f"{note}\n")
        phase = self.schedule.phases[0] if self.schedule.phases else None
        space = self.section(phase).space()
        name = self._named()
        loop = loop_job(name, LOOP_JOB, project, self.secrets)
        return [loop, *trial_jobs(self, draft(space.decode(space.centre)), name, project, local_gpus(self, project))]

    def submit(self, manager: JobManager) -> Page:
        """Check and store the sweep, and start its loop; one of the same name and definition goes on.

        Raises AlreadyExists for another sweep or group of this name, UnknownName or InvalidInput; then nothing is
        stored.
        """
        name = self._named()
        configs = self.jobs(manager.project_dir)
        if self.remote:
            from metta_jobs.manager.preflight import preflight

            preflight(configs[1:2], manager.state_dir, manager.project_dir, skip_git_check=self.skip_git_check)
        refuse_other_group(manager, name)
        with Book(manager.state_dir) as book:
            page = book.register(name, self)
            if page.sweep.state in (SweepState.RUNNING, SweepState.VALIDATING):
                ensure_loop(manager, name, self)
        return page

    def run(self) -> int:
        """Submit, show live, and tell the best: 0 when there is one, 1 when not, 130 when left with Ctrl-C."""
        with JobManager() as manager:
            name = self.submit(manager).name
            return watch_sweep(manager, name)

    def _named(self) -> str:
        self.name = self.name or f"{self.target.replace('.', '_')}_sweep_{datetime.now().astimezone():%Y%m%d_%H%M%S}"
        return self.name


def watch_sweep(manager: JobManager, name: str) -> int:
    """Show the sweep's group until it has ended, then its best."""
    from rich.console import Console

    from metta_jobs.display.listing import show
    from metta_jobs.sweep.plan import ranking
    from metta_jobs.sweep.tables import render_best

    if watch_group(manager, name) == 130:
        return 130
    with Book(manager.state_dir) as book:
        page = book.page(name)
    console = Console(highlight=False)
    best = ranking(page.config, page.trials)
    if not best:
        console.print(f"{name} has no trial with a score. `metta sweep status {name}` says why.", markup=False)
        return 1
    show(render_best(page.config, best[:5]), console)
    return 0
