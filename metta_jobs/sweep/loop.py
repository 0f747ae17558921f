"""The loop of a sweep: collect what has ended, ask for what there is room for, submit what has no job yet.

Each step begins from what is stored, so it does not matter where the loop before was killed: a trial is stored before
its jobs are, its jobs are found again by name, and its end is recorded once.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import suppress

from metta_jobs.display.format import number
from metta_jobs.errors import AlreadyExists, UnknownName
from metta_jobs.manager import JobManager
from metta_jobs.store.sweeps import TrialRow
from metta_jobs.store.words import Origin, SweepState, TrialState
from metta_jobs.sweep import plan
from metta_jobs.sweep.book import ENDED, Book, Page
from metta_jobs.sweep.halving import to_stop
from metta_jobs.sweep.launch import local_gpus, trial_jobs, validation_seeds
from metta_jobs.sweep.score import ending
from metta_jobs.views import JobView

#: Seconds between looks at whether anything has changed, and steps when nothing has.
LOOK_S, STEP_S = 0.2, 5.0


class Loop:
    """The loop of the sweep `name`; `say` gets a line for people whenever something happens."""

    def __init__(self, manager: JobManager, book: Book, name: str, say: Callable[[str], None]) -> None:
        self._manager = manager
        self._book = book
        self._name = name
        self._say = say
        page = book.page(name)
        self._gpus = local_gpus(page.config, manager.project_dir)
        self._phase: str | None = None

    def run(self) -> int:
        """Go on until nothing is left to do; return 0."""
        while True:
            version = self._manager.version()
            if not self.step():
                return 0
            until = time.monotonic() + STEP_S
            while time.monotonic() < until and self._manager.version() == version:
                time.sleep(LOOK_S)

    def step(self) -> bool:
        """One round; False when nothing is left to do."""
        jobs = self._jobs()
        page = self._book.page(self._name)
        self._submit(page, jobs)  # what was stored, and killed before it was submitted
        self._collect(page, jobs)
        self._stop_early(page, jobs)
        self._ask(jobs)
        page = self._book.page(self._name)
        self._validate(page)
        self._submit(self._book.page(self._name), self._jobs())
        page = self._book.page(self._name)
        return page.sweep.state not in ENDED or bool(plan.open_trials(page.trials))

    def _jobs(self) -> dict[str, JobView]:
        try:
            return {job.name: job for job in self._manager.group(self._name).jobs}
        except UnknownName:
            return {}

    def _submit(self, page: Page, jobs: Mapping[str, JobView]) -> None:
        for trial in plan.open_trials(page.trials):
            if trial.job in jobs:
                continue
            configs = trial_jobs(page.config, trial, self._name, self._manager.project_dir, self._gpus)
            with suppress(AlreadyExists):  # another loop was first
                self._manager.submit(configs, group=self._name)

    def _collect(self, page: Page, jobs: Mapping[str, JobView]) -> None:
        pairs = [
            (trial, jobs[trial.job], jobs.get(f"{trial.job}.eval"))
            for trial in plan.open_trials(page.trials)
            if trial.job is not None and trial.job in jobs
        ]
        over = [job.id for _, *both in pairs for job in both if job is not None and job.state.terminal]
        ran = self._book.seconds_of(over) if over else {}
        for trial, training, evaluation in pairs:
            end = ending(page.config, trial, training, evaluation, ran)
            if end is not None and self._book.tell(trial, end):
                said = f"{trial.job}: {end.state.value}"
                said += f", {page.config.sweep.metric} {number(end.score)}" if end.score is not None else ""
                said += f", cost {number(end.cost)}" if end.cost is not None else ""
                self._say(said + (f" ({end.reason})" if end.reason else ""))

    def _stop_early(self, page: Page, jobs: Mapping[str, JobView]) -> None:
        if page.config.settings.early_stopping is None:
            return
        for trial, why in to_stop(page.config, page.trials, jobs).items():
            found = next(one for one in page.trials if one.number == trial)
            if self._book.note(found, why):
                self._say(f"{found.job} is stopped early: {why}")
        for one in plan.open_trials(self._book.page(self._name).trials):  # also where we were killed between the two
            job = jobs.get(one.job or "")
            if one.reason is not None and job is not None and not job.state.terminal and not job.kill_requested:
                self._manager.kill([job.id])

    def _ask(self, jobs: Mapping[str, JobView]) -> None:
        while True:
            page = self._book.page(self._name)
            elapsed = {
                trial.number: job.duration_s or 0.0
                for trial in plan.open_trials(page.trials)
                if (job := jobs.get(trial.job or "")) is not None
            }
            found = self._book.ask(self._name, elapsed)
            if found is None:
                return
            if isinstance(found, str):
                self._end(page, found)
                return
            self._tell_of(found, page)

    def _tell_of(self, trial: TrialRow, page: Page) -> None:
        if trial.phase != self._phase and trial.phase is not None:
            self._phase = trial.phase
            self._say(f"Phase {trial.phase!r}, after {len(plan.completed(page.trials))} completed runs")
        why = (trial.suggestion or {}).get("why", "")
        settings = " ".join(f"{path}={shown(value)}" for path, value in trial.params.items())
        self._say(f"{trial.job}: {settings} — {why}")

    def _end(self, page: Page, why: str) -> None:
        scored = any(trial.state is TrialState.FINISHED for trial in page.trials)
        failing = plan.is_failing(page.config, page.sweep, page.trials)
        again = page.config.validate is not None and scored and not failing
        to = SweepState.VALIDATING if again else SweepState.ENDED
        if self._book.move(page, [SweepState.RUNNING], to, why, unchanged=True):
            self._say(f"No more trials: {why}." + (" The best are run again." if again else ""))

    def _validate(self, page: Page) -> None:
        if page.sweep.state is not SweepState.VALIDATING or plan.open_trials(page.trials):
            return
        since = page.sweep.resumed_at
        if not any(t.origin is Origin.VALIDATION and t.created_at >= since for t in page.trials):
            seeds = validation_seeds(page.config, self._manager.project_dir)
            if not self._book.add_validation(page, seeds) or plan.open_trials(self._book.page(self._name).trials):
                return
            page = self._book.page(self._name)
        self._book.move(page, [SweepState.VALIDATING], SweepState.ENDED, page.sweep.reason, unchanged=True)


def shown(value: object) -> str:
    """A parameter's value as people read it."""
    return f"{value:.4g}" if isinstance(value, float) else str(value)
