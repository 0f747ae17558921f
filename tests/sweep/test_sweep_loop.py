"""Real sweeps with real jobs: to their end, whatever is killed on the way."""

from __future__ import annotations

import os
import signal
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from metta_jobs.manager import JobManager
from metta_jobs.store.words import Origin, SweepState, TrialState
from metta_jobs.sweep import change, loop
from metta_jobs.sweep.book import Book, Page
from metta_jobs.sweep.loop import Loop
from metta_jobs.sweep.plan import ranking
from tests.processes import members_of, until
from tests.sweep.conftest import tool, wait_for_end


def test_a_sweep_with_everything_in_it(finished: Callable[..., Page], project: Path) -> None:
    """Two phases, evaluation, a cost that is a metric, the best run again; then more trials on top."""
    narrow = {"parameters": {"trainer": {"x": {"min": 0.6, "max": 0.8}}}}
    page = finished(
        tool(
            trials=None,
            sweep={"cost": "metric:flops"},
            settings={"budget": {}},
            schedule={"phases": [{"name": "wide", "num_runs": 2}, {"name": "narrow", "num_runs": 1, "sweep": narrow}]},
            evaluation={"module": "toy.evaluate", "args": ["checkpoint={checkpoint}"], "cpus": 0},
            validate={"top": 1, "seeds": 2},
            sweep_job_overrides={"trainer": {"steps": 2}},
        )
    )
    assert (page.sweep.state, page.sweep.reason) == (SweepState.ENDED, "all 3 trials are done")
    suggested = [trial for trial in page.trials if trial.origin is Origin.SUGGESTED]
    assert [(trial.number, trial.phase) for trial in suggested] == [(1, "wide"), (2, "wide"), (3, "narrow")]
    assert 0.6 <= suggested[2].params["trainer.x"] <= 0.8
    for trial in page.trials:
        assert trial.state is TrialState.FINISHED and trial.score == pytest.approx(100 + trial.params["trainer.x"])
        assert trial.cost == 20 and trial.seconds is not None and trial.seconds > 0
    again = page.trials[3:]
    best = max(suggested, key=lambda trial: trial.score or 0)
    assert [(t.origin, t.of_trial, t.seed, t.job) for t in again] == [
        (Origin.VALIDATION, best.number, 2, "best1.s2"),  # seed 1 is what the trials had
        (Origin.VALIDATION, best.number, 3, "best1.s3"),
    ]
    first = ranking(page.config, page.trials)[0]
    assert first.trial.number == best.number and first.validated and first.interval is not None
    with JobManager() as manager, Book(manager.state_dir) as book:
        told = {trial.number: (trial.score, trial.finished_at) for trial in page.trials}
        change.extend(manager, book, "s", ["trials=+1", "validate=null"])
        wait_for_end(manager, "s")
        longer = book.page("s").trials
        assert len(longer) == 6 and longer[5].phase == "narrow"
        assert {t.number: (t.score, t.finished_at) for t in longer[:5]} == told
        jobs = manager.group("s").jobs
        assert [job.name for job in jobs if job.name.startswith("sweep")] == ["sweep", "sweep-2"]


def test_a_loop_that_is_killed_twice_loses_and_repeats_nothing(project: Path) -> None:
    with JobManager() as manager, Book(manager.state_dir) as book:
        tool(trials=4, settings={"max_parallel": 2}, args=["trainer.pause=0.05"]).submit(manager)
        for done in (0, 2):
            until(lambda done=done: len(book.page("s").trials) > done, f"more than {done} trials")
            attempt = manager.one("s/sweep").attempt
            for pid in members_of(manager.state_dir, manager.one("s/sweep").id, attempt):
                os.kill(pid, signal.SIGKILL)
            until(lambda attempt=attempt: manager.one("s/sweep").attempt > attempt, "another attempt of the loop")
        wait_for_end(manager, "s")
        page = book.page("s")
        jobs = [job.name for job in manager.group("s").jobs if job.name != "sweep"]
    assert [trial.number for trial in page.trials] == [1, 2, 3, 4]
    assert all(trial.state is TrialState.FINISHED for trial in page.trials)
    assert len({trial.params["trainer.x"] for trial in page.trials}) == 4
    assert sorted(jobs) == [f"t00{number}" for number in range(1, 5)]


class _Killed(BaseException):
    """Stands for SIGKILL: nothing catches it."""


def test_a_loop_that_dies_at_any_point_goes_on_where_it_was(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before and after each commit of the book and each submit, in turn, the loop dies and another one takes over."""
    points: list[str] = []
    fatal = 0

    def point(name: str) -> None:
        points.append(name)
        if len(points) == fatal:
            raise _Killed

    def around(owner: type, name: str) -> None:
        original = getattr(owner, name)

        def wrapped(self: object, *args: object, **kwargs: object) -> object:
            point(f"before {name}")
            result = original(self, *args, **kwargs)
            point(f"after {name}")
            return result

        monkeypatch.setattr(owner, name, wrapped)

    for owner, name in ((Book, "_add"), (Book, "tell"), (Book, "move"), (JobManager, "submit")):
        around(owner, name)
    monkeypatch.setattr(loop, "LOOK_S", 0.02)
    monkeypatch.setattr("metta_jobs.sweep.tool.ensure_loop", lambda *_, **__: None)  # the loop is ours here
    with JobManager() as manager, Book(manager.state_dir) as book:
        fatal = 0
        number = 0
        while True:
            number += 1
            name = f"s{number}"
            tool(name, trials=1).submit(manager)
            points.clear()
            fatal = number
            died = False
            try:
                Loop(manager, book, name, lambda _: None).run()
            except _Killed:
                died, fatal = True, 0
                Loop(manager, book, name, lambda _: None).run()
            page = book.page(name)
            assert [(t.number, t.state) for t in page.trials] == [(1, TrialState.FINISHED)], (number, points)
            assert page.sweep.state is SweepState.ENDED
            assert Counter(job.name for job in manager.group(name).jobs) == {"t001": 1}
            if not died:
                break
        assert number == 9  # two points around each of four acts


def test_failures_in_a_row_end_it_and_resuming_counts_anew(finished: Callable[..., Page]) -> None:
    settings = {"max_consecutive_failures": 2}
    page = finished(tool(trials=None, args=["trainer.fail=true"], settings=settings | {"budget": {}}))
    assert page.sweep.state is SweepState.ENDED
    assert page.sweep.reason is not None and page.sweep.reason.startswith("2 trials in a row failed, the last one")
    assert [trial.state for trial in page.trials] == [TrialState.FAILED] * 2
    assert all(trial.cost is not None and trial.score is None for trial in page.trials)
    with JobManager() as manager, Book(manager.state_dir) as book:
        change.extend(manager, book, "s", ["args=[]", "trials=3"])
        wait_for_end(manager, "s")
        assert [trial.state.value for trial in book.page("s").trials] == ["failed", "failed", "finished"]


def test_zero_consecutive_failures_mean_no_limit_and_no_score_is_told(finished: Callable[..., Page]) -> None:
    page = finished(tool(trials=3, sweep={"metric": "rewrad"}, settings={"max_parallel": 3}))
    assert [(trial.state, trial.reason) for trial in page.trials] == [(TrialState.FAILED, "it logged no rewrad")] * 3
    assert page.sweep.reason == "all 3 trials are done"
