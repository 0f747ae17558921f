"""From a sweep's trials to its next suggestion: the one door to the optimiser."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from metta_jobs.errors import InvalidInput
from metta_jobs.optimizer.space import Space
from metta_jobs.store.sweeps import TrialRow
from metta_jobs.store.words import Origin, TrialState
from metta_jobs.sweep.config import Phase, SweepConfig

if TYPE_CHECKING:
    from metta_jobs.optimizer.advisor import Optimizer

_TOLD = frozenset({TrialState.FINISHED, TrialState.STOPPED, TrialState.FAILED})


def suggest(
    config: SweepConfig, phase: Phase | None, trials: Sequence[TrialRow], most_cost: float | None
) -> tuple[dict[str, Any], dict[str, Any]] | None:
    """The next point's parameters, and why that one; None when there is none left to try.

    Nothing is suggested that is expected to cost more than `most_cost`, where that is known.
    """
    optimizer = advisor(config, phase, trials, most_cost)
    found = optimizer.ask(1)
    if not found:
        return None
    said = asdict(found[0])
    params = dict(said.pop("params"))
    said.pop("x")
    return params, said


def advisor(
    config: SweepConfig, phase: Phase | None, trials: Sequence[TrialRow], most_cost: float | None = None
) -> Optimizer:
    """The optimiser as it stands after these trials: made anew each time, so that nothing is lost with a process."""
    from metta_jobs.optimizer.advisor import Optimizer

    section = config.section(phase)
    limits = [limit for limit in (section.protein.max_suggestion_cost, most_cost) if limit is not None]
    settings = section.optimizer_settings(max_suggestion_cost=min(limits) if limits else None)
    space = section.space()
    pending = [legal for trial in trials if trial.state is TrialState.OPEN and (legal := fitted(space, trial.params))]
    asked = sum(trial.origin is Origin.SUGGESTED for trial in trials)
    # A sampler of Optuna draws from a state that a new process does not have: another seed for each suggestion.
    seed = section.seed + (asked if section.method.startswith("optuna:") else 0)
    optimizer = Optimizer(space, settings, seed, pending=pending, asked=asked)
    ended = [trial for trial in trials if trial.state in _TOLD]
    for trial in sorted(ended, key=lambda one: (one.finished_at or one.created_at, one.number)):
        params = fitted(space, trial.params)
        if params is not None:
            failed = trial.state is TrialState.FAILED
            optimizer.tell(params, trial.score, trial.cost, failed=failed, stopped=trial.state is TrialState.STOPPED)
    return optimizer


def fitted(space: Space, params: dict[str, Any]) -> dict[str, Any] | None:
    """Parameters as the space has them: of another phase or sweep, the nearest legal ones; None where they lack one."""
    try:
        return space.decode(space.encode(params, clip=True))
    except InvalidInput:
        return None
