from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from metta_jobs.daemon.patience import Patience, by_the_wall
from metta_jobs.daemon.plan import LOOKAHEAD, Claim, GivesUp, Verdict, Waits, may_start, plan, waits_for
from metta_jobs.daemon.slots import Slots
from metta_jobs.daemon.tick import tick
from metta_jobs.job import JobConfig
from metta_jobs.policy import GroupConfig
from metta_jobs.states import LONGEST_PAUSE_S, DependencyKind, JobState
from metta_jobs.store import queue
from metta_jobs.store.capacity import Machine
from metta_jobs.store.queue import GroupLimits, Holding, Need, Parent, ReadyJob
from metta_jobs.testing import ManualClock, add, make_house, states, views

START = ManualClock().now()
ONE = Need()


def ready(job: int, need: Need = ONE, *, group: int = 1, timeout: float | None = None) -> ReadyJob:
    return ReadyJob(job, group, need, START, queue_timeout_s=timeout)


def held(job: int, need: Need = ONE, gpus: Sequence[str] = (), *, group: int = 1) -> Holding:
    share = need.gpus if 0 < need.gpus < 1 else 1
    return Holding(job, group, f"lane {job}", tuple(gpus), share, need.cpus, need.memory_gb)


def look(
    jobs: Sequence[ReadyJob],
    slots: Slots,
    *,
    groups: Mapping[int, GroupLimits] | None = None,
    waited: Mapping[int, float] | None = None,
    pause: float = 0,
    lines: Mapping[str, int] | None = None,
) -> dict[int, Verdict]:
    """What the plan says of each job; `waited` are seconds by job, 0 where there are none."""
    ages = {job.job_id: ((waited or {}).get(job.job_id, 0.0), pause) for job in jobs}
    return {job.job_id: v for job, v in plan(jobs, slots, groups or {}, lambda job: ages[job.job_id], lines)}


def claimed(verdicts: Mapping[int, Verdict]) -> list[int]:
    return [job for job, verdict in verdicts.items() if isinstance(verdict, Claim)]


def limit(most: int | None = None, *, paused: bool = False) -> dict[int, GroupLimits]:
    return {1: GroupLimits("g", most, paused)}


# ------------------------------------------------------------------------------------------------- the order


@pytest.mark.parametrize(
    ("priorities", "order"),
    [
        ([0, 0, 0], [1, 2, 3]),
        ([0, 5, 5], [2, 3, 1]),
        ([-1, 0, -2], [2, 1, 3]),
    ],
)
def test_higher_priority_comes_first_and_then_age(tmp_path: Path, priorities: list[int], order: list[int]) -> None:
    house = make_house(tmp_path)
    add(house, *(JobConfig(name=f"j{n}", command=("x",), priority=p) for n, p in enumerate(priorities)))
    with house.store.read() as connection:
        assert [job.job_id for job in queue.ready_jobs(connection)] == order


def test_a_group_s_priority_is_added_to_that_of_its_jobs(tmp_path: Path) -> None:
    house = make_house(tmp_path, cpus=1)
    (a,) = add(house, JobConfig(name="a", command=("x",), priority=2))
    low, high = (JobConfig(name=f"j{p}", command=("x",), priority=p) for p in (0, 1))
    b, c = add(house, low, high, group="late", options=GroupConfig(priority=2))
    with house.store.read() as connection:
        assert [job.job_id for job in queue.ready_jobs(connection)] == [c, a, b]


def test_each_claim_takes_its_slots_from_those_behind_it() -> None:
    slots = Slots(Machine(3, 16, ("0", "1")))
    verdicts = look([ready(1, Need(1)), ready(2, Need(0.5)), ready(3, Need(1)), ready(4), ready(5)], slots)
    assert claimed(verdicts) == [1, 2, 4]
    assert (verdicts[1], verdicts[2]) == (Claim(("0",)), Claim(("1",), 0.5))
    assert verdicts[3].reason == "no free GPU (2 of 2 in use by 1, 2)"
    assert verdicts[5].reason == "no free CPU slot (3 of 3 in use by 1, 2, 4)"


def test_a_smaller_job_may_pass_a_bigger_one_that_has_not_waited_long() -> None:
    verdicts = look([ready(1, Need(cpus=3)), ready(2)], Slots(Machine(3, 16), [held(9)]))
    assert claimed(verdicts) == [2]


# ------------------------------------------------------------------------------------------------- holding back


def test_a_group_runs_no_more_at_a_time_than_it_may() -> None:
    slots = Slots(Machine(9, 16), [held(9), held(8, group=2)])
    verdicts = look([ready(1), ready(2), ready(3, group=2)], slots, groups=limit(2))
    assert claimed(verdicts) == [1, 3]
    assert verdicts[2] == Waits("the group's limit is reached (2 of 2 running)")


def test_a_paused_group_starts_nothing_and_gives_nothing_up() -> None:
    verdicts = look(
        [ready(1, timeout=10), ready(2, group=2)], Slots(Machine(9, 16)), groups=limit(paused=True), waited={1: 99}
    )
    assert verdicts == {1: Waits("group paused"), 2: Claim()}


@pytest.mark.parametrize(
    ("job", "pause", "verdict"),
    [
        (ready(1), 2.1, Waits("tried again in 3 s", 2.1)),
        (ready(1), -1, Claim()),
        (ready(1, Need(3)), 0, Waits("can never start here: it asks for 3 GPUs and this machine has 1")),
        (ready(1, timeout=60), 0, GivesUp("not started in 60 s (queue_timeout_s)")),
        (ready(1, timeout=61), 0, Claim()),
        (ready(1, timeout=60), 5, Waits("tried again in 5 s", 5)),
    ],
)
def test_what_keeps_a_job_from_asking_for_slots(job: ReadyJob, pause: float, verdict: Verdict) -> None:
    assert look([job], Slots(Machine(2, 16, ("0",))), pause=pause, waited={1: 60})[1] == verdict


@pytest.mark.parametrize(
    ("timeout", "waited", "until"), [(None, 0, 300), (60, 20, 40), (400, 20, 280), (400, 350, 50), (None, 301, None)]
)
def test_it_is_known_when_time_alone_changes_what_a_job_waits_for(
    timeout: float | None, waited: float, until: float | None
) -> None:
    slots = Slots(Machine(1, 16, reserve_after_s=300), [held(9)])
    verdict = look([ready(1, timeout=timeout)], slots, waited={1: waited})[1]
    assert verdict == Waits("no free CPU slot (1 of 1 in use by 9)", until, for_slots=True)


@pytest.mark.parametrize("why", ["slots", "the group's limit", "a machine that is too small"])
def test_a_job_gives_up_waiting_on_time_though_nothing_else_happens(tmp_path: Path, why: str) -> None:
    house = make_house(tmp_path, cpus=1 if why == "slots" else 2)
    assert isinstance(house.clock, ManualClock)
    options = GroupConfig(max_parallel=1 if why == "the group's limit" else None)
    need: dict[str, Any] = {"cpus": 5} if why == "a machine that is too small" else {}
    config = JobConfig(name="b", command=("x",), queue_timeout_s=60, **need)
    a, b = add(house, JobConfig(name="a", command=("x",)), config, options=options)
    for _ in range(5):
        tick(house)
    house.clock.advance(59)
    tick(house)
    assert states(house, a, b) == [JobState.RUNNING, JobState.PENDING]
    house.clock.advance(1)
    tick(house)
    (view,) = views(house, b)
    assert (view.state, view.reason) == (JobState.TIMED_OUT, "not started in 60 s (queue_timeout_s)")


# ------------------------------------------------------------------------------------------------- reservation


def test_what_a_job_lacks_that_has_waited_long_is_kept_for_it() -> None:
    slots = Slots(Machine(4, 16, ("0",), reserve_after_s=300), [held(9, Need(1), "0")])
    jobs = [ready(1, Need(1)), ready(2, Need(0.5)), ready(3)]
    verdicts = look(jobs, slots, waited={1: 360})
    assert claimed(verdicts) == [3]  # it lacks a GPU, and no CPU slot
    assert verdicts[1].reason == "no free GPU (1 of 1 in use by 9)"
    slots = Slots(Machine(4, 16, reserve_after_s=300), [held(9, Need(cpus=2))])
    verdicts = look([ready(1, Need(cpus=3)), ready(2), ready(3, Need(cpus=4))], slots, waited={1: 360, 3: 999})
    assert claimed(verdicts) == []
    assert verdicts[2].reason == "the next free CPU slot is kept for job 1, which has waited 6 min"


def test_nothing_is_kept_from_jobs_that_are_before_it_in_the_queue() -> None:
    slots = Slots(Machine(2, 16, reserve_after_s=300), [held(9)])
    verdicts = look([ready(2), ready(1, Need(cpus=2)), ready(3)], slots, waited={1: 99_999})
    assert claimed(verdicts) == [2]  # of higher priority: it starts, however long the big one has waited
    assert verdicts[3].reason.startswith("no free CPU slot")


def test_a_free_gpu_is_kept_while_the_rest_of_what_a_job_wants_comes_free() -> None:
    slots = Slots(Machine(4, 16, ("0", "1"), reserve_after_s=300), [held(9, Need(memory_gb=8))])
    jobs = [ready(1, Need(1, memory_gb=12)), ready(2, Need(2)), ready(3, Need(1)), ready(4, Need(0.5)), ready(5)]
    verdicts = look(jobs, slots, waited={1: 400})
    assert claimed(verdicts) == [3, 5]
    assert verdicts[2].reason == "not enough free GPUs (wants 2; 0: kept for job 1, which has waited 7 min)"
    assert verdicts[4].reason == (
        "no free GPU with 0.5 of it free (1 of 2 in use by 3; 0: kept for job 1, which has waited 7 min)"
    )


def test_free_memory_is_kept_while_a_cpu_slot_comes_free() -> None:
    slots = Slots(Machine(4, 16, reserve_after_s=300), [held(9, Need(cpus=2))])
    jobs = [ready(1, Need(0, 3, 12)), ready(2, Need(0, 0, 5)), ready(3, Need(0, 0, 4))]
    verdicts = look(jobs, slots, waited={1: 301})
    assert claimed(verdicts) == [3]
    assert verdicts[2].reason == (
        "not enough memory (wants 5 GB, 4 of 16 GB free; 12 GB are kept for job 1, which has waited 5 min)"
    )


@pytest.mark.parametrize("places", [None, 5])
@pytest.mark.parametrize(
    ("big", "small"),
    [
        (Need(2), [Need(1)]),
        (Need(2), [Need(0.5)]),
        (Need(cpus=4), [ONE]),
        (Need(memory_gb=16), [Need(memory_gb=4)]),
        (Need(1, 1, 12), [Need(1), Need(memory_gb=8)]),
        (Need(2, 4, 16), [Need(0.5, 0), Need(0, 0, 8), ONE]),
        (Need(1, 3), [Need(1, 0), ONE]),
        (Need(0, 3, 12), [Need(0, 0, 8), ONE]),
    ],
)
def test_a_big_job_starts_however_many_small_ones_come_behind_it(
    big: Need, small: list[Need], places: int | None
) -> None:
    has = Machine(4, 16, ("0", "1"), places, reserve_after_s=300)
    running: list[Holding] = []
    for number in range(60):  # one job ends after another
        behind = [ready(100 * number + n, need) for n, need in enumerate(small * 20, 2)]
        jobs = [ready(1, big), *behind] if number else behind
        verdicts = look(jobs, Slots(has, running), waited={1: 1000})
        if 1 in claimed(verdicts):
            return
        for job in jobs:
            if isinstance(claim := verdicts[job.job_id], Claim):
                running.append(held(job.job_id, job.need, claim.gpus))
        running.pop(0)
    pytest.fail("it never starts")


# ------------------------------------------------------------------------------------------------- quick lanes


def test_jobs_stand_in_the_shortest_line_of_quick_lanes_and_no_line_gets_long() -> None:
    slots = Slots(Machine(2, 16), [held(8), held(9)])
    jobs = [ready(job) for job in range(10, 10 + 2 * LOOKAHEAD)]
    verdicts = look(jobs, slots, lines={"lane 8": 3, "lane 9": 1})
    lanes = [verdict.lane for verdict in verdicts.values() if isinstance(verdict, Claim)]
    assert lanes[:4] == ["lane 9", "lane 9", "lane 8", "lane 9"]
    assert (lanes.count("lane 8"), lanes.count("lane 9")) == (LOOKAHEAD - 3, LOOKAHEAD - 1)
    assert list(verdicts.values())[-1].reason == "no free CPU slot (2 of 2 in use by 8, 9)"


@pytest.mark.parametrize(
    ("job", "more", "lane"),
    [
        (ready(1), {}, "lane 9"),
        (ready(1, Need(cpus=0.5)), {}, None),
        (ready(1, Need(memory_gb=1)), {}, None),
        (ready(1, Need(0.5)), {}, None),
        (ready(1), {"groups": limit(5)}, None),
        (ready(1), {"waited": {1: 300}}, None),
        (ready(1), {"lines": {}}, None),
        (ready(1), {"lines": {"lane 7": 0}}, None),
        (ready(1), {"pause": 5}, None),
    ],
)
def test_only_a_job_of_the_same_size_that_waits_for_nothing_else_stands_in_line(
    job: ReadyJob, more: dict[str, Any], lane: str | None
) -> None:
    slots = Slots(Machine(1, 16, ("0",), reserve_after_s=300), [held(9)])
    verdict = look([job], slots, **{"lines": {"lane 9": 0}, **more})[1]
    assert (verdict.lane if isinstance(verdict, Claim) else None) == lane


@pytest.mark.parametrize(
    ("cpus", "lines", "answer"),
    [(2, {}, True), (1, {}, False), (1, {"lane 9": LOOKAHEAD - 1}, True), (1, {"lane 9": LOOKAHEAD}, False)],
)
def test_the_look_goes_on_while_anything_can_start(cpus: float, lines: dict[str, int], answer: bool) -> None:
    assert may_start(Slots(Machine(cpus, 16), [held(9)]), lines) == answer


# ------------------------------------------------------------------------------------------------- what is said


@pytest.mark.parametrize(
    ("parents", "said"),
    [
        (["a"], "waits for a (running)"),
        (["a", "b", "c"], "waits for a (running), b (running), c (running)"),
        (["a", "b", "c", "d", "e"], "waits for a (running), b (running), c (running) and 2 more"),
    ],
)
def test_some_parents_are_named_and_the_others_counted(parents: list[str], said: str) -> None:
    assert waits_for([Parent(name, JobState.RUNNING, DependencyKind.AFTEROK) for name in parents]) == said


def test_a_whole_group_is_told_by_its_progress() -> None:
    group = Parent("g", JobState.RUNNING, DependencyKind.AFTERANY, "2 of 5 ended")
    assert waits_for([group]) == "waits for g (2 of 5 ended)"


@pytest.mark.parametrize(("waited", "said"), [(30, "30 s"), (119, "119 s"), (120, "2 min"), (3600, "60 min")])
def test_how_long_a_job_has_waited_is_said(waited: float, said: str) -> None:
    slots = Slots(Machine(1, 16, reserve_after_s=0), [held(9)])
    assert claimed(look([ready(1), ready(2, Need(cpus=0))], slots, waited={1: waited})) == [2]
    assert slots.kept == {"CPU slot": f"the next free CPU slot is kept for job 1, which has waited {said}"}


# ------------------------------------------------------------------------------------------------- patience


@pytest.mark.parametrize(
    ("ready_at", "not_before", "ages"),
    [
        (-50, None, (50, 0)),
        (50, None, (0, 0)),  # the clock was set back
        (-50, -20, (20, 0)),
        (-50, 30, (0, 30)),
        (-20, -50, (20, 0)),
        (0, 10 * LONGEST_PAUSE_S, (0, LONGEST_PAUSE_S)),
    ],
)
def test_ages_by_the_wall_clock(ready_at: float, not_before: float | None, ages: tuple[float, float]) -> None:
    moments = [None if s is None else START + timedelta(seconds=s) for s in (ready_at, not_before)]
    assert moments[0] is not None
    assert by_the_wall(ReadyJob(1, 1, ONE, moments[0], moments[1]), START) == ages


@pytest.mark.parametrize("jump", [-86_400, 86_400])
def test_setting_the_clock_makes_no_job_older_or_younger(jump: float) -> None:
    clock = ManualClock()
    patience = Patience(clock)
    job = ReadyJob(1, 1, ONE, START, START + timedelta(seconds=30))
    for passed, ages in [(0, (0, 30)), (10, (0, 20)), (25, (5, -5))]:
        clock.advance(passed)
        patience.begin(whole=True)
        assert patience(job) == ages
        patience.end()
        clock.jump(jump)


def test_a_retry_is_another_wait_and_what_has_left_the_queue_is_forgotten() -> None:
    clock = ManualClock()
    patience = Patience(clock)
    patience.begin(whole=True)
    assert patience(ready(1)) == (0, 0)
    patience.end()
    clock.advance(100)
    clock.jump(1000)
    patience.begin(whole=False)  # it may have been cut off before the job
    patience.end()
    patience.begin(whole=True)
    assert patience(ReadyJob(1, 1, ONE, clock.now())) == (0, 0)
    patience.end()
    patience.begin(whole=True)
    assert patience(ready(1)) == (1100, 0)
