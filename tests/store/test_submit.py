from __future__ import annotations

from pathlib import Path

import pytest

from metta_jobs.daemon.tick import House
from metta_jobs.errors import AlreadyExists, DependencyCycle, InvalidInput, UnknownName
from metta_jobs.job import Dependency, JobConfig
from metta_jobs.states import DependencyKind, JobState
from metta_jobs.store import transitions
from metta_jobs.testing import add, make_house, states, views


def job(name: str, *after: str | int) -> JobConfig:
    return JobConfig(name=name, command=("true",), depends_on=after)  # type: ignore[arg-type]


def count(house: House) -> int:
    with house.store.read() as connection:
        return int(connection.execute("SELECT count(*) FROM jobs").fetchone()[0])


def test_jobs_come_in_pending_with_their_parents(tmp_path: Path) -> None:
    house = make_house(tmp_path)
    a, b, c = add(house, job("a"), job("b", "a"), job("c", "afterany:a", "afternotok:b"))
    assert states(house, a, b, c) == [JobState.PENDING] * 3
    (view,) = views(house, c)
    assert [(p.name, p.kind) for p in view.parents] == [
        ("a", DependencyKind.AFTERANY),
        ("b", DependencyKind.AFTERNOTOK),
    ]


def test_parents_may_be_named_by_id_and_across_groups_and_later_in_the_list(tmp_path: Path) -> None:
    house = make_house(tmp_path)
    (a,) = add(house, job("a"), group="one")
    b, c, d = add(house, job("b", a), job("c", "one/a"), job("d", "e"), job("e"), group="two")[:3]
    assert [[p.job_id for p in view.parents] for view in views(house, b, c)] == [[a], [a]]
    assert views(house, d)[0].parents[0].name == "e"


@pytest.mark.parametrize(
    ("jobs", "error", "says"),
    [
        ([job("a"), job("b", "c")], UnknownName, "'b' depends on 'c'"),
        ([job("train"), job("b", "trian")], UnknownName, "Did you mean 'train'"),
        ([job("a"), job("b", 77)], UnknownName, "77"),
        ([job("a", "b"), job("b", "c"), job("c", "a")], DependencyCycle, "a → b → c → a|b → c → a → b|c → a → b → c"),
        ([job("x"), job("a", "a")], DependencyCycle, "a → a"),
        ([job("a"), job("a")], AlreadyExists, "once is enough"),
        ([job("a"), job("b", "a", "afterany:a")], InvalidInput, "twice"),
    ],
)
def test_what_cannot_be_is_refused_and_nothing_is_stored(
    tmp_path: Path, jobs: list[JobConfig], error: type[Exception], says: str
) -> None:
    house = make_house(tmp_path)
    with pytest.raises(error, match=says):
        add(house, *jobs)
    assert count(house) == 0


def test_a_taken_name_says_how_to_run_it_again(tmp_path: Path) -> None:
    house = make_house(tmp_path)
    add(house, job("a"))
    with pytest.raises(AlreadyExists, match="metta job retry 1"):
        add(house, job("a"))
    add(house, job("a"), group="other")  # the same name in another group is another job


def test_a_diamond_is_no_cycle_and_a_long_chain_needs_no_recursion(tmp_path: Path) -> None:
    house = make_house(tmp_path)
    add(house, job("a"), job("b", "a"), job("c", "a"), job("d", "b", "c"))
    chain = [job("n0"), *(job(f"n{i}", f"n{i - 1}") for i in range(1, 1500))]
    assert len(add(house, *chain, group="chain")) == 1500


@pytest.mark.parametrize(
    "name", ["", "a b", "-x", "🙂", "a/b", "..", "x" * 129, "训" * 67, "14", "a\n", "$(rm)", "a;b"]
)
def test_names_that_cannot_be(name: str) -> None:
    with pytest.raises(ValueError, match="name"):
        JobConfig(name=name, command=("true",))


@pytest.mark.parametrize("name", ["a", "训练", "läuft", "lr=1e-3,seed=2", "a.b-c_d", "x@y+z", "_", "1e-3"])
def test_names_that_can(name: str) -> None:
    assert JobConfig(name=name, command=("true",)).name == name


def test_secrets_in_a_job_s_environment_are_refused() -> None:
    with pytest.raises(ValueError, match="WANDB_API_KEY looks like a secret"):
        JobConfig(name="a", command=("true",), env={"WANDB_API_KEY": "x"})


def test_dependencies_as_typed() -> None:
    assert Dependency.parse("14") == Dependency(job=14)
    assert Dependency.parse("afterany:g/a") == Dependency(job="g/a", kind=DependencyKind.AFTERANY)
    with pytest.raises(ValueError, match="afterok, afterany, afternotok"):
        Dependency.parse("afterwards:a")


def test_a_whole_group_can_be_waited_for_and_never_one_s_own(tmp_path: Path) -> None:
    assert Dependency.parse("afterany:g/") == Dependency(group="g", kind=DependencyKind.AFTERANY)
    house = make_house(tmp_path)
    a, b = add(house, job("a"), job("b"), group="one")
    (c,) = add(house, job("c", "one/"), group="two")
    assert [parent.job_id for parent in views(house, c)[0].parents] == [a, b]
    with pytest.raises(InvalidInput, match="cannot wait for its own group"):
        add(house, job("d", "two/"), group="two")
    with pytest.raises(UnknownName, match="Did you mean 'one'"):
        add(house, job("e", "oen/"), group="two")


def test_what_is_ruled_out_from_the_beginning_is_skipped_at_once(tmp_path: Path) -> None:
    house = make_house(tmp_path)
    (a,) = add(house, job("a"))
    with house.store.write() as connection:
        transitions.cancel(connection, house.clock.now(), [a])
    b, c, d = add(house, job("b", "g/a"), job("c", "b"), job("d", "afterany:c"), group="late")
    assert [(v.state, v.reason) for v in views(house, b, c)] == [
        (JobState.SKIPPED, "g/a was killed"),
        (JobState.SKIPPED, "b was skipped"),
    ]
    assert views(house, d)[0].state is JobState.PENDING
