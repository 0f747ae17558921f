"""Progress that is stored, acceptance that is judged, rules that are kept: with a fake executor and a clock by hand."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path
from typing import Any

import pytest

from metta_jobs.daemon.follow import SAVE_S, Follower
from metta_jobs.daemon.house import House
from metta_jobs.daemon.tick import tick
from metta_jobs.job import JobConfig
from metta_jobs.policy import GroupConfig, Hook, RetryPolicy
from metta_jobs.states import JobState as S
from metta_jobs.store import health, read, wishes
from metta_jobs.store.audit import audit
from metta_jobs.testing import FakeExecutor, FakeReadings, ManualClock, add, views
from metta_jobs.views import JobView, Progress

NAN = Progress(steps=40_960.0, reward=math.nan)


class Bench:
    """A house whose daemon can be exchanged for a new one that remembers nothing."""

    def __init__(self, house: House) -> None:
        self.house = house
        assert isinstance(house.executors["local"], FakeExecutor)
        assert isinstance(house.clock, ManualClock) and isinstance(house.readings, FakeReadings)
        self.executor, self.clock, self.readings = house.executors["local"], house.clock, house.readings
        self.follower = Follower()

    def start(self, *jobs: JobConfig, **group: Any) -> list[int]:
        ids = add(self.house, *(jobs or [job()]), options=GroupConfig(**group))
        self.rounds()
        return ids

    def rounds(self, count: int = 4, seconds: float = 1) -> None:
        for _ in range(count):
            tick(self.house)
            self.follower.tend(self.house)
            self.clock.advance(seconds)

    def crash(self) -> None:
        self.follower = Follower()
        self.house.known.clear()
        self.house.judging.clear()
        self.house.readings = fresh = FakeReadings(self.clock)
        fresh._said, self.readings = self.readings._said, fresh

    def job(self, job_id: int = 1) -> JobView:
        return views(self.house, job_id)[0]

    def events(self, kind: str = "health") -> list[str]:
        with self.house.store.read() as connection:
            assert audit(connection) == []
            return [event.reason or "" for event in read.event_views(connection, None) if event.kind == kind]


@pytest.fixture
def bench(house: House) -> Bench:
    return Bench(house)


def job(name: str = "a", **fields: Any) -> JobConfig:
    return JobConfig(name=name, command=("train",), **fields)


# ---------------------------------------------------------------------------------------------------- progress


def test_progress_is_stored_and_read_back_with_what_is_no_number(bench: Bench) -> None:
    bench.start(job(metrics=("loss",)))
    assert bench.readings.wanted == {(1, 1): ("loss",)}
    bench.readings.say((1, 1), Progress(100.0, 1000.0, math.nan, 50.0, 1.7e9, {"loss": math.inf, "b": 2.0}))
    bench.rounds()
    progress = bench.job().progress
    assert progress is not None
    assert (progress.steps, progress.total, progress.sps, progress.updated_at) == (100, 1000, 50, 1.7e9)
    assert progress.reward is not None and math.isnan(progress.reward)
    assert progress.values == {"loss": math.inf, "b": 2.0}
    told = bench.job().to_dict()["progress"]
    assert (told["reward"], told["metrics"]) == ("NaN", {"loss": "Infinity", "b": 2.0})
    json.dumps(told, allow_nan=False)


def test_nothing_is_written_while_nothing_changes_and_what_is_written_plans_nothing(bench: Bench) -> None:
    bench.start()
    bench.readings.say((1, 1), NAN)
    bench.rounds()
    version = bench.house.store.version()
    bench.rounds(count=20)
    assert bench.house.store.version() == version
    bench.readings.say((1, 1), Progress(steps=50_000.0))
    bench.clock.advance(SAVE_S)
    bench.follower.tend(bench.house)
    assert bench.house.store.version() != version
    assert bench.house.planned == bench.house.store.version()


def test_the_last_values_are_read_once_more_after_the_end(bench: Bench) -> None:
    bench.start()
    bench.readings.say((1, 1), Progress(steps=1.0))
    bench.rounds()
    bench.executor.end((1, 1), 3)
    bench.readings.say((1, 1), Progress(steps=2.0, reward=7.0))
    bench.rounds()
    assert bench.job().progress == Progress(steps=2.0, reward=7.0)
    with bench.house.store.read() as connection:
        assert connection.execute("SELECT final FROM progress").fetchone()[0] == 1


def test_an_end_that_was_not_read_any_more_is_read_by_the_next_daemon(bench: Bench) -> None:
    bench.start()
    bench.readings.say((1, 1), Progress(steps=1.0))
    bench.rounds()
    bench.executor.end((1, 1), 0)
    tick(bench.house)
    bench.readings.say((1, 1), Progress(steps=2.0))
    bench.crash()
    bench.rounds()
    assert bench.job().progress == Progress(steps=2.0)


def test_a_new_attempt_has_progress_of_its_own(bench: Bench) -> None:
    bench.start(job(retry=RetryPolicy(max_attempts=2, backoff_s=0)))
    bench.readings.say((1, 1), Progress(steps=5.0))
    bench.rounds()
    bench.executor.end((1, 1), 1)
    bench.rounds()
    assert (bench.job().attempt, bench.job().progress) == (2, None)


def test_what_cannot_be_read_changes_nothing(bench: Bench) -> None:
    bench.start(health=({"when": "stalled", "minutes": 1, "action": "kill"},))
    bench.readings.unreadable = "no permission"
    bench.rounds(count=10, seconds=60)
    assert (bench.job().state, bench.events()) == (S.RUNNING, [])


# ---------------------------------------------------------------------------------------------------- acceptance


@pytest.mark.parametrize(
    ("reward", "state", "reason"),
    [
        (3.2, S.FAILED, "overview/reward 3.2 is not >= 5"),
        (math.nan, S.FAILED, "overview/reward nan is not >= 5"),
        (None, S.FAILED, "overview/reward was never logged, and must be >= 5"),
        (7.0, S.SUCCEEDED, "accepted: overview/reward 7 >= 5"),
    ],
)
def test_criteria_decide_success(bench: Bench, reward: float | None, state: S, reason: str) -> None:
    bench.start(job(acceptance="overview/reward >= 5"), job("after", depends_on=("a",)))
    bench.readings.say((1, 1), Progress(steps=1.0, reward=reward))
    bench.executor.end((1, 1), 0)
    bench.rounds()
    view = bench.job()
    assert (view.state, view.exit_code, view.reason) == (state, 0, reason)
    assert bench.job(2).state is (S.RUNNING if state is S.SUCCEEDED else S.SKIPPED)
    assert reason in bench.events("state")


def test_a_command_that_failed_is_not_judged(bench: Bench) -> None:
    bench.start(job(acceptance="overview/reward >= 5"))
    bench.executor.end((1, 1), 2)
    bench.rounds()
    assert (bench.job().state, bench.job().reason) == (S.FAILED, "exit code 2")


def test_a_daemon_that_dies_before_the_judgement_leaves_it_to_the_next(bench: Bench) -> None:
    bench.start(job(acceptance="loss < 1", metrics=("other",)))
    bench.readings.held = True
    bench.executor.end((1, 1), 0)
    bench.rounds()
    assert bench.job().state is S.RUNNING
    assert "acceptance" in (bench.job().reason or "")
    bench.readings.say((1, 1), Progress(values={"loss": 0.5}))
    bench.crash()
    bench.rounds()
    assert (bench.job().state, bench.job().reason) == (S.SUCCEEDED, "accepted: loss 0.5 < 1")


def test_metrics_that_cannot_be_read_judge_nothing_until_a_person_gives_up(bench: Bench) -> None:
    bench.start(job(acceptance="loss < 1"))
    bench.readings.unreadable = "no permission"
    bench.executor.end((1, 1), 0)
    bench.rounds(count=20)
    assert bench.job().state is S.RUNNING
    assert "no permission" in (bench.job().reason or "")
    with bench.house.store.write() as connection:
        wishes.wish_kill(connection, bench.clock.now(), [1])
    bench.rounds()
    assert (bench.job().state, bench.job().exit_code) == (S.FAILED, 0)


def test_what_becomes_readable_is_judged(bench: Bench) -> None:
    bench.start(job(acceptance="loss < 1"))
    bench.readings.unreadable = "no permission"
    bench.executor.end((1, 1), 0)
    bench.rounds(count=3)
    bench.readings.unreadable = None
    bench.readings.say((1, 1), Progress(values={"loss": 2.0}))
    bench.rounds(count=10)
    assert (bench.job().state, bench.job().reason) == (S.FAILED, "loss 2 is not < 1")


def test_rejected_is_a_cause_of_its_own(bench: Bench) -> None:
    again = RetryPolicy(max_attempts=2, backoff_s=0, on=("rejected",))
    bench.start(
        job(acceptance="loss < 1", retry=again), job("b", acceptance="loss < 1", retry=RetryPolicy(backoff_s=0))
    )
    bench.executor.end((1, 1), 0)
    bench.executor.end((2, 1), 0)
    bench.rounds()
    assert (bench.job(1).attempt, bench.job(1).state) == (2, S.RUNNING)
    assert (bench.job(2).attempt, bench.job(2).state) == (1, S.FAILED)


# ---------------------------------------------------------------------------------------------------- health


def test_a_rule_kills_once_and_says_the_numbers(bench: Bench) -> None:
    bench.start(health=({"when": "nan", "metric": "overview/reward", "action": "kill"},))
    bench.executor.stubborn.add((1, 1))
    bench.readings.say((1, 1), NAN)
    bench.rounds()
    assert bench.events() == ["health: overview/reward was NaN at step 40,960 → killed"]
    bench.crash()
    bench.rounds(count=30)
    view = bench.job()
    assert (view.state, view.reason) == (S.KILLED, "health: overview/reward was NaN at step 40,960")
    assert bench.events() == ["health: overview/reward was NaN at step 40,960 → killed"]
    assert view.health == ("overview/reward was NaN at step 40,960",)


def test_mark_leaves_an_event_and_the_job_alone(bench: Bench) -> None:
    bench.start(job(), job("b"), health=({"when": "below", "metric": "r", "threshold": 1, "after_step": 100},))
    bench.readings.say((1, 1), Progress(steps=99.0, values={"r": 0.0}))
    bench.readings.say((2, 1), Progress(steps=100.0, values={"r": 0.5}))
    bench.rounds(count=8)
    assert bench.readings.wanted[1, 1] == ("r",)
    assert bench.events() == ["health: r was 0.5 at step 100, below 1 → marked"]
    assert [view.health for view in views(bench.house, 1, 2)] == [(), ("r was 0.5 at step 100, below 1",)]
    assert bench.job(2).state is S.RUNNING


def test_notify_tells_the_hooks_of_the_group_but_those_of_success(bench: Bench) -> None:
    hooks = (Hook(webhook="A"), Hook(webhook="B", on="success"), Hook(webhook="C", on="failure"))
    bench.start(on_end=hooks, health=({"when": "nan", "action": "notify"},))
    bench.readings.say((1, 1), NAN)
    bench.rounds(count=8)
    with bench.house.store.read() as connection:
        rows = connection.execute("SELECT job_id, hook, facts FROM deliveries").fetchall()
    assert [json.loads(row["hook"])["webhook"] for row in rows] == ["A", "C"]
    facts = json.loads(rows[0]["facts"])
    assert (facts["event"], facts["reason"]) == ("job_health", "health: overview/reward was NaN at step 40,960")
    assert bench.events() == ["health: overview/reward was NaN at step 40,960 → notified"]


def test_a_stalled_run_is_tried_again_from_its_checkpoint_and_then_killed(bench: Bench, tmp_path: Path) -> None:
    rule = {"when": "stalled", "minutes": 10, "action": "retry", "max_retries": 1}
    bench.start(health=(rule,))
    folder = bench.house.state_dir.attempt(1, 1) / "checkpoints"
    folder.mkdir(parents=True)
    for name, seconds in (("good.zip", 0), ("late.zip", 3600)):
        (folder / name).touch()
        os.utime(folder / name, (bench.clock.now().timestamp() + seconds,) * 2)
    bench.readings.say((1, 1), Progress(steps=40_960.0))
    bench.rounds(count=12, seconds=60)
    bench.rounds()
    assert (bench.job().state, bench.job().attempt) == (S.RUNNING, 2)
    assert bench.events()[0].startswith("health: no new step for 1")
    assert bench.events()[0].endswith(" min at step 40,960 → retried")
    environment = bench.executor.specs[1, 2].environment
    assert environment["METTA_CHECKPOINT"] == str(folder / "good.zip")
    assert environment["METTA_PREVIOUS_DIR"] == str(folder.parent)
    assert "METTA_CHECKPOINT" not in bench.executor.specs[1, 1].environment
    bench.rounds(count=15, seconds=60)
    assert (bench.job().state, bench.job().attempt) == (S.KILLED, 2)
    assert bench.events()[1].endswith("→ killed, for it was retried 1 time (max_retries)")
    with bench.house.store.write() as connection:  # a person's retry begins to count anew, and from nothing
        wishes.wish_retry(connection, bench.clock.now(), [1])
    bench.rounds()
    assert (bench.job().state, bench.job().attempt) == (S.RUNNING, 3)
    assert "METTA_CHECKPOINT" not in bench.executor.specs[1, 3].environment
    assert bench.executor.specs[1, 3].environment.get("METTA_PREVIOUS_DIR") is None
    bench.rounds(count=15, seconds=60)
    assert bench.job().attempt == 4


def test_steps_keep_a_run_from_being_stalled(bench: Bench) -> None:
    bench.start(health=({"when": "stalled", "minutes": 10, "action": "kill"},))
    for step in range(40):
        bench.readings.say((1, 1), Progress(steps=float(step)))
        bench.rounds(count=2, seconds=120)
    assert (bench.job().state, bench.events()) == (S.RUNNING, [])


def test_a_person_who_kills_meanwhile_has_the_last_word(bench: Bench) -> None:
    bench.start(job(grace_s=600), health=({"when": "nan", "action": "retry"},))
    bench.executor.stubborn.add((1, 1))
    bench.readings.say((1, 1), NAN)
    bench.rounds()
    with bench.house.store.write() as connection:
        wishes.wish_kill(connection, bench.clock.now(), [1], force=True)
    bench.rounds()
    assert (bench.job().state, bench.job().attempt, bench.job().reason) == (S.KILLED, 1, "killed on request")


def test_a_slow_run_is_held_against_its_group_for_a_while(bench: Bench) -> None:
    bench.start(*(job(name) for name in "abc"), health=({"when": "slow", "share": 0.5, "minutes": 5},))
    for job_id, sps in ((1, 1000.0), (2, 1200.0), (3, 100.0)):
        bench.readings.say((job_id, 1), Progress(steps=10.0, sps=sps))
    bench.rounds(count=4, seconds=60)
    assert bench.events() == []
    bench.rounds(count=4, seconds=60)
    assert bench.events() == ["health: SPS was 100 at step 10, below 0.5 of the median 1,000 of 3 runs → marked"]


def test_rules_may_come_and_go_while_jobs_run(bench: Bench) -> None:
    from metta_jobs.store import edit

    bench.start()
    bench.readings.say((1, 1), Progress(steps=1.0, values={"loss": 9.0}))
    bench.rounds()
    rule = GroupConfig.model_validate({"health": {"when": "above", "metric": "loss", "threshold": 5}})
    with bench.house.store.write() as connection:
        edit.set_columns(connection, bench.clock.now(), 1, edit.columns({"health": rule.health}))
    bench.rounds()
    assert bench.readings.wanted == {(1, 1): ("loss",)}
    assert bench.events() == ["health: loss was 9 at step 1, above 5 → marked"]
    with bench.house.store.write() as connection:
        edit.set_columns(connection, bench.clock.now(), 1, edit.columns({"health": None}))
    bench.rounds()
    assert bench.readings.wanted == {(1, 1): ()}


def test_an_action_that_was_done_is_not_done_by_another_daemon(bench: Bench) -> None:
    hooks = (Hook(webhook="A"),)
    bench.start(on_end=hooks, health=({"when": "nan", "action": "notify"},))
    bench.readings.say((1, 1), NAN)
    for _ in range(3):
        bench.rounds()
        bench.crash()
    with bench.house.store.read() as connection:
        assert connection.execute("SELECT count(*) FROM deliveries").fetchone()[0] == 1
    assert len(bench.events()) == 1


def test_a_finding_that_comes_too_late_does_nothing(bench: Bench) -> None:
    bench.start()
    bench.executor.end((1, 1), 0)
    bench.rounds()
    (rule,) = GroupConfig.model_validate({"health": {"when": "nan", "action": "kill"}}).health or ()
    with bench.house.store.write() as connection:
        assert health.act(connection, bench.clock.now(), [health.Finding((1, 1), rule, "late")]) == []
    assert (bench.job().state, bench.events()) == (S.SUCCEEDED, [])
