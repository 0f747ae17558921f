"""Early stopping by successive halving, without waiting for a rung to fill (ASHA: Li et al. 2020, A System for
Massively Parallel Hyperparameter Tuning)."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Mapping, Sequence

from metta_jobs.display.format import number
from metta_jobs.metrics import Series
from metta_jobs.states import JobState
from metta_jobs.store.sweeps import TrialRow
from metta_jobs.store.words import Origin, TrialState
from metta_jobs.sweep.config import EarlyStopping, SweepConfig
from metta_jobs.sweep.plan import signed
from metta_jobs.sweep.score import logged
from metta_jobs.views import JobView


def to_stop(config: SweepConfig, trials: Sequence[TrialRow], jobs: Mapping[str, JobView]) -> dict[int, str]:
    """Trials that run and are to be stopped, by number, with the reason. Reads what the trials have logged so far."""
    rules = config.settings.early_stopping
    assert rules is not None
    mine = [trial for trial in trials if trial.origin is Origin.SUGGESTED and trial.job in jobs]
    running = [t for t in mine if t.state is TrialState.OPEN and t.reason is None and _runs(jobs[str(t.job)])]
    if not running:
        return {}
    curves = {trial.number: logged(jobs[str(trial.job)].folder, config.sweep.metric) for trial in mine}
    found = {}
    for trial in running:
        if (why := behind(config, rules, trial.number, curves)) is not None:
            found[trial.number] = why
    return found


def behind(config: SweepConfig, rules: EarlyStopping, trial: int, curves: Mapping[int, Series]) -> str | None:
    """Why a trial is not among the best at the last rung that it has come to; None when it is, or nobody can tell."""
    curve = curves[trial]
    if not len(curve) or curve.steps[-1] < rules.min_steps:
        return None
    rung = math.floor(math.log(curve.steps[-1] / rules.min_steps) / math.log(rules.eta) + 1e-9)
    steps = rules.min_steps * rules.eta**rung
    there = {number_: value for number_, one in curves.items() if (value := _at(config, one, steps)) is not None}
    if len(there) < rules.eta or trial not in there:
        return None
    best = sorted(there.values(), reverse=True)
    kept = max(1, math.floor(len(best) / rules.eta))
    if there[trial] >= best[kept - 1]:
        return None
    return f"at step {number(steps)} it was not among the best {kept} of {len(best)}"


def _at(config: SweepConfig, curve: Series, steps: float) -> float | None:
    """What a curve says of its first `steps` steps, more being better; None when it did not get that far."""
    if not len(curve) or curve.steps[-1] < steps:
        return None
    value = curve.values[bisect_right(curve.steps, steps) - 1] if curve.steps[0] <= steps else math.nan
    return signed(config, value) if math.isfinite(value) else -math.inf


def _runs(job: JobView) -> bool:
    return job.state is JobState.RUNNING and not job.kill_requested
