"""A space's points: what goes in comes out, shares are equal, constraints and conditions hold."""

from __future__ import annotations

import math
import subprocess
import sys
from collections import Counter
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from metta_jobs.errors import InvalidInput, UnknownName
from metta_jobs.optimizer import Categorical, IntUniform, LogitNormal, LogNormal, Space, Uniform, UniformPow2
from metta_jobs.optimizer.distributions import Distribution
from metta_jobs.optimizer.space import ABSENT

finite = st.floats(-1e6, 1e6, allow_nan=False, allow_subnormal=False).map(lambda x: round(x, 6))
plain_choices = st.one_of(
    st.none(), st.booleans(), st.integers(-9, 9), st.floats(-2, 2).filter(lambda x: x % 1), st.text()
)


@st.composite
def ordered(draw: st.DrawFn, numbers: st.SearchStrategy[Any], apart: float) -> tuple[Any, Any]:
    a, b = sorted(draw(st.tuples(numbers, numbers).filter(lambda ab: abs(ab[0] - ab[1]) > apart)))
    return a, b


@st.composite
def distributions(draw: st.DrawFn) -> Distribution:
    kind = draw(st.sampled_from(["uniform", "int", "pow2", "log", "log_int", "logit", "categorical"]))
    if kind == "categorical":
        choices = draw(st.lists(plain_choices, min_size=2, max_size=6, unique_by=lambda c: (isinstance(c, bool), c)))
        return Categorical(*choices)
    if kind == "uniform":
        low, high = draw(ordered(finite, 1e-2))
        return Uniform(min=low, max=high)
    if kind == "int":
        low, high = draw(ordered(st.integers(-(2**40), 2**40), 0))
        return IntUniform(min=low, max=high)
    if kind == "pow2":
        low, high = draw(ordered(st.integers(0, 62), 0))
        return UniformPow2(min=2**low, max=2**high)
    if kind == "log":
        low, high = draw(ordered(st.floats(-30, 30).map(lambda x: round(x, 2)), 0.1))
        return LogNormal(min=float(f"{10**low:.6g}"), max=float(f"{10**high:.6g}"))
    if kind == "log_int":
        low, high = draw(ordered(st.integers(1, 10**13), 0))
        return LogNormal(min=low, max=high, integer=True)
    low, high = draw(ordered(st.floats(0.0001, 0.9999).map(lambda x: round(x, 5)), 1e-3))
    return LogitNormal(min=low, max=high)


def legal(draw: st.DrawFn, one: Distribution) -> Any:
    """Some legal value, the ends among them, with no more digits than a person writes."""
    if isinstance(one, Categorical):
        return draw(st.sampled_from(one.choices))
    if isinstance(one, UniformPow2):
        return 2 ** draw(st.integers(int(math.log2(one.min)), int(math.log2(one.max))))
    if one.kind == "integer":
        return draw(st.integers(int(one.min), int(one.max)))  # type: ignore[attr-defined]
    low, high = one.min, one.max  # type: ignore[attr-defined]
    value = draw(st.floats(low, high))
    digits = 6 - math.floor(math.log10(max(abs(low), abs(high)))) if isinstance(one, Uniform) else 9
    value = round(value, digits) if isinstance(one, Uniform | LogitNormal) else float(f"{value:.9g}")
    return min(max(value, low), high)


@given(st.data())
@settings(max_examples=400, deadline=None)
def test_every_legal_value_comes_back_as_it_was(data: st.DataObject) -> None:
    one = data.draw(distributions())
    value = data.draw(st.composite(legal)(one))
    space = Space({"a": {"b": one}, "seed": 7})
    params = {"a.b": value, "seed": 7}
    x = space.encode(params)
    assert x.shape == (1,) and x.dtype == np.float64
    back = space.decode(x)
    assert back == params and type(back["a.b"]) is type(value)
    assert space.decode(space.snap([x])[0]) == params
    assert np.array_equal(space.encode({"a": {"b": value}}), x)
    if one.kind != "categorical":
        assert 0 <= x[0] <= 1


@given(distributions(), st.floats(-0.5, 9.5))
@settings(max_examples=300, deadline=None)
def test_whatever_is_decoded_is_legal_and_stays_itself(one: Distribution, unit: float) -> None:
    space = Space({"p": one})
    snapped = space.snap([[unit]])
    value = space.decode([unit])
    assert space.decode(space.encode(value)) == value
    assert space.decode(snapped[0]) == value
    again = space.snap(snapped)
    assert np.allclose(again, snapped, rtol=0, atol=1e-12)


def test_an_int_s_end_bins_are_as_likely_as_the_others() -> None:
    space = Space({"n": IntUniform(min=1, max=4), "b": UniformPow2(min=8, max=64)})
    units = np.linspace(0, 1, 4001)[:-1]
    counts = Counter(tuple(space.decode([u, u]).values()) for u in units)
    assert counts == {(1, 8): 1000, (2, 16): 1000, (3, 32): 1000, (4, 64): 1000}
    drawn = space.sample(8000, np.random.default_rng(0))
    for column in drawn.T:
        assert np.unique(column, return_counts=True)[1] == pytest.approx([2000] * 4, abs=200)
    assert drawn[0, 0] in (0.125, 0.375, 0.625, 0.875)


def test_scales_of_axes_are_what_their_names_say() -> None:
    space = Space(
        {
            "log": LogNormal(min=1e-5, max=1e-1),
            "gamma": LogitNormal(min=0.9, max=0.9999),
            "both": LogitNormal(min=0.0001, max=0.9999),
            "steps": LogNormal(min=10**6, max=10**8, integer=True),
            "linear": Uniform(min=-1, max=3),
        }
    )
    middle = space.decode(space.centre)
    assert middle["log"] == pytest.approx(1e-3) and middle["both"] == 0.5 and middle["linear"] == 1.0
    assert middle["steps"] == 10**7 and isinstance(middle["steps"], int)
    assert middle["gamma"] == pytest.approx(1 - 1 / (1 + math.sqrt(9 * 9999)))  # the odds' geometric middle
    quarter = space.decode([0.25, 0.25, 0.25, 0.25, 0.25])
    assert quarter["log"] == pytest.approx(1e-4) and quarter["linear"] == 0.0
    # as much room between 0.9 and 0.99 as between 0.999 and 0.9999, nearly
    at = [space.encode({**middle, "gamma": g})[1] for g in (0.9, 0.99, 0.999, 0.9999)]
    assert np.diff(at) == pytest.approx([1 / 3] * 3, abs=0.02)
    low = space.encode({**middle, "both": 0.001})[2], space.encode({**middle, "both": 0.999})[2]
    assert sum(low) == pytest.approx(1)


def test_scales_say_how_far_local_suggestions_lie() -> None:
    space = Space(
        {
            "a": LogNormal(min=1e6, max=64e6, scale="time"),
            "b": UniformPow2(min=16, max=256, scale="time"),
            "c": Uniform(min=0, max=1, scale=0.2),
            "d": IntUniform(min=0, max=9),
            "e": Categorical("x", "y"),
            "f": LogNormal(min=10, max=15, scale="time"),
        }
    )
    assert space.scales == pytest.approx([1 / 6, 1 / 4, 0.2, 0.5, 0.5, 1.0])


def test_centre_is_the_means() -> None:
    space = Space(
        {
            "lr": LogNormal(min=1e-5, max=1e-1, mean=3e-4),
            "n": IntUniform(min=1, max=8, mean=3),
            "batch": UniformPow2(min=64, max=4096, mean=256),
            "opt": Categorical("adam", None, mean=None),
            "first": Categorical(None, "x"),
        }
    )
    assert space.decode(space.centre) == {"lr": 3e-4, "n": 3, "batch": 256, "opt": None, "first": None}


def test_a_centre_that_breaks_a_constraint_moves_to_a_point_near_it_that_does_not() -> None:
    space = Space({"a": Uniform(min=0, max=1), "b": Uniform(min=0, max=1)}, constraints=["a + b <= 0.9"])
    assert space.feasible([space.centre]).all()
    assert np.abs(space.centre - 0.5).max() < 0.1
    assert np.array_equal(space.centre, space.centre)
    narrow = Space({"a": Uniform(min=0, max=1), "b": Uniform(min=0, max=1)}, constraints=["abs(a - b - 0.5) < 0.0005"])
    assert narrow.feasible([narrow.centre]).all()


CONDITIONAL = Space(
    {
        "optimizer": Categorical("adam", "sgd", "muon"),
        "momentum": Uniform(min=0, max=1, when={"optimizer": ["sgd", "muon"]}),
        "nesterov": Categorical(True, False, when={"optimizer": "sgd"}),
        "look": IntUniform(min=1, max=3, when={"nesterov": True}),
        "deep": LogNormal(min=1, max=9, integer=True),
        "skip": Uniform(min=0, max=1, when={"deep": [2, 3], "optimizer": "sgd"}),
        "seed": 7,
    },
    constraints=["momentum < 0.5", "look * momentum < 1 and optimizer == 'sgd'"],
)


def test_a_parameter_is_there_only_where_its_condition_holds() -> None:
    drawn = CONDITIONAL.sample(500, np.random.default_rng(1))
    kinds = set()
    for x in drawn:
        point = CONDITIONAL.decode(x)
        assert ("momentum" in point) == (point["optimizer"] != "adam")
        assert ("nesterov" in point) == (point["optimizer"] == "sgd")
        assert ("look" in point) == (point.get("nesterov") is True)
        assert ("skip" in point) == (point["deep"] in (2, 3) and point["optimizer"] == "sgd")
        assert point.get("momentum", 0) < 0.5 and point["seed"] == 7
        assert np.array_equal(CONDITIONAL.snap([x])[0], x, equal_nan=True)
        assert np.allclose(CONDITIONAL.encode(point), x, rtol=0, atol=1e-12, equal_nan=True)
        kinds.add(frozenset(point))
    assert len(kinds) == 6
    assert [one.conditional for one in CONDITIONAL.dimensions] == [False, True, True, True, False, True]


def test_snap_fills_what_has_come_to_be_there_and_clears_what_has_not() -> None:
    snapped = CONDITIONAL.snap([[0, 0.3, 0, 0.2, 0.9, 0.1], [1, np.nan, np.nan, np.nan, np.nan, np.nan]])
    assert np.isnan(snapped[0]).tolist() == [False, True, True, True, False, True]
    assert CONDITIONAL.decode(snapped[1]) == {
        "optimizer": "sgd", "momentum": 0.5, "nesterov": True, "look": 2, "deep": 3, "skip": 0.5, "seed": 7,
    }  # fmt: skip
    assert np.array_equal(CONDITIONAL.snap([[5, -1, 7, 2, 3, np.inf]])[0, :2], [2, 0])
    with pytest.raises(ValueError, match=r"\(n, 6\), not \(1, 2\)"):
        CONDITIONAL.snap([[0, 1]])


def test_a_condition_on_a_constant_is_decided_once() -> None:
    momentum = {"momentum": Uniform(min=0, max=1, when={"optimizer": "sgd"})}
    chained = {
        **momentum,
        "kind": Categorical(1, 2),
        "tail": Uniform(min=0, max=1, when={"kind": 2, "optimizer": "sgd"}),
    }
    there = Space({"optimizer": "sgd", **chained})
    assert [one.path for one in there.dimensions] == ["momentum", "kind", "tail"]
    gone = Space({"optimizer": "adam", **chained}, constraints=["momentum < 0.5", "kind == 1"])
    assert [one.path for one in gone.dimensions] == ["kind"]
    assert gone.decode(gone.sample(1, np.random.default_rng(0))[0]) == {"optimizer": "adam", "kind": 1}
    assert Space.from_dict(gone.to_dict()) == gone and "momentum" in gone.to_dict()
    with pytest.raises(InvalidInput, match=r"momentum=0\.1 cannot be given here: its `when` rules it out"):
        gone.encode({"kind": 1, "momentum": 0.1})


TEN = Space.from_yaml("""
trainer:
  learning_rate: {distribution: log_normal, min: 1e-5, max: 1e-1, mean: 1e-3}
  gamma: {distribution: logit_normal, min: 0.9, max: 0.9999}
  batch_size: {distribution: uniform_pow2, min: 256, max: 4096}
  minibatch_size: {distribution: uniform_pow2, min: 64, max: 8192}
  epochs: {distribution: int_uniform, min: 1, max: 8}
  optimizer: {distribution: categorical, choices: [adam, muon, sgd]}
  momentum: {distribution: uniform, min: 0, max: 0.99, when: {trainer.optimizer: [sgd, muon]}}
  total_timesteps: {distribution: log_normal, min: 1e6, max: 1e8, integer: true, scale: time}
  clip: {distribution: uniform, min: 0.05, max: 0.4}
  lstm: {distribution: categorical, values: [true, false]}
seed: 7
constraints: [trainer.batch_size % trainer.minibatch_size == 0, "trainer.momentum <= 0.5 or trainer.lstm"]
""")


@pytest.mark.parametrize("sobol", [False, True])
def test_samples_meet_the_constraints_and_follow_the_seed(sobol: bool) -> None:
    drawn = TEN.sample(1000, np.random.default_rng(3), sobol=sobol)
    assert drawn.shape == (1000, 10) and TEN.feasible(drawn).all()
    assert np.array_equal(drawn, TEN.sample(1000, np.random.default_rng(3), sobol=sobol), equal_nan=True)
    assert not np.array_equal(drawn, TEN.sample(1000, np.random.default_rng(4), sobol=sobol), equal_nan=True)
    for x in drawn[:50]:
        point = TEN.decode(x)
        assert point["trainer.batch_size"] % point["trainer.minibatch_size"] == 0
        assert TEN.decode(TEN.encode(point)) == point
        assert type(point["trainer.total_timesteps"]) is int and type(point["trainer.lstm"]) is bool


def test_sobol_points_are_spread_more_evenly() -> None:
    space = Space({f"p{i}": Uniform(min=0, max=1) for i in range(2)})
    from scipy.stats import qmc

    rng = np.random.default_rng(0)
    assert qmc.discrepancy(space.sample(128, rng, sobol=True)) < qmc.discrepancy(space.sample(128, rng)) / 2
    assert space.sample(5, rng, sobol=True).shape == (5, 2) and space.sample(0, rng).shape == (0, 2)


def test_constraints_that_nothing_meets_are_told_with_the_one_that_fails_most() -> None:
    space = Space(
        {"a": Uniform(min=0, max=1), "b": Uniform(min=0, max=1)}, constraints=["a >= 0.01", "a * b > 2", "b < 0.9"]
    )
    with pytest.raises(
        InvalidInput, match=r"No point of 1\d\d,\d{3} tried meets .*'a \* b > 2' fails most, for 100.00%"
    ):
        space.sample(3, np.random.default_rng(0))
    with pytest.raises(InvalidInput, match="No point of"):
        _ = space.centre
    rare = Space({"a": Uniform(min=0, max=1)}, constraints=["a < 0.0004"])
    with pytest.raises(
        InvalidInput, match=r"Only \d+ of 1\d\d,\d{3} points tried meet .*, and 80 are wanted: 'a < 0.0004'"
    ):
        rare.sample(80, np.random.default_rng(0))


def test_constraints_and_decoded_values_agree_at_the_edge() -> None:
    space = Space({"lr": LogNormal(min=1e-4, max=1e-2, mean=1e-3), "x": 1}, constraints=["lr <= 0.001"])
    assert space.feasible([space.encode({"lr": 0.001})]).all()
    assert not space.feasible([space.encode({"lr": 0.00100000001})]).any()


def test_grid_lists_every_combination_once() -> None:
    points = [CONDITIONAL.decode(x) for x in CONDITIONAL.grid(2)]
    assert len(points) == len({tuple(p.items()) for p in points})
    assert {p["deep"] for p in points} == {1, 9}
    assert sum(p["optimizer"] == "adam" for p in points) == 2
    small = Space({"a": IntUniform(min=1, max=3), "b": Categorical("x", "y"), "c": Uniform(min=0, max=2, mean=0.5)})
    found = [tuple(small.decode(x).values()) for x in small.grid(3)]
    assert found[:4] == [(1, "x", 0.0), (1, "x", 1.0), (1, "x", 2.0), (1, "y", 0.0)] and len(found) == 18
    assert [tuple(small.decode(x).values()) for x in small.grid(1)] == [(2, "x", 0.5), (2, "y", 0.5)]
    with pytest.raises(InvalidInput, match="at least 1"):
        small.grid(0)
    huge = Space({f"p{i}": Uniform(min=0, max=1) for i in range(60)})
    assert next(iter(huge.grid(10))).tolist() == [0.0] * 60


@pytest.mark.parametrize(
    ("params", "said"),
    [
        ({"lr": 2.0}, "lr=2.0 must be a number from 0.001 to 1.0."),
        ({"lr": "0.1"}, "lr='0.1' must be a number"),
        ({"lr": True}, "lr=True must be a number"),
        ({"lr": math.nan}, "lr=nan must be a number"),
        ({"n": 2.5}, "n=2.5 must be a whole number from 1 to 8."),
        ({"n": 9}, "n=9 must be a whole number from 1 to 8."),
        ({"batch": 100}, "batch=100 must be a power of two from 16 to 128; 128 is the nearest."),
        ({"opt": "sdg"}, "opt='sdg' must be one of 'adam', 'sgd'. Did you mean 'sgd'?"),
        ({"seed": 8}, "seed=8 must be 7, which is constant."),
        ({"momentum": 0.5}, "momentum=0.5 cannot be given here: it is there only where opt='sgd'."),
        ({"optt": "sgd"}, "optt is not in the space. Did you mean 'opt'?"),
        ({"opt": "sgd"}, "momentum is missing: give it a value."),
    ],
)
def test_values_that_are_not_legal_are_refused_with_what_is(params: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        ENCODED.encode({"lr": 0.1, "n": 2, "batch": 32, "opt": "adam", "seed": 7, **params})
    assert said in str(refused.value)


ENCODED = Space(
    {
        "lr": LogNormal(min=1e-3, max=1),
        "n": IntUniform(min=1, max=8),
        "batch": UniformPow2(min=16, max=128),
        "opt": Categorical("adam", "sgd"),
        "momentum": Uniform(min=0, max=1, when={"opt": "sgd"}),
        "seed": 7,
    }
)


def test_observations_of_other_sweeps_are_clipped() -> None:
    x = ENCODED.encode(
        {"lr": 50, "n": 3.7, "batch": 100, "opt": "adam", "momentum": 3, "seed": 8, "w&b/x": {"": 1}, "e": {}},
        clip=True,
    )
    assert ENCODED.decode(x) == {"lr": 1.0, "n": 4, "batch": 128, "opt": "adam", "seed": 7}
    with pytest.raises(InvalidInput, match="opt='lion' must be one of"):
        ENCODED.encode({"lr": 50, "n": 3, "batch": 16, "opt": "lion"}, clip=True)
    with pytest.raises(InvalidInput, match="n is missing"):
        ENCODED.encode({"lr": 50}, clip=True)


def test_numbers_of_numpy_are_taken_and_never_given() -> None:
    x = ENCODED.encode({"lr": np.float64(0.1), "n": np.int64(2), "batch": 32.0, "opt": np.str_("adam")})
    point = ENCODED.decode(x)
    assert point == {"lr": 0.1, "n": 2, "batch": 32, "opt": "adam", "seed": 7}
    assert [type(value) for value in point.values()] == [float, int, int, str, int]


def test_paths_are_those_of_the_configuration() -> None:
    legal = {"lr", "n", "batch", "opt", "momentum", "seed", "gamma"}
    ENCODED.validate_paths(legal)
    ENCODED.validate_paths(legal.__contains__)
    with pytest.raises(
        UnknownName, match=r"has 'momentum', which the configuration does not\. Did you mean 'momentums'"
    ):
        ENCODED.validate_paths(legal - {"momentum"} | {"momentums"})
    with pytest.raises(UnknownName, match=r"has 'n', which.* Nor are there: batch, seed\."):
        ENCODED.validate_paths(lambda path: path not in ("n", "batch", "seed"))


def test_difference_tells_what_two_points_do_not_share() -> None:
    a = {"lr": 0.1, "n": 2, "batch": 32, "opt": "sgd", "momentum": 0.9}
    b = {"n": 2.0, "lr": 0.1 + 1e-17, "batch": 64, "opt": "adam"}
    assert ENCODED.difference(a, b) == {"batch": (32, 64), "opt": ("sgd", "adam"), "momentum": (0.9, ABSENT)}
    assert ENCODED.difference(a, a) == {}
    assert ENCODED.difference({"x": True}, {"x": 1}) == {"x": (True, 1)}


def test_a_space_of_constants_has_no_dimension() -> None:
    space = Space({"a": 1, "b": {"c": [1, "x"]}})
    assert space.dimensions == () and space.sample(2, np.random.default_rng(0)).shape == (2, 0)
    assert space.decode(space.centre) == {"a": 1, "b.c": [1, "x"]} and len(list(space.grid(3))) == 1


def test_reading_a_space_loads_neither_numpy_nor_torch() -> None:
    code = (
        "import sys; from metta_jobs.optimizer import Space\n"
        "Space.from_yaml('a: {distribution: uniform, min: 0, max: 1}\\nconstraints: [a < 0.5]').to_yaml()\n"
        "assert not {'numpy', 'scipy', 'torch'} & set(sys.modules)\n"
        "import numpy; Space.from_dict({'a': {'distribution': 'uniform', 'min': 0, 'max': 1}}).centre\n"
        "assert not {'scipy', 'torch'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
