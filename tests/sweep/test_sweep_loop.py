"""Real sweeps with real jobs: to their end, whatever is killed on the way."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from metta_jobs.store.words import Origin, SweepState, TrialState
from metta_jobs.sweep.book import Page
from tests.sweep.conftest import tool


def test_trials_run_and_the_best_of_them_is_the_best(finished: Callable[..., Page]) -> None:
    page = finished(tool(trials=3, settings={"max_parallel": 2, "budget": {"trials": 3}, "rollout_retry_delay": 0}))
    assert (page.sweep.state, page.sweep.reason) == (SweepState.ENDED, "all 3 trials are done")
    assert [trial.number for trial in page.trials] == [1, 2, 3]
    for trial in page.trials:
        assert trial.state is TrialState.FINISHED and trial.origin is Origin.SUGGESTED
        assert trial.score is not None and abs(trial.score - (0.751 - (trial.params["trainer.x"] - 0.7) ** 2)) < 1e-9
        assert trial.cost is not None and trial.cost > 0 and trial.cost == trial.seconds
        assert trial.suggestion is not None and trial.suggestion["why"] == "the method is random"
