from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from metta_jobs.daemon.house import House
from metta_jobs.daemon.tick import tick
from metta_jobs.executors.base import Key, Observation
from metta_jobs.job import JobConfig
from metta_jobs.manager.reasons import reasons_of
from metta_jobs.states import JobState
from metta_jobs.store import read, transitions, wishes
from metta_jobs.store.engine import Store
from metta_jobs.testing import FakeExecutor, ManualClock, add, make_house, states, views


def job(name: str, *after: str, **fields: object) -> JobConfig:
    return JobConfig(name=name, command=("x",), depends_on=after, **fields)  # type: ignore[arg-type]


def fake(house: House) -> FakeExecutor:
    executor = house.executors["local"]
    assert isinstance(executor, FakeExecutor)
    return executor


def advance(house: House, seconds: float) -> None:
    assert isinstance(house.clock, ManualClock)
    house.clock.advance(seconds)


def settle(house: House) -> None:
    """Tick until nothing changes any more; a daemon would be woken by the end of what it stopped or launched."""
    quiet = 0
    for _ in range(100):
        quiet = 0 if tick(house) else quiet + 1
        if quiet == 3:
            return
    raise AssertionError("it never comes to rest")


def waits_for(house: House, job_id: int) -> str:
    with house.store.read() as connection:
        return reasons_of(connection, [job_id], house.clock.now())[job_id]


def kill(house: House, *ids: int, force: bool = False) -> None:
    with house.store.write() as connection:
        wishes.wish_kill(connection, house.clock.now(), ids, force=force)


def retry(house: House, *ids: int) -> None:
    with house.store.write() as connection:
        wishes.wish_retry(connection, house.clock.now(), ids)


def test_a_job_is_claimed_launched_seen_and_ended_by_evidence(tmp_path: Path) -> None:
    house = make_house(tmp_path)
    (a,) = add(house, job("a"))
    settle(house)
    assert states(house, a) == [JobState.RUNNING]
    advance(house, 5)
    fake(house).end((a, 1), 0)
    settle(house)
    (view,) = views(house, a)
    assert (view.state, view.exit_code, view.duration_s) == (JobState.SUCCEEDED, 0, 5.0)
    with house.store.read() as connection:
        moves = [(e.from_state, e.to_state) for e in read.event_views(connection, [a]) if e.kind == "state"]
    assert moves == [
        (JobState.PENDING, JobState.LAUNCHING),
        (JobState.LAUNCHING, JobState.RUNNING),
        (JobState.RUNNING, JobState.SUCCEEDED),
    ]


def test_jobs_run_in_parallel_as_far_as_slots_allow_and_say_what_they_wait_for(tmp_path: Path) -> None:
    house = make_house(tmp_path, cpus=2)
    a, b, c = add(house, job("a"), job("b"), job("c"))
    settle(house)
    assert states(house, a, b, c) == [JobState.RUNNING, JobState.RUNNING, JobState.PENDING]
    assert waits_for(house, c) == "no free CPU slot (2 of 2 in use by 1, 2)"
    fake(house).end((a, 1), 1)
    settle(house)
    assert states(house, a, b, c) == [JobState.FAILED, JobState.RUNNING, JobState.RUNNING]


def test_each_job_gets_gpus_of_its_own(tmp_path: Path) -> None:
    house = make_house(tmp_path, cpus=8, gpus=("0", "1", "2"))
    a, b, c = add(house, job("a", gpus=2), job("b", gpus=1), job("c", gpus=1))
    settle(house)
    visible = [fake(house).specs[key].environment["CUDA_VISIBLE_DEVICES"] for key in ((a, 1), (b, 1))]
    assert visible == ["0,1", "2"]
    assert waits_for(house, c) == "no free GPU (3 of 3 in use by 1, 2)"
    fake(house).end((b, 1), 0)
    settle(house)
    assert fake(house).specs[c, 1].environment["CUDA_VISIBLE_DEVICES"] == "2"


def test_dependents_start_are_skipped_and_are_revived(tmp_path: Path) -> None:
    house = make_house(tmp_path, cpus=8)
    a, b, c, d = add(house, job("a"), job("b", "a"), job("c", "b"), job("d", "afterany:b"))
    settle(house)
    assert waits_for(house, b) == "waits for a (running)"
    fake(house).end((a, 1), 3)
    settle(house)
    assert states(house, a, b, c, d) == [JobState.FAILED, JobState.SKIPPED, JobState.SKIPPED, JobState.RUNNING]
    assert [view.reason for view in views(house, b, c)] == ["a failed", "b was skipped"]
    retry(house, a)
    settle(house)
    assert states(house, a, b, c) == [JobState.RUNNING, JobState.PENDING, JobState.PENDING]
    fake(house).end((a, 2), 0)
    settle(house)
    assert states(house, a, b) == [JobState.SUCCEEDED, JobState.RUNNING]


def test_an_executor_that_does_not_answer_changes_nothing_however_long(tmp_path: Path) -> None:
    house = make_house(tmp_path)
    (a,) = add(house, job("a", timeout_s=10))
    settle(house)
    fake(house).silent = "the disk does not answer"
    for _ in range(20):
        advance(house, 3600)
        tick(house)
    assert states(house, a) == [JobState.RUNNING]


def test_the_time_limit_counts_running_time_only(tmp_path: Path) -> None:
    house = make_house(tmp_path, cpus=1)
    a, b = add(house, job("a"), job("b", timeout_s=60))
    settle(house)
    advance(house, 10_000)  # b waits in the queue
    settle(house)
    fake(house).end((a, 1), 0)
    settle(house)
    assert isinstance(house.clock, ManualClock)
    house.clock.jump(86_400)  # the wall clock is set forward, or the laptop slept
    settle(house)
    assert states(house, b) == [JobState.RUNNING]
    advance(house, 61)
    settle(house)
    (view,) = views(house, b)
    assert (view.state, view.reason) == (JobState.TIMED_OUT, "time limit of 60 s reached")


def test_kill_asks_then_forces_and_the_job_is_killed_only_when_it_is_gone(tmp_path: Path) -> None:
    house = make_house(tmp_path)
    (a,) = add(house, job("a", grace_s=10))
    settle(house)
    fake(house).stubborn.add((a, 1))
    kill(house, a)
    settle(house)
    (view,) = views(house, a)
    assert (view.state, view.kill_requested, view.reason) == (JobState.RUNNING, True, "ending: killed on request")
    advance(house, 9)
    settle(house)
    assert states(house, a) == [JobState.RUNNING]
    advance(house, 2)
    settle(house)
    (view,) = views(house, a)
    assert (view.state, view.exit_code, view.kill_requested) == (JobState.KILLED, 137, False)


def test_kill_cancels_the_pending_and_leaves_the_ended_alone(tmp_path: Path) -> None:
    house = make_house(tmp_path, cpus=1)
    a, b, c = add(house, job("a"), job("b"), job("c"))
    settle(house)
    fake(house).end((a, 1), 0)
    settle(house)
    kill(house, a, b, c)
    settle(house)
    assert states(house, a, b, c) == [JobState.SUCCEEDED, JobState.KILLED, JobState.KILLED]
    assert fake(house).launched == [(a, 1), (b, 1)]


def test_a_refused_launch_is_tried_again_for_as_long_as_it_takes(tmp_path: Path) -> None:
    house = make_house(tmp_path)
    fake(house).refusing = "cannot be launched: No space left on device"
    (a,) = add(house, job("a"))
    for _ in range(50):
        tick(house)
        (view,) = views(house, a)
        assert (view.state, view.reason) == (JobState.LAUNCHING, "cannot be launched: No space left on device")
        advance(house, 2)
    fake(house).refusing = None
    advance(house, 6)
    settle(house)
    assert (states(house, a), views(house, a)[0].reason) == ([JobState.RUNNING], None)


def test_a_new_daemon_adopts_what_lives_and_launches_what_was_only_claimed(tmp_path: Path) -> None:
    house = make_house(tmp_path)
    (a,) = add(house, job("a"))
    settle(house)
    (b,) = add(house, job("b"))
    with house.store.write() as connection:  # the daemon dies between its claim of b and the launch
        assert transitions.claim(connection, house.clock.now(), [transitions.Start(b, "local", "x")], "") == {b: 1}
    again = House(house.store, house.state_dir, house.executors, house.clock, house.machine, house.readings)
    settle(again)
    assert states(again, a, b) == [JobState.RUNNING, JobState.RUNNING]
    assert fake(house).launched == [(a, 1), (b, 1)]


def test_a_job_kept_by_an_executor_that_is_not_here_waits(tmp_path: Path) -> None:
    house = make_house(tmp_path)
    (a,) = add(house, job("a"))
    settle(house)
    house.executors = {}
    settle(house)
    assert states(house, a) == [JobState.RUNNING]


def test_a_wish_that_comes_between_the_look_and_the_plan_is_not_overlooked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    house = make_house(tmp_path)
    (a,) = add(house, job("a"))
    settle(house)
    fake(house).end((a, 1), 3)
    somebody = Store(house.store.path)
    observe = fake(house).observe

    def and_then(keys: Sequence[Key]) -> Mapping[Key, Observation]:
        seen = observe(keys)
        if not keys:
            monkeypatch.undo()
            with somebody.write() as connection:
                wishes.wish_retry(connection, house.clock.now(), [a])
        return seen

    monkeypatch.setattr(fake(house), "observe", and_then)
    for _ in range(6):
        tick(house)
    assert states(house, a) == [JobState.RUNNING]
    assert views(house, a)[0].attempt == 2
    somebody.close()
