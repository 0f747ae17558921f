from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from metta_jobs.clock import Clock
from metta_jobs.daemon.house import House
from metta_jobs.job import JobConfig
from metta_jobs.policy import GroupConfig, Hook
from metta_jobs.states import JobState
from metta_jobs.store import edit, queue, read, transitions
from metta_jobs.store.audit import audit
from metta_jobs.store.queue import GroupLimits, Need
from metta_jobs.store.transitions import End, Start
from metta_jobs.testing import ManualClock, add, make_house, views

S = JobState


@pytest.fixture
def house(tmp_path: Path) -> House:
    return make_house(tmp_path)


def job(name: str, **fields: Any) -> JobConfig:
    return JobConfig(name=name, command=("x",), **fields)


def jobs(house: House, *priorities: int, group: str = "g") -> list[int]:
    """Submit a job of each priority."""
    return add(house, *(job(f"j{n}", priority=p) for n, p in enumerate(priorities)), group=group)


def order(house: House) -> list[int]:
    """The queue, in whose order jobs start."""
    with house.store.read() as connection:
        assert audit(connection) == []
        return [ready.job_id for ready in queue.ready_jobs(connection)]


def bring(house: House, job_id: int, state: JobState) -> None:
    with house.store.write() as connection:
        now = house.clock.now()
        if state is not S.PENDING:
            assert transitions.claim(connection, now, [Start(job_id, "local", "")], "") == {job_id: 1}
        if state is S.RUNNING:
            assert transitions.seen_alive(connection, now, [(job_id, 1)])
        elif state.terminal:
            assert transitions.finish(connection, now, [End(job_id, 1, state)])


def change(house: House, job_id: int, *, pending_only: bool = True, **fields: Any) -> bool:
    """Edit fields of a job's configuration."""
    with house.store.write() as connection:
        config = edit.config_of(connection, job_id).model_copy(update=fields)
        return edit.edit_job(connection, house.clock.now(), job_id, config, str(fields), pending_only=pending_only)


def move(house: House, *ids: int, before: int | None = None) -> list[int]:
    with house.store.write() as connection:
        return edit.place_jobs(connection, house.clock.now(), ids, before=before)


def limit(house: House, group: str = "g", **values: Any) -> None:
    """Edit a group as `metta job edit g key=value` does; None takes a limit away."""
    number = group_id(house, group)
    with house.store.write() as connection:
        edit.set_columns(connection, house.clock.now(), number, edit.columns(values))


def pause(house: House, *, paused: bool, group: str = "g") -> bool:
    number = group_id(house, group)
    with house.store.write() as connection:
        return edit.pause_group(connection, house.clock.now(), number, paused=paused)


def group_id(house: House, group: str) -> int:
    with house.store.read() as connection:
        found = read.group_id(connection, group)
    assert found is not None
    return found


def edits(house: House, *ids: int, group: str | None = None) -> list[str | None]:
    """What the events say was edited."""
    with house.store.read() as connection:
        events = read.event_views(connection, ids, groups=[group] if group else [])
    return [event.reason for event in events if event.kind == "edit"]


# --------------------------------------------------------------------------------------------------- one job


@pytest.mark.parametrize(
    ("fields", "need"),
    [
        ({"gpus": 0.5}, Need(0.5)),
        ({"cpus": 3, "memory_gb": 2}, Need(0, 3, 2)),
        ({"timeout_s": 60}, Need()),
        ({"command": ("y", "z")}, Need()),
    ],
)
def test_a_pending_job_is_edited_and_its_slots_follow(house: House, fields: dict[str, Any], need: Need) -> None:
    a, b = jobs(house, 0, 0)
    assert change(house, a, **fields)
    with house.store.read() as connection:
        assert [ready.need for ready in queue.ready_jobs(connection)] == [need, Need()]
        assert edit.config_of(connection, a) == job("j0").model_copy(update=fields)
        assert edit.config_of(connection, b) == job("j1")
    assert (edits(house, a), edits(house, b)) == ([str(fields)], [])
    assert order(house) == [a, b]


def test_an_edited_queue_timeout_holds(house: House) -> None:
    (a,) = jobs(house, 0)
    change(house, a, queue_timeout_s=30.0)
    with house.store.read() as connection:
        assert [ready.queue_timeout_s for ready in queue.ready_jobs(connection)] == [30]


@pytest.mark.parametrize("pending_only", [True, False])
@pytest.mark.parametrize("state", [S.PENDING, S.LAUNCHING, S.RUNNING, S.SUCCEEDED, S.FAILED])
def test_what_runs_is_not_edited_and_what_has_ended_only_for_a_retry(
    house: House, state: JobState, pending_only: bool
) -> None:
    (a,) = jobs(house, 0)
    bring(house, a, state)
    expected = state is S.PENDING or (state.terminal and not pending_only)
    assert change(house, a, pending_only=pending_only, gpus=1.0) == expected
    with house.store.read() as connection:
        assert edit.config_of(connection, a).gpus == float(expected)
    assert len(edits(house, a)) == expected
    assert views(house, a)[0].state is state


def test_an_edited_priority_changes_the_place_in_the_queue_beside_the_group_s(house: House) -> None:
    a, b = jobs(house, 0, 1)
    (c,) = jobs(house, 0, group="other")
    limit(house, "other", priority=2)
    assert order(house) == [c, b, a]
    change(house, c, priority=-2)
    assert order(house) == [b, a, c]
    change(house, a, priority=9)
    assert order(house) == [a, b, c]


# --------------------------------------------------------------------------------------------------- moving


@pytest.mark.parametrize(
    ("priorities", "moved", "before", "expected"),
    [
        ([0, 0, 0], [3], None, [3, 1, 2]),
        ([0, 0, 0], [2, 3], None, [2, 3, 1]),
        ([0, 0, 0], [1], None, [1, 2, 3]),
        ([0, 0, 0], [3], 2, [1, 3, 2]),
        ([0, 0, 0], [1], 3, [2, 1, 3]),
        ([0, 0, 0, 0], [1, 4], 3, [2, 1, 4, 3]),
        ([0, 5, 9], [1], None, [1, 3, 2]),  # no priority keeps it back
        ([0, 5, 9], [1], 2, [3, 1, 2]),
        ([9, 5, 0], [1], 3, [2, 1, 3]),
        ([9, 5, 5], [2, 3], 1, [2, 3, 1]),
        ([0, 0, 9], [1, 3], 2, [1, 3, 2]),  # those that are moved stand in the order given
    ],
)
def test_jobs_are_moved_to_the_front_or_before_another(
    house: House, priorities: list[int], moved: list[int], before: int | None, expected: list[int]
) -> None:
    jobs(house, *priorities)
    assert sorted(move(house, *moved, before=before)) == moved
    assert order(house) == expected
    said = "moved first" if before is None else f"moved before {before}"
    assert edits(house, *moved) == [said] * len(moved)


def test_what_comes_later_comes_behind_what_was_moved(house: House) -> None:
    a, b = jobs(house, 0, 0)
    move(house, b)
    (c,) = jobs(house, 0, group="late")
    assert order(house) == [b, a, c]
    move(house, c)
    assert order(house) == [c, b, a]


@pytest.mark.parametrize("state", [S.RUNNING, S.FAILED])
def test_only_pending_jobs_are_moved(house: House, state: JobState) -> None:
    a, b, c = jobs(house, 0, 0, 0)
    bring(house, b, state)
    assert move(house, b, c) == [c]
    assert (order(house), edits(house, b)) == ([c, a], [])
    assert move(house, b) == []


def test_with_nothing_else_pending_those_moved_are_ordered_among_themselves(house: House) -> None:
    a, b = jobs(house, 0, 0)
    assert move(house, b, a) == [b, a]
    assert order(house) == [b, a]


def test_any_number_of_jobs_can_be_moved_one_by_one_before_the_same_one(house: House) -> None:
    """Each halves the room that is left there, which is used up after some fifty."""
    first, target, *others = jobs(house, *[0] * 200)
    last = jobs(house, 0, group="late")
    for job_id in reversed(others):
        move(house, job_id, before=target)
    assert order(house) == [first, *reversed(others), target, *last]


def test_jobs_of_one_place_can_be_parted(house: House) -> None:
    a, b, c, d = jobs(house, 0, 5, 0, 0)
    move(house, c)
    move(house, d)
    change(house, a, priority=5)
    with house.store.read() as connection:
        places = dict(connection.execute("SELECT id, place FROM jobs").fetchall())
    assert (order(house), places[a]) == ([a, d, c, b], places[d])
    (x,) = jobs(house, 0, group="late")
    move(house, x, before=d)
    assert order(house) == [a, x, d, c, b]


@pytest.mark.parametrize("what", ["timeout", "the same priority", "the group's limit", "the group's same priority"])
def test_a_move_outlives_edits_of_something_else(house: House, what: str) -> None:
    a, b = jobs(house, 0, 5)
    move(house, a)
    if what == "timeout":
        change(house, a, timeout_s=60.0)
    elif what == "the same priority":
        change(house, a, priority=0)
    elif what == "the group's limit":
        limit(house, max_parallel=1)
    else:
        add(house, job("more", priority=-1), options=GroupConfig(priority=0))
    assert order(house)[:2] == [a, b]


# --------------------------------------------------------------------------------------------------- groups


def test_a_group_s_limits_are_set_one_by_one_and_taken_away(house: House) -> None:
    jobs(house, 0)
    number = group_id(house, "g")

    def limits() -> dict[int, GroupLimits]:
        with house.store.read() as connection:
            return queue.group_limits(connection)

    assert limits() == {}
    limit(house, max_parallel=2)
    limit(house, max_failures=1)
    assert limits() == {number: GroupLimits("g", 2, False)}
    limit(house, max_parallel=None)
    assert limits() == {}
    limit(house)
    assert edits(house, group="g") == ["max_parallel=2", "max_failures=1", "max_parallel=null"]


def test_a_later_submit_changes_only_what_it_names(house: House) -> None:
    add(house, job("a"), options=GroupConfig(max_parallel=3, priority=4, on_end=(Hook(desktop=True),)))
    add(house, job("b"), options=GroupConfig(max_parallel=1))
    add(house, job("c"))
    with house.store.read() as connection:
        row = connection.execute("SELECT max_parallel, priority, on_end FROM groups").fetchone()
        assert (row["max_parallel"], row["priority"], "desktop" in row["on_end"]) == (1, 4, True)


def test_a_group_s_priority_moves_all_its_jobs(house: House) -> None:
    a, b = jobs(house, 0, 1)
    c, d = jobs(house, 2, 0, group="other")
    assert order(house) == [c, b, a, d]
    limit(house, "other", priority=-3)
    assert order(house) == [b, a, c, d]
    limit(house, "other", priority=None)
    assert order(house) == [c, b, a, d]


@pytest.mark.parametrize(
    ("given", "stored"),
    [
        ({"priority": None}, {"priority": 0}),
        ({"max_parallel": None}, {"max_parallel": None}),
        ({"on_end": None}, {"on_end": "[]"}),
    ],
)
def test_what_taking_a_setting_away_stores(given: dict[str, Any], stored: dict[str, Any]) -> None:
    assert edit.columns(given) == stored


# --------------------------------------------------------------------------------------------------- pausing


def test_pause_and_resume_say_whether_they_changed_anything(house: House) -> None:
    jobs(house, 0)
    steps = [(True, True), (True, False), (False, True), (False, False)]
    assert [pause(house, paused=paused) for paused, _ in steps] == [changed for _, changed in steps]
    assert edits(house, group="g") == ["paused", "resumed"]


def test_the_time_in_a_paused_group_is_no_waiting_for_slots(house: House) -> None:
    a, b = add(house, job("a"), job("b", depends_on=("a",)))
    (c,) = jobs(house, 0, group="other")
    clock: Clock = house.clock
    assert isinstance(clock, ManualClock)
    begin = clock.now()
    pause(house, paused=True)
    clock.advance(1000)
    pause(house, paused=False)
    with house.store.read() as connection:
        since = {ready.job_id: ready.ready_at for ready in queue.ready_jobs(connection)}
    assert since == {a: clock.now(), c: begin}
    assert views(house, b)[0].state is S.PENDING
    clock.advance(1000)
    assert not pause(house, paused=False)  # it was not paused, so its jobs have waited
    with house.store.read() as connection:
        assert {ready.job_id: ready.ready_at for ready in queue.ready_jobs(connection)} == since
