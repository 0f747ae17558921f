from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from metta_jobs.daemon.slots import Slots
from metta_jobs.store.capacity import Machine
from metta_jobs.store.queue import Holding, Need

TWO = ("0", "1")


def machine(gpus: tuple[str, ...] = (), *, cpus: float = 64, memory_gb: float = 64, **more: object) -> Machine:
    return Machine(cpus, memory_gb, gpus, **more)  # type: ignore[arg-type]


def holding(job: int, need: Need, gpus: tuple[str, ...] = (), *, group: int = 1, lane: str = "") -> Holding:
    """What an attempt of this job holds; in a lane of its own unless one is named."""
    share = need.gpus if 0 < need.gpus < 1 else 1
    return Holding(job, group, lane or f"lane {job}", gpus, share, need.cpus, need.memory_gb)


def fill(slots: Slots, *wanted: float) -> list[tuple[str, ...]]:
    """Give GPUs to jobs that want so many, one after another; return what each has got."""
    got = []
    for job, gpus in enumerate(wanted, len(slots.lanes) + 1):
        need = Need(gpus)
        chosen = slots.choose(gpus)
        assert bool(chosen) == (slots.lacks(need) is None)
        if chosen:
            slots.take(holding(job, need, chosen))
        got.append(chosen)
    return got


@pytest.mark.parametrize(
    ("gpus", "wanted", "got"),
    [
        (TWO, [1, 1, 1], [("0",), ("1",), ()]),
        (TWO, [2, 1], [TWO, ()]),
        (TWO, [1, 2], [("0",), ()]),
        (TWO, [3], [()]),
        (TWO, [0.5, 0.5, 1], [("0",), ("0",), ("1",)]),
        (TWO, [0.5, 1, 0.5], [("0",), ("1",), ("0",)]),
        (TWO, [0.6, 0.6, 0.6], [("0",), ("1",), ()]),
        (TWO, [0.5, 0.7, 0.3, 0.5, 0.1], [("0",), ("1",), ("1",), ("0",), ()]),  # where least is left, not where first
        (("0", "1", "2"), [0.7, 0.5, 0.5, 0.3, 1], [("0",), ("1",), ("1",), ("0",), ("2",)]),
        (TWO, [0.1, 2], [("0",), ()]),
        (("GPU-b", "GPU-a"), [1, 1], [("GPU-b",), ("GPU-a",)]),  # in the order of the machine
        ((), [0.1, 1], [(), ()]),
    ],
)
def test_gpus_are_given_whole_or_packed_so_that_whole_ones_stay_free(
    gpus: tuple[str, ...], wanted: list[float], got: list[tuple[str, ...]]
) -> None:
    assert fill(Slots(machine(gpus)), *wanted) == got


@pytest.mark.parametrize(
    ("share", "fit"), [(1 / 3, 3), (0.3333333333333333, 3), (0.1, 10), (0.2, 5), (1 / 7, 7), (0.34, 2), (0.15, 6)]
)
def test_sums_of_fractions_neither_lose_a_share_nor_exceed_the_device(share: float, fit: int) -> None:
    slots = Slots(machine(("0",)))
    assert fill(slots, *[share] * (fit + 1)) == [("0",)] * fit + [()]
    assert not slots.choose(1)


@pytest.mark.parametrize("gpus", [1, 0.1])
def test_a_device_that_a_neighbour_fills_is_not_given(gpus: float) -> None:
    slots = Slots(machine(TWO, busy={"0": "8 GB in use by python (31)"}))
    assert slots.choose(gpus) == ("1",)
    assert slots.lacks(Need(2)) == "not enough free GPUs (wants 2; 0: 8 GB in use by python (31))"
    slots.take(holding(5, Need(1), ("1",)))
    assert slots.lacks(Need(1)) == "no free GPU (1 of 2 in use by 5; 0: 8 GB in use by python (31))"


def test_a_device_that_is_gone_is_neither_given_nor_counted() -> None:
    slots = Slots(machine(("1",)), [holding(5, Need(1), ("0",))])
    assert slots.choose(1) == ("1",)


@pytest.mark.parametrize(
    ("has", "held", "need", "reason"),
    [
        ({"cpus": 2}, [Need()], Need(), None),
        ({"cpus": 2}, [Need(), Need()], Need(), "no free CPU slot (2 of 2 in use by 1, 2)"),
        ({"cpus": 2.5}, [Need(cpus=2)], Need(cpus=0.5), None),
        ({"cpus": 2.5}, [Need(cpus=2)], Need(), "no free CPU slot (2 of 2.5 in use by 1)"),
        ({"cpus": 1}, [Need(cpus=0.1)] * 9, Need(cpus=0.1), None),
        ({"cpus": 1}, [Need()], Need(cpus=0), None),
        ({"cpus": 8}, [Need()] * 8, Need(), "no free CPU slot (8 of 8 in use by 1, 2, 3, 4, 5, 6 and 2 more)"),
        ({"memory_gb": 16}, [Need(memory_gb=10)], Need(memory_gb=6), None),
        (
            {"memory_gb": 16},
            [Need(memory_gb=10)],
            Need(memory_gb=6.5),
            "not enough memory (wants 6.5 GB, 6 of 16 GB free)",
        ),
        ({"memory_gb": 16}, [Need(memory_gb=16)], Need(), None),
        (
            {"max_parallel": 2},
            [Need(cpus=0)] * 2,
            Need(cpus=0),
            "no free place (2 of 2 parallel jobs running: 1, 2)",
        ),
    ],
)
def test_what_a_job_lacks_is_said_with_numbers(
    has: dict[str, object], held: list[Need], need: Need, reason: str | None
) -> None:
    slots = Slots(machine(**has), [holding(job, one) for job, one in enumerate(held, 1)])  # type: ignore[arg-type]
    assert slots.lacks(need) == reason


@pytest.mark.parametrize(
    ("wants", "reason"),
    [
        (1, "no free GPU (2 of 2 in use by 1, 2, 3)"),
        (2, "not enough free GPUs (wants 2; 2 of 2 in use by 1, 2, 3)"),
        (0.5, "no free GPU with 0.5 of it free (2 of 2 in use by 1, 2, 3)"),
        (0.25, None),
    ],
)
def test_which_gpus_are_lacking_is_said_with_numbers(wants: float, reason: str | None) -> None:
    slots = Slots(machine(TWO))
    fill(slots, 0.5, 1, 0.25)
    assert slots.lacks(Need(wants)) == reason


@pytest.mark.parametrize(
    ("need", "reason"),
    [
        (Need(2), None),
        (Need(3), "it asks for 3 GPUs and this machine has 2"),
        (Need(cpus=5), "it asks for 5 CPU slots and this machine has 4"),
        (Need(memory_gb=8.5), "it asks for 8.5 GB of memory and this machine has 8"),
    ],
)
def test_what_can_never_fit_is_told_from_what_is_in_use(need: Need, reason: str | None) -> None:
    assert Slots(machine(TWO, cpus=4, memory_gb=8)).never_fits(need) == reason
    assert Slots(machine(TWO, cpus=4, memory_gb=8, busy={"0": "x"})).never_fits(need) == reason


def test_a_machine_without_gpus_says_so() -> None:
    assert Slots(machine()).never_fits(Need(0.5)) == "it asks for 0.5 GPU and this machine has none"


def test_attempts_of_one_lane_hold_its_slots_once() -> None:
    lane = [holding(job, Need(), lane="lane") for job in (1, 2, 3)]
    slots = Slots(machine(cpus=2), lane)
    assert (slots.lacks(Need()), slots.full(), slots.in_groups[1]) == (None, False, 1)
    slots.take(holding(4, Need(), group=2))
    assert (slots.full(), slots.in_groups) == (True, {1: 1, 2: 1})


def test_a_refusal_is_forgotten_when_the_machine_looks_different() -> None:
    slots = Slots(machine(cpus=2), [holding(1, Need())])
    assert slots.lacks(Need(cpus=2)) == "no free CPU slot (1 of 2 in use by 1)"
    slots.take(holding(2, Need()))
    assert slots.lacks(Need(cpus=2)) == "no free CPU slot (2 of 2 in use by 1, 2)"


NEEDS = st.builds(
    Need,
    st.one_of(st.sampled_from([0, 1, 2, 3, 1 / 3, 0.1, 0.5, 0.7]), st.floats(0.01, 0.99)),
    st.one_of(st.sampled_from([0, 0.1, 1, 2, 1 / 3]), st.floats(0.01, 4)),
    st.one_of(st.just(0), st.floats(0.1, 16)),
)
STEPS = st.lists(st.one_of(NEEDS, st.integers(0, 30)), max_size=40)
ASKED = (Need(2, 4, 16), Need(1), Need(0.5), Need(0.1, 0, 0), Need(cpus=4), Need(memory_gb=16))


@settings(max_examples=150, deadline=None)
@given(steps=STEPS, places=st.none() | st.integers(1, 6), busy=st.booleans())
def test_whatever_is_taken_and_given_back_stays_within_the_machine(
    steps: list[Need | int], places: int | None, busy: bool
) -> None:
    """A need is taken where it fits; a number gives a holding back, as the daemon sees it at its next look."""
    has = Machine(4, 16, ("0", "1", "2"), places, busy={"2": "a neighbour"} if busy else {})
    slots, held = Slots(has), list[Holding]()
    for number, step in enumerate([*steps, *[0] * len(steps)]):
        if isinstance(step, int):
            held = [one for at, one in enumerate(held) if at != step % len(held)]
            slots = Slots(has, held)
        elif slots.lacks(step) is None:
            got = slots.choose(step.gpus) if step.gpus else ()
            assert len(set(got)) == len(got) == math.ceil(step.gpus)
            held.append(holding(number, step, got))
            slots.take(held[-1])
        _within(has, held)
        assert _fitting(slots) == _fitting(Slots(has, reversed(held)))  # how it came to be makes no difference
    assert held == []
    assert _fitting(slots) == list(ASKED)


def _fitting(slots: Slots) -> list[Need]:
    return [need for need in ASKED if slots.lacks(need) is None]


def _within(has: Machine, held: list[Holding]) -> None:
    assert math.fsum(one.cpus for one in held) <= has.cpus + 1e-6
    assert math.fsum(one.memory_gb for one in held) <= has.memory_gb + 1e-6
    assert has.max_parallel is None or len(held) <= has.max_parallel
    for gpu in has.gpus:
        shares = [one.gpu_share for one in held if gpu in one.gpus]
        assert math.fsum(shares) <= 1 + 1e-6
        assert gpu not in has.busy or not shares
