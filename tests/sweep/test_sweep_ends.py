"""Ends of trials that are not their own doing: stopped early, lost with the machine, killed by a person."""

from __future__ import annotations

from pathlib import Path

from metta_jobs.executors import processes
from metta_jobs.manager import JobManager
from metta_jobs.states import JobState
from metta_jobs.store.words import SweepState, TrialState
from metta_jobs.sweep import change
from metta_jobs.sweep.book import Book
from tests.processes import members_of, runner_of, until
from tests.sweep.conftest import tool, wait_for_end


def test_a_trial_that_falls_behind_is_stopped_and_the_optimiser_told(project: Path) -> None:
    with JobManager() as manager, Book(manager.state_dir) as book:
        tool(
            trials=2,
            args=["trainer.steps=120", "trainer.pause=0.1"],
            sweep={"method": "grid", "goal": "minimize", "protein": {"grid_points": 2}},
            settings={"max_parallel": 2, "early_stopping": {"min_steps": 5, "eta": 2}},
        ).submit(manager)
        wait_for_end(manager, "s")
        best, worse = sorted(book.page("s").trials, key=lambda trial: trial.state.value)
        assert (best.state, worse.state) == (TrialState.FINISHED, TrialState.STOPPED)
        assert best.params["trainer.x"] < worse.params["trainer.x"]
        assert worse.score is not None and worse.cost is not None and best.cost is not None
        assert worse.reason is not None and "not among the best 1 of 2" in worse.reason
        assert manager.one(f"s/{worse.job}").state is JobState.KILLED


def test_a_lost_trial_runs_again_and_a_killed_one_is_forgotten(project: Path) -> None:
    with JobManager() as manager, Book(manager.state_dir) as book:
        tool(trials=1, args=["trainer.pause=1"]).submit(manager)
        root = manager.state_dir
        until(lambda: "t001" in {job.name for job in manager.group("s").jobs}, "the trial's job")
        job = manager.one("s/t001").id
        until(lambda: manager.job(job).state is JobState.RUNNING, "its start")
        runner = runner_of(root, job)
        doomed = [*members_of(root, job), runner.pid]
        processes.send([runner.pid], 9)
        processes.send(doomed, 9)
        until(lambda: manager.job(job).attempt == 2 and manager.job(job).state.live, "another attempt")
        manager.kill([job])
        until(lambda: len(book.page("s").trials) == 2, "another trial in its place")
        wait_for_end(manager, "s")
        page = book.page("s")
        assert [trial.state for trial in page.trials] == [TrialState.DROPPED, TrialState.FINISHED]
        assert page.sweep.reason == "its one trial is done"


def test_stopping_lets_what_runs_end_and_resuming_goes_on(project: Path) -> None:
    with JobManager() as manager, Book(manager.state_dir) as book:
        tool(trials=2, args=["trainer.pause=0.3"]).submit(manager)
        until(lambda: book.page("s").trials, "a trial")
        assert change.stop(manager, book, "s", kill=False).sweep.state is SweepState.STOPPED
        wait_for_end(manager, "s")
        assert [trial.state for trial in book.page("s").trials] == [TrialState.FINISHED]
        change.resume(manager, book, "s")
        wait_for_end(manager, "s")
        assert [trial.state for trial in book.page("s").trials] == [TrialState.FINISHED] * 2
