from __future__ import annotations

import json
import time
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from metta_jobs.daemon.house import House
from metta_jobs.daemon.tick import tick
from metta_jobs.job import JobConfig
from metta_jobs.policy import GroupConfig, Hook, RetryPolicy
from metta_jobs.states import JobState
from metta_jobs.store import outbox, wishes
from metta_jobs.store.outbox import PAUSES_S, Tried
from metta_jobs.store.words import DeliveryState
from metta_jobs.testing import FakeExecutor, ManualClock, add, make_house, states

DESKTOP = Hook(desktop=True)
TEAM = GroupConfig(on_end=(DESKTOP,))


def job(name: str, *after: str, **fields: object) -> JobConfig:
    return JobConfig(name=name, command=("x",), depends_on=after, **fields)  # type: ignore[arg-type]


def settle(house: House) -> None:
    quiet = 0
    while quiet < 3:
        quiet = 0 if tick(house) else quiet + 1


def end(house: House, job_id: int, code: int, attempt: int = 1) -> None:
    settle(house)
    executor = house.executors["local"]
    assert isinstance(executor, FakeExecutor)
    executor.end((job_id, attempt), code)
    settle(house)


def advance(house: House, seconds: float) -> None:
    assert isinstance(house.clock, ManualClock)
    house.clock.advance(seconds)


def told(house: House, event: str | None = None) -> list[dict[str, Any]]:
    """The facts of all messages, oldest first."""
    with house.store.read() as connection:
        rows = connection.execute("SELECT facts FROM deliveries ORDER BY id").fetchall()
    facts = [json.loads(row["facts"]) for row in rows]
    return [one for one in facts if event in (None, one["event"])]


def due(house: House) -> list[int]:
    with house.store.read() as connection:
        return [d.delivery_id for d in outbox.waiting(connection, house.clock.now())]


def record(house: House, *tries: Tried) -> list[DeliveryState]:
    with house.store.write() as connection:
        return list(outbox.record(connection, house.clock.now(), tries).values())


def hook_events(house: House) -> list[tuple[int | None, int | None, str]]:
    with house.store.read() as connection:
        rows = connection.execute("SELECT * FROM events WHERE kind = 'hook' ORDER BY id").fetchall()
    return [(row["job_id"], row["attempt"], row["reason"]) for row in rows]


def test_the_end_of_a_job_is_told_with_its_facts(tmp_path: Path) -> None:
    house = make_house(tmp_path)
    a, b = add(house, job("a", on_end=DESKTOP), job("b"))
    settle(house)
    advance(house, 90)
    end(house, a, 3)
    end(house, b, 0)
    assert told(house) == [
        {
            "event": "job_ended",
            "group": "g",
            "job_id": a,
            "name": "a",
            "state": "failed",
            "outcome": "failure",
            "exit_code": 3,
            "reason": "exit code 3",
            "attempt": 1,
            "duration_s": 90.0,
        }
    ]


@pytest.mark.parametrize(
    ("end_of_it", "told_on"),
    [("0", {"any", "success"}), ("1", {"any", "failure"}), ("kill", {"any"}), ("skip", {"any"})],
)
def test_hooks_choose_the_ends_that_they_tell(tmp_path: Path, end_of_it: str, told_on: set[str]) -> None:
    house = make_house(tmp_path)
    hooks = tuple(Hook(command=(on,), on=on) for on in ("any", "failure", "success"))
    group = GroupConfig(on_end=tuple(Hook(command=(f"group {hook.on}",), on=hook.on) for hook in hooks))
    (parent,) = add(house, job("parent"), group="before")
    end(house, parent, 1)
    after = f"{'afterok' if end_of_it == 'skip' else 'afterany'}:before/parent"
    (a,) = add(house, job("a", after, on_end=hooks), options=group)
    if end_of_it == "kill":
        with house.store.write() as connection:
            wishes.wish_kill(connection, house.clock.now(), [a])
        settle(house)
    elif end_of_it != "skip":
        end(house, a, int(end_of_it))
    with house.store.read() as connection:
        rows = connection.execute("SELECT hook FROM deliveries").fetchall()
    got = {json.loads(row["hook"])["command"][0] for row in rows}
    assert got == told_on | {f"group {on}" for on in told_on}


def test_a_group_is_told_once_with_counts_and_the_first_failures(tmp_path: Path) -> None:
    house = make_house(tmp_path, cpus=50)
    ids = add(house, *(job(f"j{i}") for i in range(14)), job("late", "j0"), options=TEAM)
    settle(house)
    advance(house, 3600)
    for job_id in ids[:-2]:
        assert told(house) == []
        end(house, job_id, 1)
    end(house, ids[-2], 0)  # `late` was skipped as soon as j0 had failed
    (facts,) = told(house)
    assert (facts["event"], facts["state"], facts["duration_s"]) == ("group_ended", "failed", 3600.0)
    assert facts["counts"] == {"succeeded": 1, "failed": 13, "timed_out": 0, "killed": 0, "lost": 0, "skipped": 1}
    assert [failure["name"] for failure in facts["failures"]] == [f"j{i}" for i in range(10)]
    assert facts["failures"][0]["reason"] == "exit code 1"


def test_an_end_that_skips_all_the_rest_is_one_ending(tmp_path: Path) -> None:
    house = make_house(tmp_path)
    (a, *_) = add(house, job("a"), job("b", "a"), job("c", "b"), job("d", "a", "c"), options=TEAM)
    add(house, job("e", "g/a"), group="other", options=TEAM)
    end(house, a, 1)
    assert [(facts["group"], facts["state"]) for facts in told(house)] == [("other", "skipped"), ("g", "failed")]


def test_jobs_that_end_in_the_same_round_are_one_ending(tmp_path: Path) -> None:
    house = make_house(tmp_path)
    a, b = add(house, job("a"), job("b"), options=TEAM)
    settle(house)
    executor = house.executors["local"]
    assert isinstance(executor, FakeExecutor)
    executor.end((a, 1), 0)
    executor.end((b, 1), 0)
    settle(house)
    assert [facts["counts"]["succeeded"] for facts in told(house)] == [2]


def test_what_is_tried_again_has_not_ended(tmp_path: Path) -> None:
    house = make_house(tmp_path)
    policy = RetryPolicy(max_attempts=2, backoff_s=10)
    (a,) = add(house, job("a", retry=policy, on_end=DESKTOP), options=TEAM)
    settle(house)
    advance(house, 1)
    end(house, a, 1)
    assert (states(house, a), told(house)) == ([JobState.PENDING], [])
    advance(house, 11)
    end(house, a, 1, attempt=2)
    assert [(facts["event"], facts.get("attempt")) for facts in told(house)] == [
        ("job_ended", 2),
        ("group_ended", None),
    ]


def test_a_group_that_was_added_to_or_retried_is_told_again(tmp_path: Path) -> None:
    house = make_house(tmp_path)
    (a,) = add(house, job("a"), options=TEAM)
    end(house, a, 1)
    (b,) = add(house, job("b"))
    assert len(told(house)) == 1
    end(house, b, 0)
    assert len(told(house)) == 2
    with house.store.write() as connection:
        wishes.wish_retry(connection, house.clock.now(), [a])
    settle(house)
    assert len(told(house)) == 2
    end(house, a, 0, attempt=2)
    assert [facts["state"] for facts in told(house)] == ["failed", "failed", "succeeded"]


def test_what_waited_for_a_failure_in_vain_spoils_no_success(tmp_path: Path) -> None:
    house = make_house(tmp_path)
    a, b = add(house, job("a"), job("on_failure", "afternotok:a"), options=TEAM)
    end(house, a, 0)
    assert states(house, b) == [JobState.SKIPPED]
    assert [facts["state"] for facts in told(house)] == ["succeeded"]


def test_a_job_cancelled_before_its_next_attempt_has_not_run(tmp_path: Path) -> None:
    house = make_house(tmp_path)
    (a,) = add(house, job("a", retry=RetryPolicy(backoff_s=60), on_end=DESKTOP))
    settle(house)
    advance(house, 5)
    end(house, a, 1)
    advance(house, 1)
    with house.store.write() as connection:
        wishes.wish_kill(connection, house.clock.now(), [a])
    settle(house)
    (facts,) = told(house)
    assert (facts["state"], facts["exit_code"], facts["duration_s"]) == ("killed", None, None)


def test_a_transaction_that_fails_tells_nothing(tmp_path: Path) -> None:
    house = make_house(tmp_path)
    (a,) = add(house, job("a", on_end=DESKTOP))
    with pytest.raises(ZeroDivisionError), house.store.write() as connection:
        connection.execute("UPDATE jobs SET state = 'failed', finished_at = '2026' WHERE id = ?", (a,))
        outbox.note_job_ends(connection, house.clock.now(), [a])
        assert outbox.count_waiting(connection) == 1
        raise ZeroDivisionError
    assert told(house) == []


def test_five_tries_with_growing_pauses_then_given_up(tmp_path: Path) -> None:
    house = make_house(tmp_path)
    (a,) = add(house, job("a", on_end=Hook(webhook="TEAM_SLACK")))
    end(house, a, 0)
    (message,) = due(house)
    for pause in PAUSES_S:
        assert record(house, Tried(message, "answered 503")) == [DeliveryState.WAITING]
        advance(house, pause - 0.5)
        assert due(house) == []
        advance(house, 1)
        assert due(house) == [message]
    assert hook_events(house) == []
    assert record(house, Tried(message, "answered 503")) == [DeliveryState.GIVEN_UP]
    assert hook_events(house) == [(a, 1, "given up after 5 tries: the webhook TEAM_SLACK: answered 503")]
    assert record(house, Tried(message)) == []  # it is over
    advance(house, 1e6)
    assert due(house) == []


def test_a_delivery_is_an_event_and_happens_once(tmp_path: Path) -> None:
    house = make_house(tmp_path)
    (a,) = add(house, job("a"), options=GroupConfig(on_end=(Hook(command=("tell", "me")),)))
    end(house, a, 0)
    (message,) = due(house)
    assert record(house, Tried(message), Tried(message, "again")) == [DeliveryState.DELIVERED]
    assert hook_events(house) == [(None, None, "told by the command tell")]
    assert record(house, Tried(message), Tried(999)) == []


def test_a_receiver_may_ask_for_a_longer_pause_within_reason(tmp_path: Path) -> None:
    house = make_house(tmp_path)
    (a,) = add(house, job("a", on_end=DESKTOP))
    end(house, a, 0)
    (message,) = due(house)
    record(house, Tried(message, "answered 429", wait_s=60))
    advance(house, 59)
    assert due(house) == []
    advance(house, 2)
    assert due(house) == [message]
    record(house, Tried(message, "answered 429", wait_s=1e9))
    advance(house, PAUSES_S[-1] + 1)
    assert due(house) == [message]


@pytest.mark.parametrize("jump", [-86_400 * 365, 86_400 * 365])
def test_a_wrong_clock_that_is_set_right_holds_nothing_up(tmp_path: Path, jump: float) -> None:
    house = make_house(tmp_path)
    (a,) = add(house, job("a", on_end=DESKTOP))
    end(house, a, 0)
    (message,) = due(house)
    record(house, Tried(message, "no"))
    assert isinstance(house.clock, ManualClock)
    house.clock.jump(jump)
    assert due(house) == [message]


def test_the_oldest_message_of_each_hook_is_due(tmp_path: Path) -> None:
    house = make_house(tmp_path, cpus=9)
    ids = add(house, *(job(f"j{i}", on_end=(DESKTOP, Hook(webhook="W"))) for i in range(3)))
    for job_id in ids:
        end(house, job_id, 0)
    first, other = due(house)
    record(house, Tried(first, "no"))
    assert due(house) == [other, first + 2]


def _add_ended(connection: Any, count: int) -> Sequence[int]:
    """Jobs as they are stored when they have just ended."""
    at = "2026-01-01T00:00:00.000000+00:00"
    env = {f"V{i}": "value" * 5 for i in range(20)}
    connection.execute("INSERT INTO environments VALUES ('none', '{}', '[]')")
    connection.execute("INSERT INTO groups (id, name, created_at) VALUES (1, 'g', ?)", (at,))
    connection.executemany(
        "INSERT INTO jobs (id, group_id, name, state, config, environment, place, created_at, finished_at) "
        "VALUES (?1, 1, 'j' || ?1, 'failed', ?2, 'none', ?1, ?3, ?3)",
        [(i, job(f"j{i}", env=env).model_dump_json(), at) for i in range(1, count + 1)],
    )
    return range(1, count + 1)


def test_without_hooks_an_end_costs_next_to_nothing(tmp_path: Path) -> None:
    house = make_house(tmp_path)
    with house.store.write() as connection:
        ids = _add_ended(connection, 1000)
        began = time.process_time()
        outbox.note_job_ends(connection, house.clock.now(), ids)
        took = time.process_time() - began
    assert told(house) == []
    assert took < 0.1, f"{took * 1e3:.1f} µs a job"  # measured: 2 µs


def test_a_thousand_ends_of_one_group_are_one_digest(tmp_path: Path) -> None:
    house = make_house(tmp_path)
    with house.store.write() as connection:
        ids = _add_ended(connection, 1000)
        connection.execute("UPDATE groups SET on_end = ?", (json.dumps([DESKTOP.model_dump()]),))
        outbox.note_job_ends(connection, house.clock.now() + timedelta(hours=1), ids)
    (facts,) = told(house)
    assert (facts["counts"]["failed"], len(facts["failures"]), facts["duration_s"]) == (1000, 10, 3600.0)
