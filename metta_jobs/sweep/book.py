"""The book of sweeps: register, ask, tell. Everything that a sweep remembers goes through here, and only here."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Self

from metta_jobs.clock import SystemClock
from metta_jobs.errors import InvalidInput, UnknownName, nearest
from metta_jobs.paths import StateDir
from metta_jobs.store import sweeps
from metta_jobs.store.engine import Store
from metta_jobs.store.sweeps import Ending, NewTrial, SweepRow, TrialRow
from metta_jobs.store.words import Origin, SweepState, TrialState
from metta_jobs.sweep import plan
from metta_jobs.sweep.config import SweepConfig, load

ENDED = (SweepState.ENDED, SweepState.STOPPED)
#: A change is worked out again so often when somebody else has changed the sweep meanwhile.
PATIENCE = 100


@dataclass(frozen=True)
class Page:
    """A sweep with its trials, as they were at one moment."""

    sweep: SweepRow
    config: SweepConfig
    trials: list[TrialRow]

    @property
    def name(self) -> str:
        return self.sweep.name


class Book:
    """The sweeps of one state folder. Any number of processes may have it open; an instance belongs to one thread."""

    def __init__(self, state_dir: Path) -> None:
        self._store = Store(StateDir(state_dir).database)
        self._clock = SystemClock()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the database."""
        self._store.close()

    def now(self) -> datetime:
        """The moment, in UTC."""
        return self._clock.now()

    # ------------------------------------------------------------------------------------------------ looking

    def names(self) -> list[str]:
        """The names of all sweeps, oldest first."""
        with self._store.read() as connection:
            return [sweep.name for sweep in sweeps.all_sweeps(connection)]

    def pages(self) -> list[Page]:
        """All sweeps, oldest first."""
        with self._store.read() as connection:
            return [
                Page(sweep, load(sweep.definition), sweeps.trials_of(connection, sweep.id))
                for sweep in sweeps.all_sweeps(connection)
            ]

    def page(self, name: str) -> Page:
        """One sweep. Raises UnknownName."""
        with self._store.read() as connection:
            sweep = sweeps.find(connection, name)
            if sweep is None:
                known = [one.name for one in sweeps.all_sweeps(connection)]
                hint = nearest(name, known) or (" `metta sweep list` shows those there are." if known else "")
                raise UnknownName(f"There is no sweep {name!r}.{hint}")
            return Page(sweep, load(sweep.definition), sweeps.trials_of(connection, sweep.id))

    def seconds_of(self, job_ids: Sequence[int]) -> dict[int, float]:
        """Job → seconds that its attempts ran, together."""
        with self._store.read() as connection:
            return sweeps.seconds_of(connection, job_ids)

    # ------------------------------------------------------------------------------------------------ the sweep

    def register(self, name: str, config: SweepConfig) -> Page:
        """Store a new sweep; one of this name that is just the same is returned as it is. Raises AlreadyExists."""
        definition = config.definition()
        with self._store.write() as connection:
            found = sweeps.find(connection, name)
            if found is None or found.definition != definition:
                sweeps.create(connection, self.now(), name, definition)
        return self.page(name)

    def redefine(self, name: str, config: SweepConfig, *, again: bool) -> Page:
        """Give a sweep another definition; with `again` it goes on, where it had ended."""
        for _ in range(PATIENCE):
            page = self.page(name)
            with self._store.write() as connection:
                if sweeps.redefine(connection, page.sweep, config.definition()):
                    if again:
                        sweeps.move(connection, self.now(), page.sweep.id, ENDED, SweepState.RUNNING, None)
                    break
        else:
            raise InvalidInput(f"The sweep {name} changes all the time: try again.")
        return self.page(name)

    def move(
        self,
        page: Page,
        origins: Collection[SweepState],
        to: SweepState,
        reason: str | None,
        *,
        unchanged: bool = False,
    ) -> bool:
        """Give the sweep another state; False when it is in none of `origins` (any more), or, with `unchanged`, when
        anything has changed since the page was read: an end that was worked out from it may be none any more."""
        with self._store.write() as connection:
            if unchanged and not sweeps.claim(connection, page.sweep):
                return False
            return sweeps.move(connection, self.now(), page.sweep.id, list(origins), to, reason)

    def pause(self, name: str, *, paused: bool) -> bool:
        """Ask for no more trials, or ask again; False when it was so already. Raises UnknownName."""
        page = self.page(name)
        with self._store.write() as connection:
            return sweeps.pause(connection, self.now(), page.sweep.id, paused=paused)

    # ------------------------------------------------------------------------------------------------ ask and tell

    def ask(self, name: str, elapsed: Mapping[int, float] | None = None) -> TrialRow | str | None:
        """Suggest a trial and store it, as one: the trial, None where there is no room for one now, or why there will
        never be another.

        The suggestion is made from the trials as they were read, and stored only if nothing has changed since, so that
        no lock is held while a model is fitted, and two who ask never get the same.
        """
        for _ in range(PATIENCE):
            page = self.page(name)
            now = self.now()
            if page.sweep.state is not SweepState.RUNNING or page.sweep.paused_at is not None:
                return None
            if (why := plan.verdict(page.config, page.sweep, page.trials, now)) is not None:
                return why
            if not plan.room(page.config, page.sweep, page.trials, now, elapsed):
                return None
            from metta_jobs.sweep.search import suggest  # the optimiser's libraries are heavy

            phase = plan.phase_of(page.config, page.trials)
            most = plan.most_cost(page.config, page.sweep, page.trials, now)
            found = suggest(page.config, phase, page.trials, most)
            if found is None:
                return None if plan.open_trials(page.trials) else "every point of the space has been tried"
            new = NewTrial(found[0], Origin.SUGGESTED, phase.name if phase else None, found[1])
            if numbers := self._add(page, [new]):
                return self.trial(name, numbers[0])
        raise InvalidInput(f"The sweep {name} changes all the time: try again.")

    def trial(self, name: str, number: int) -> TrialRow:
        """One trial. Raises UnknownName."""
        found = next((trial for trial in self.page(name).trials if trial.number == number), None)
        if found is None:
            raise UnknownName(f"The sweep {name} has no trial {number}.")
        return found

    def tell(self, trial: TrialRow, ending: Ending) -> bool:
        """Record how a trial has ended; False when that was recorded before, and stays as it is."""
        with self._store.write() as connection:
            return sweeps.end(connection, self.now(), trial.id, ending)

    def note(self, trial: TrialRow, reason: str) -> bool:
        """Say why an open trial is about to be stopped early; False when that was said before."""
        with self._store.write() as connection:
            return sweeps.note(connection, trial.id, reason)

    def add(self, name: str, observations: Sequence[NewTrial]) -> list[int]:
        """Store trials that somebody else has run; return the numbers of those that were not there yet."""
        page = self.page(name)
        with self._store.write() as connection:
            numbers = sweeps.add(connection, self.now(), page.sweep.id, observations)
            row = sweeps.find(connection, name)
            if numbers and row is not None:
                sweeps.claim(connection, row)
        return numbers

    def add_validation(self, page: Page, seeds: Sequence[int]) -> bool:
        """Store the re-runs of the best trials, once; False when anything has changed since the page was read."""
        assert page.config.validate is not None
        best = [one for one in plan.ranking(page.config, page.trials, imported=False) if not one.validated]
        before = {trial.job for trial in page.trials}
        new = []
        for rank, one in enumerate(best[: page.config.validate.top], 1):
            for seed in seeds:
                name, again = f"best{rank}.s{seed}", 1
                while name in before:  # the sweep was extended after an earlier round
                    again += 1
                    name = f"best{rank}.s{seed}-{again}"
                new.append(
                    NewTrial(one.trial.params, Origin.VALIDATION, of_trial=one.trial.number, seed=seed, job=name)
                )
        return self._add(page, new) is not None

    def _add(self, page: Page, new: Sequence[NewTrial]) -> list[int] | None:
        """The numbers of trials that are stored now, None when anything has changed since the page was read."""
        with self._store.write() as connection:
            if not sweeps.claim(connection, page.sweep):
                return None
            return sweeps.add(connection, self.now(), page.sweep.id, new)


def observed(
    params: Mapping[str, Any],
    score: float | None,
    *,
    cost: float | None = None,
    failed: bool = False,
    origin: Origin = Origin.TOLD,
    source: str | None = None,
) -> NewTrial:
    """An observation as it is stored."""
    if failed or score is None:
        ended = Ending(TrialState.FAILED, None, cost, reason="it was told as failed")
    else:
        ended = Ending(TrialState.FINISHED, score, cost)
    return NewTrial(params, origin, source=source, ended=ended)


__all__ = ["Book", "Page", "observed"]
