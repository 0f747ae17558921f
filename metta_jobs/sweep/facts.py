"""Sweeps as plain data with stable keys, for `--json` and programs."""

from __future__ import annotations

from dataclasses import asdict
from datetime import datetime
from typing import Any

from metta_jobs.store.words import TrialState
from metta_jobs.sweep import plan
from metta_jobs.sweep.best import command_line, overrides
from metta_jobs.sweep.book import Page
from metta_jobs.sweep.plan import Best
from metta_jobs.sweep.tables import state_of


def facts(page: Page, now: datetime) -> dict[str, Any]:
    """A sweep without its trials: state, counts, phase, best, spent, budget, forecast."""
    config, trials = page.config, page.trials
    best = plan.ranking(config, trials)
    phase = plan.phase_of(config, trials)
    ahead = plan.forecast(config, page.sweep, trials, now)
    return {
        "sweep": page.name,
        "state": state_of(page),
        "reason": page.sweep.reason,
        "module": config.target,
        "metric": config.sweep.metric,
        "goal": config.sweep.goal,
        "phase": phase.name if phase else None,
        "counts": {state.value: sum(trial.state is state for trial in trials) for state in TrialState},
        "completed": len(plan.completed(trials)),
        "wanted": config.trials_wanted,
        "best": best_facts(page, best[0]) if best else None,
        "spent": asdict(plan.spent(config, page.sweep, trials, page.sweep.finished_at or now)),
        "budget": config.settings.budget.model_dump(),
        "forecast": asdict(ahead) if ahead else None,
        "created_at": page.sweep.created_at.isoformat(),
        "finished_at": page.sweep.finished_at.isoformat() if page.sweep.finished_at else None,
    }


def best_facts(page: Page, best: Best) -> dict[str, Any]:
    """A point of the ranking."""
    return {
        "trial": best.trial.number,
        "score": best.score,
        "interval": list(best.interval) if best.interval else None,
        "scores": list(best.scores),
        "cost": best.cost,
        "validated": best.validated,
        "params": best.trial.params,
        "overrides": overrides(page, best),
        "arguments": command_line(page, best),
    }
