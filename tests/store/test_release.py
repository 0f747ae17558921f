from __future__ import annotations

from pathlib import Path

import pytest

from metta_jobs.daemon.house import House
from metta_jobs.job import JobConfig
from metta_jobs.policy import GroupConfig
from metta_jobs.states import TERMINAL, DependencyKind, JobState
from metta_jobs.store import queue, read, release, transitions
from metta_jobs.store.audit import audit
from metta_jobs.store.transitions import End, Start
from metta_jobs.testing import add, make_house, states, views

S = JobState
WELL, BADLY = S.SUCCEEDED, S.FAILED


@pytest.fixture
def house(tmp_path: Path) -> House:
    return make_house(tmp_path)


def job(name: str, *after: str) -> JobConfig:
    return JobConfig(name=name, command=("x",), depends_on=after)


def end(house: House, job_id: int, state: JobState, *, again_s: float | None = None) -> None:
    """Let a pending job come to this end."""
    with house.store.write() as connection:
        now = house.clock.now()
        if state is S.SKIPPED:
            assert transitions.skip(connection, now, {job_id: "because"})
        else:
            attempt = transitions.claim(connection, now, [Start(job_id, "local", "")], "")[job_id]
            assert transitions.finish(connection, now, [End(job_id, attempt, state, again_s=again_s)])
        assert audit(connection) == []


def retry(house: House, *ids: int) -> list[int]:
    with house.store.write() as connection:
        done = transitions.retry(connection, house.clock.now(), ids)
        assert audit(connection) == []
    return done


def waiting(house: House) -> list[int]:
    """The jobs that wait for slots only."""
    with house.store.read() as connection:
        return [ready.job_id for ready in queue.ready_jobs(connection)]


def told(house: House, *ids: int) -> list[tuple[JobState, str | None]]:
    return [(view.state, view.reason) for view in views(house, *ids)]


# --------------------------------------------------------------------------------------------------- one parent


@pytest.mark.parametrize("ended", sorted(TERMINAL))
@pytest.mark.parametrize("kind", DependencyKind)
def test_one_parent_s_end_lets_the_child_wait_for_slots_or_skips_it(
    house: House, kind: DependencyKind, ended: JobState
) -> None:
    a, b = add(house, job("a"), job("b", f"{kind.value}:a"))
    assert waiting(house) == [a]
    end(house, a, ended)
    if kind.met(ended):
        assert waiting(house) == [b]
    else:
        assert (waiting(house), told(house, b)) == ([], [(S.SKIPPED, f"a {release.past(ended)}")])


@pytest.mark.parametrize(
    ("state", "said"),
    [
        (S.SUCCEEDED, "succeeded"),
        (S.FAILED, "failed"),
        (S.TIMED_OUT, "timed out"),
        (S.KILLED, "was killed"),
        (S.LOST, "was lost"),
        (S.SKIPPED, "was skipped"),
    ],
)
def test_what_has_become_of_a_parent_is_said(state: JobState, said: str) -> None:
    assert release.past(state) == said


def test_a_parent_elsewhere_is_named_with_its_group(house: House) -> None:
    (a,) = add(house, job("a"), group="one")
    (b,) = add(house, job("b", "one/a"), group="two")
    end(house, a, BADLY)
    assert told(house, b) == [(S.SKIPPED, "one/a failed")]


def test_an_attempt_that_is_followed_by_another_decides_nothing(house: House) -> None:
    a, b, c = add(house, job("a"), job("b", "a"), job("c", "afternotok:a"))
    end(house, a, BADLY, again_s=0)
    assert states(house, a, b, c) == [S.PENDING] * 3
    assert waiting(house) == [a]
    end(house, a, WELL)
    assert (waiting(house), told(house, c)) == ([b], [(S.SKIPPED, "a succeeded")])


# --------------------------------------------------------------------------------------------------- several parents


@pytest.mark.parametrize(
    ("after", "ends", "child"),
    [
        (["a", "b", "c"], {"a": WELL, "b": WELL}, "blocked"),
        (["a", "b", "c"], {"c": WELL, "b": WELL}, "blocked"),
        (["a", "b", "c"], {"c": WELL, "a": WELL, "b": WELL}, "ready"),
        (["a", "b", "c"], {"b": BADLY}, "b failed"),
        (["afterany:a", "afterany:b"], {"b": BADLY}, "blocked"),
        (["afterany:a", "afterany:b"], {"b": BADLY, "a": S.KILLED}, "ready"),
        (["afternotok:a", "afternotok:b"], {"a": BADLY, "b": S.LOST}, "ready"),
        (["afternotok:a", "afternotok:b"], {"a": BADLY, "b": WELL}, "b succeeded"),
        (["a", "afternotok:b", "afterany:c"], {"b": BADLY, "c": BADLY}, "blocked"),
        (["a", "afternotok:b", "afterany:c"], {"b": BADLY, "c": BADLY, "a": WELL}, "ready"),
        (["a", "afternotok:b", "afterany:c"], {"a": S.TIMED_OUT}, "a timed out"),
    ],
)
def test_a_child_waits_for_all_its_parents_and_is_skipped_by_one(
    house: House, after: list[str], ends: dict[str, JobState], child: str
) -> None:
    ids = dict(zip("abcd", add(house, job("a"), job("b"), job("c"), job("d", *after)), strict=True))
    for name, state in ends.items():
        end(house, ids[name], state)
    (view,) = views(house, ids["d"])
    if view.state is S.PENDING:
        assert ("ready" if ids["d"] in waiting(house) else "blocked") == child
    else:
        assert (view.state, view.reason) == (S.SKIPPED, child)


# --------------------------------------------------------------------------------------------------- whole groups


@pytest.mark.parametrize(
    ("kind", "ends", "child"),
    [
        ("afterok", [WELL, WELL], "blocked"),
        ("afterok", [WELL, WELL, WELL], "ready"),
        ("afterok", [BADLY], "g/a failed"),
        ("afterany", [BADLY, WELL], "blocked"),
        ("afterany", [BADLY, S.LOST, S.SKIPPED], "ready"),
        ("afternotok", [BADLY, BADLY], "blocked"),  # all of them have to end
        ("afternotok", [WELL, BADLY, WELL], "ready"),
        ("afternotok", [WELL, WELL, S.SKIPPED], "ready"),
        ("afternotok", [WELL, WELL, WELL], "all of g succeeded"),
    ],
)
def test_a_whole_group_is_waited_for(house: House, kind: str, ends: list[JobState], child: str) -> None:
    members = add(house, job("a"), job("b"), job("c"))
    (late,) = add(house, job("late", f"{kind}:g/"), group="after")
    add(house, job("d"))  # it came later, so nobody waits for it
    for member, state in zip(members, ends, strict=False):
        end(house, member, state)
    if child in ("ready", "blocked"):
        assert (states(house, late), late in waiting(house)) == ([S.PENDING], child == "ready")
    else:
        assert told(house, late) == [(S.SKIPPED, child)]


@pytest.mark.parametrize(
    ("ends", "other", "child"),
    [
        ([WELL, WELL], None, "blocked"),  # whether it is in vain is asked when nothing else holds it back
        ([WELL, WELL], WELL, "all of g succeeded"),
        ([WELL, BADLY], WELL, "ready"),
        ([WELL, BADLY], BADLY, "o failed"),
    ],
)
def test_a_group_and_a_job_are_waited_for_together(
    house: House, ends: list[JobState], other: JobState | None, child: str
) -> None:
    members = add(house, job("a"), job("b"))
    o, late = add(house, job("o"), job("late", "afternotok:g/", "o"), group="after")
    for one, state in zip([*members, o], [*ends, other], strict=True):
        if state is not None:
            end(house, one, state)
    (view,) = views(house, late)
    if view.state is S.PENDING:
        assert ("ready" if late in waiting(house) else "blocked") == child
    else:
        assert (view.state, view.reason) == (S.SKIPPED, child)


def test_a_failure_in_each_of_two_groups_is_waited_for(house: House) -> None:
    (a,), (b,) = add(house, job("a"), group="one"), add(house, job("b"), group="two")
    (late,) = add(house, job("late", "afternotok:one/", "afternotok:two/"), group="after")
    end(house, a, BADLY)
    end(house, b, WELL)
    assert told(house, late) == [(S.SKIPPED, "all of two succeeded")]


# --------------------------------------------------------------------------------------------------- cascades


def test_what_cannot_run_any_more_takes_its_children_along_each_with_its_own_reason(house: House) -> None:
    a, b, c, d, e = add(
        house, job("a"), job("b", "a"), job("c", "b"), job("d", "afternotok:c"), job("e", "afterany:b", "d")
    )
    end(house, a, BADLY)
    assert told(house, b, c) == [(S.SKIPPED, "a failed"), (S.SKIPPED, "b was skipped")]
    assert waiting(house) == [d]
    end(house, d, WELL)
    assert waiting(house) == [e]


def chain(house: House) -> list[int]:
    return add(house, job("n0"), *(job(f"n{i}", f"n{i - 1}") for i in range(1, 1000)))


def test_a_chain_of_a_thousand_is_skipped_to_its_end_and_revived(house: House) -> None:
    first, *rest = ids = chain(house)
    end(house, first, BADLY)
    assert told(house, rest[0], rest[-1]) == [(S.SKIPPED, "n0 failed"), (S.SKIPPED, "n998 was skipped")]
    assert set(states(house, *rest)) == {S.SKIPPED}
    assert retry(house, first) == [first]
    assert (set(states(house, *ids)), waiting(house)) == ({S.PENDING}, [first])


def test_a_chain_of_a_thousand_runs_one_after_another(house: House) -> None:
    ids, now = chain(house), house.clock.now()
    with house.store.write() as connection:
        for job_id, next_id in zip(ids, [*ids[1:], None], strict=True):
            starts = [Start(one, "local", "") for one in (job_id, next_id) if one]
            assert transitions.claim(connection, now, starts, "") == {job_id: 1}
            assert transitions.finish(connection, now, [End(job_id, 1, WELL)]) == [job_id]


def test_a_thousand_children_of_one_parent_follow_it(house: House) -> None:
    a, *children = add(house, job("a"), *(job(f"c{i}", "a") for i in range(1000)))
    end(house, a, S.LOST)
    assert set(told(house, *children)) == {(S.SKIPPED, "a was lost")}


# --------------------------------------------------------------------------------------------------- retries


def test_a_retry_of_the_parent_lets_its_child_wait_again(house: House) -> None:
    a, b = add(house, job("a"), job("b", "a"))
    end(house, a, BADLY)
    retry(house, a)
    assert waiting(house) == [a]
    end(house, a, WELL)
    assert waiting(house) == [b]


@pytest.mark.parametrize("after", ["afterany:a", "afternotok:a", "afterany:b", "afternotok:b", "afterany:c"])
def test_a_child_that_was_free_to_start_waits_again_for_what_is_tried_again(house: House, after: str) -> None:
    """b and c are revived with a: who waits for their ends has to wait for those to come."""
    a, b, c, d = add(house, job("a"), job("b", "a"), job("c", "b"), job("d", after))
    end(house, a, BADLY)
    assert (states(house, b, c), waiting(house)) == ([S.SKIPPED] * 2, [d])
    retry(house, a)
    assert (states(house, b, c), waiting(house)) == ([S.PENDING] * 2, [a])


def test_a_group_with_a_job_that_is_tried_again_has_not_ended(house: House) -> None:
    a, b = add(house, job("a"), job("b"))
    (late,) = add(house, job("late", "afternotok:g/"), group="after")
    end(house, a, BADLY)
    end(house, b, WELL)
    assert waiting(house) == [late]
    retry(house, a)
    assert waiting(house) == [a]
    end(house, a, WELL)
    assert told(house, late) == [(S.SKIPPED, "all of g succeeded")]


def test_what_another_parent_rules_out_stays_skipped_with_that_reason(house: House) -> None:
    a, b, c, d = add(house, job("a"), job("b"), job("c", "a", "b"), job("d", "c"))
    end(house, a, BADLY)
    end(house, b, S.KILLED)
    retry(house, a)
    assert told(house, c, d) == [(S.SKIPPED, "b was killed"), (S.SKIPPED, "c was skipped")]
    retry(house, b)
    assert (states(house, c, d), waiting(house)) == ([S.PENDING] * 2, [a, b])


def test_a_child_that_has_run_is_not_run_again_by_its_parent_s_retry(house: House) -> None:
    a, b = add(house, job("a"), job("b", "afterany:a"))
    end(house, a, BADLY)
    end(house, b, WELL)
    retry(house, a)
    assert states(house, a, b) == [S.PENDING, WELL]


def test_a_skipped_job_alone_is_skipped_again_while_its_parent_stands(house: House) -> None:
    a, b = add(house, job("a"), job("b", "a"))
    end(house, a, BADLY)
    retry(house, b)
    assert told(house, b) == [(S.SKIPPED, "a failed")]
    with house.store.read() as connection:
        moves = [event.to_state for event in read.event_views(connection, [b])]
    assert moves == [S.PENDING, S.SKIPPED, S.PENDING, S.SKIPPED]


def test_too_many_failures_skip_the_rest_of_the_group_and_what_waits_for_it(house: House) -> None:
    a, b = add(house, job("a"), job("b"), options=GroupConfig(max_failures=1))
    c, d = add(house, job("c", "g/b"), job("d", "afterany:g/"), group="after")
    end(house, a, BADLY)
    assert told(house, b, c) == [
        (S.SKIPPED, "the group was stopped after 1 failure (max_failures)"),
        (S.SKIPPED, "g/b was skipped"),
    ]
    assert waiting(house) == [d]
