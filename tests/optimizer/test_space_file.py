"""How spaces are written: what YAML says comes back, and what is wrong is told with its path."""

from __future__ import annotations

import math
import pickle
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from metta_jobs.errors import InvalidInput, UnknownName
from metta_jobs.optimizer import Categorical, IntUniform, LogitNormal, LogNormal, Space, Uniform, UniformPow2

YAML = """
trainer:
  learning_rate: {distribution: log_normal, min: 1e-5, max: 1e-1, mean: 3e-4, scale: 0.3}
  optimizer:
    distribution: categorical
    choices: [adam, muon, sgd]
  momentum:
    distribution: uniform
    min: 0
    max: 0.99
    when: {trainer.optimizer: [sgd, muon]}
  gamma: {distribution: logit_normal, min: 0.9, max: 0.9999}
batch_size: {distribution: uniform_pow2, min: 256, max: 4096}
minibatch_size: {distribution: uniform_pow2, min: 64, max: 1024}
policy.layers: {distribution: int_uniform, min: 1, max: 4, mean: 2}
policy.hidden: {distribution: categorical, values: [[64, 64], [128]]}
total_timesteps: {distribution: log_normal, min: 1_000_000, max: 1e8, integer: true, scale: time}
seed: 7
name: "1e5"
constraints:
  - batch_size % minibatch_size == 0
"""
PYTHON = Space(
    {
        "trainer": {
            "learning_rate": LogNormal(min=1e-5, max=1e-1, mean=3e-4, scale=0.3),
            "optimizer": Categorical("adam", "muon", "sgd"),
            "momentum": Uniform(min=0, max=0.99, when={"trainer.optimizer": ("sgd", "muon")}),
            "gamma": LogitNormal(min=0.9, max=0.9999),
        },
        "batch_size": UniformPow2(min=256, max=4096),
        "minibatch_size": UniformPow2(min=64, max=1024),
        "policy": {"layers": IntUniform(min=1, max=4, mean=2), "hidden": Categorical([64, 64], [128])},
        "total_timesteps": LogNormal(min=10**6, max=10**8, integer=True, scale="time"),
        "seed": 7,
        "name": "1e5",
    },
    constraints=["batch_size % minibatch_size == 0"],
)


def test_yaml_and_python_spell_one_space() -> None:
    space = Space.from_yaml(YAML)
    assert space == PYTHON and Space.from_yaml(PYTHON.to_yaml()) == space and Space.from_dict(space.to_dict()) == space
    assert [(one.path, one.kind, one.levels) for one in space.dimensions] == [
        ("trainer.learning_rate", "continuous", None),
        ("trainer.optimizer", "categorical", 3),
        ("trainer.momentum", "continuous", None),
        ("trainer.gamma", "continuous", None),
        ("batch_size", "integer", 5),
        ("minibatch_size", "integer", 5),
        ("policy.layers", "integer", 4),
        ("policy.hidden", "categorical", 2),
        ("total_timesteps", "integer", 99_000_001),
    ]
    assert space.constants == {"seed": 7, "name": "1e5"}
    assert space.to_yaml() == Space.from_yaml(space.to_yaml()).to_yaml()
    # any YAML 1.1 reader takes what is written for the same
    assert Space.from_dict(yaml.safe_load(space.to_yaml())) == space
    assert repr(space).startswith("Space({'trainer'") and space != Space({"seed": 7}) and space != 7


def test_what_a_space_gives_is_a_copy() -> None:
    written = PYTHON.to_dict()
    written["policy"]["hidden"]["choices"][0].append(9)
    written["trainer"]["momentum"]["when"]["trainer.optimizer"].clear()
    written["constraints"].clear()
    assert PYTHON.to_dict()["policy"]["hidden"]["choices"] == [[64, 64], [128]]
    assert Space.from_dict(PYTHON.to_dict()) == PYTHON


names = st.sampled_from(
    ["a", "b", "min", "max", "distribution", "choices", "values", "when", "mean", "x-1", "lambda", "_"]
)
paths = st.lists(names, min_size=1, max_size=3).map(".".join)
scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(),
    st.sampled_from(
        ["1e5", "-.5e3", "on", "null", "~", "1_0", "0x1f", "12:30", "2020-01-01", "", " ", "${x}", "é\x85\u2028"]
    ),
)
entries = st.one_of(
    scalars,
    st.lists(scalars, max_size=3),
    st.builds(
        lambda low, width: Uniform(min=low, max=low + width), st.floats(-9, 9).map(lambda x: round(x, 3)), st.just(0.3)
    ),
    st.lists(st.text(max_size=3), min_size=2, max_size=3, unique=True).map(lambda choices: Categorical(*choices)),
)


@given(st.dictionaries(paths, entries, max_size=7))
@settings(max_examples=300, deadline=None)
def test_every_space_comes_back_from_its_yaml(entries: dict[str, Any]) -> None:
    leaves = {p: e for p, e in entries.items() if not any(other.startswith(f"{p}.") for other in entries)}
    space = Space(leaves)
    for back in (Space.from_dict(space.to_dict()), Space.from_yaml(space.to_yaml())):
        assert back == space and back.dimensions == space.dimensions
        assert list(back.constants.items()) == list(space.constants.items())


U = {"distribution": "uniform", "min": 0, "max": 1}
C = {"distribution": "categorical", "choices": ["x", "y"]}


def log(**more: Any) -> dict[str, Any]:
    return {"distribution": "log_normal", "min": 1e-3, "max": 1, **more}


WRONG: list[tuple[Any, str]] = [
    ([1], "A space is a mapping from names to parameters, not [1]."),
    (
        {"p.lr": {**U, "min": 1}},
        "p.lr: min=1.0 must be smaller than max=1.0; a fixed value is written as a constant, `lr:",
    ),
    ({"p": {"lr": {**U, "min": 2}}}, "p.lr: min=2.0 must be smaller than max=1.0"),
    ({"lr": {**U, "min": math.nan}}, "lr: min=nan must be a finite number."),
    ({"lr": {**U, "max": math.inf}}, "lr: max=inf must be a finite number."),
    ({"lr": {**U, "max": 10**400}}, "must be a finite number."),
    ({"lr": {**U, "max": 1e200}}, "lr: max=1e+200 must be 0, or of a size between 1e-100 and 1e+100."),
    ({"lr": {**U, "max": True}}, "lr: max=True must be a number."),
    ({"lr": {**U, "max": "much"}}, "lr: max='much' must be a number."),
    ({"lr": {**U, "max": None}}, "lr: max=None must be a number."),
    ({"lr": {**U, "min": 1, "max": 1 + 1e-12}}, "are too close to be searched between"),
    ({"lr": {**U, "mean": 1.5}}, "lr: mean=1.5 must lie between min=0.0 and max=1.0."),
    ({"lr": {**U, "scale": 0}}, "lr: scale=0.0 must be auto, time or a number above 0."),
    ({"lr": {**U, "scale": "atuo"}}, "Did you mean 'auto'?"),
    ({"lr": {**U, "scale": "time"}}, "only log_normal and uniform_pow2 have it, not uniform."),
    ({"lr": log(min=0)}, "lr: min=0.0 must be above 0, as log_normal is uniform in the logarithm"),
    ({"lr": log(min=-1)}, "lr: min=-1.0 must be above 0"),
    ({"n": log(min=1, max=1e14, integer=True)}, "n: max=100000000000000 must be at most 10000000000000"),
    ({"n": log(integer=True)}, "n: min=0.001 must be a whole number."),
    ({"n": log(integer="yes")}, "n: integer='yes' must be true or false."),
    ({"g": {**U, "distribution": "logit_normal"}}, "g: min=0.0 must lie between 0 and 1, both excluded"),
    ({"g": {**U, "min": 0.5, "distribution": "logit_normal"}}, "g: max=1.0 must lie between 0 and 1, both excluded"),
    ({"n": {**U, "max": 2.5, "distribution": "int_uniform"}}, "n: max=2.5 must be a whole number."),
    ({"n": {**U, "max": 2**60, "distribution": "int_uniform"}}, "too large for int_uniform"),
    ({"n": {**U, "max": 9, "mean": 1.5, "distribution": "int_uniform"}}, "n: mean=1.5 must be a whole number."),
    (
        {"b": {"distribution": "uniform_pow2", "min": 48, "max": 64}},
        "b: min=48 must be a power of two for uniform_pow2; 64 is",
    ),
    (
        {"b": {"distribution": "uniform_pow2", "min": 0, "max": 64}},
        "b: min=0 must be a power of two for uniform_pow2; the sm",
    ),
    ({"b": {"distribution": "uniform_pow2", "min": 1, "max": 2**70}}, "must be at most 2^62."),
    ({"b": {"distribution": "uniform_pow2", "min": 1, "max": 8, "mean": 3}}, "b: mean=3 must be a power of two"),
    ({"c": {**C, "choices": ["x"]}}, "c: 'x' is its only choice; write two or more, or a constant, `c: value`."),
    ({"c": {**C, "choices": []}}, "c: it has no choices"),
    ({"c": {**C, "choices": "xy"}}, "c: choices='xy' must be a list."),
    ({"c": {**C, "choices": ["x", "y", "x"]}}, "c: the choice 'x' is there twice."),
    ({"c": {**C, "choices": [1, 1.0]}}, "c: the choice 1.0 is there twice."),
    ({"c": {**C, "choices": [1, math.nan]}}, "c: nan cannot be a choice"),
    ({"c": {**C, "choices": [1, {"a": 1}]}}, "c: {'a': 1} cannot be a choice"),
    ({"c": {**C, "mean": "z"}}, "c: mean='z' must be one of 'x', 'y'."),
    ({"c": {**C, "values": ["x", "y"]}}, "c has both choices and values, which mean the same"),
    ({"c": {"distribution": "categorical"}}, "c: categorical needs choices; choices is missing."),
    ({"lr": {"distribution": "uniform", "min": 0}}, "lr: uniform needs min and max; max is missing."),
    (
        {"lr": {**U, "distribution": "lognormal"}},
        "there is no distribution 'lognormal'. Did you mean 'log_normal'? There are",
    ),
    ({"lr": {**U, "distribution": ["uniform"]}}, "lr: there is no distribution ['uniform']."),
    (
        {"lr": {**U, "maen": 0.5}},
        "lr: uniform has no key 'maen'. Did you mean 'mean'? It has: min, max, mean, scale, when.",
    ),
    (
        {"lr": {"distrbution": "uniform", "min": 0, "max": 1}},
        "lr has no key 'distrbution'. Did you mean 'distribution'?",
    ),
    ({"lr": {"min": 0, "max": 1}}, "lr needs a `distribution`, one of uniform, int_uniform"),
    ({"a": U, "a.b": 1}, "a is both a parameter and the parent of a.b"),
    ({"a.b.c": 1, "a": {"b": U}}, "a.b is both a parameter and the parent of a.b.c"),
    ({"a.b": 1, "a": {"b": 2}}, "a.b is in the space twice."),
    ({"a": {}}, "a is empty"),
    ({"a b": 1}, "'a b' is no path"),
    ({"a..b": 1}, "'a..b' is no path"),
    ({None: 1}, "'None' is no path"),
    ({"a": math.nan}, "a=nan is no constant"),
    ({"a": object}, "is no constant"),
    ({"a": [[1, [math.inf]]]}, "is no constant"),
    ({"constraints.a": 1}, "`constraints` at its top holds expressions"),
    ({"a": U, "constraints": "a < 1"}, "constraints must be a list of expressions"),
    ({"a": U, "constraints": [3]}, "A constraint is text"),
    ({"a": U, "constraints": ["b < 1"]}, "names 'b', which is not in the space."),
    ({"a": {**U, "when": "c"}, "c": C}, "a: when='c' must map paths to values"),
    ({"a": {**U, "when": {"d": "x"}}, "c": C}, "a: when names 'd', which is not in the space."),
    ({"a": {**U, "when": {"c": "x"}}, "p.c": C}, "a: when names 'c', which is not in the space. Did you mean 'p.c'?"),
    ({"a": {**U, "when": {"c": "z"}}, "c": C}, "a: when c='z' must be one of 'x', 'y'."),
    ({"a": {**U, "when": {"c": []}}, "c": C}, "a: when has no value for c"),
    ({"a": {**U, "when": {"b": 0.5}}, "b": U}, "a: when names b, which is continuous"),
    ({"a": {**C, "when": {"a": "x"}}}, "a would decide on itself: a → a."),
    (
        {"a": {**C, "when": {"b": "x"}}, "b": {**C, "when": {"c": "x"}}, "c": {**C, "when": {"a": "y"}}},
        "a would decide on itself: a → b → c → a. One of these `when` must go.",
    ),
]


@pytest.mark.parametrize(("data", "said"), WRONG, ids=[said[:40] for _, said in WRONG])
def test_what_is_wrong_is_told_with_its_path(data: Any, said: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        Space.from_dict(data)
    assert said in str(refused.value) and "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: [1", "The space's YAML cannot be read: while parsing"),
        ("a: 1\nb: 2\na: 3", "The space's YAML has 'a' twice (line 3)."),
        ("a: 2020-01-01", "a=datetime.date(2020, 1, 1) is no constant"),
        ("a: !!python/object/apply:os.system [true]", "could not determine a constructor"),
        ("- a", "A space is a mapping"),
        ("", "A space is a mapping from names to parameters, not None."),
        ("a: &a {b: *a}", "is nested more than 32 deep"),
        ("? [1]\n: 2", "cannot be read"),
    ],
)
def test_yaml_that_is_no_space_is_refused(text: str, said: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        Space.from_yaml(text)
    assert said in str(refused.value)


def test_yaml_that_multiplies_itself_ends_soon() -> None:
    lines = ["a0: &a0 [1, 1]", *(f"a{i}: &a{i} [*a{i - 1}, *a{i - 1}, *a{i - 1}]" for i in range(1, 30))]
    with pytest.raises(InvalidInput, match="more than 10000 values"):
        Space.from_yaml("\n".join(lines))
    maps = ["a0: &a0 {x: 1, y: 2}", *(f"a{i}: &a{i} {{x: *a{i - 1}, y: *a{i - 1}}}" for i in range(1, 28))]
    with pytest.raises(InvalidInput, match="more than 10000 entries"):
        Space.from_yaml("\n".join(maps))


def test_names_like_a_parameter_s_keys_are_written_by_their_path() -> None:
    space = Space({"env": {"size": 1}, "env.distribution": "normal", "env.min": 0, "env.max": U, "distribution": U})
    assert space.constants == {"env.size": 1, "env.distribution": "normal", "env.min": 0}
    assert Space.from_yaml(space.to_yaml()) == space
    plain = Space.from_dict({"env": {"description": "x", "distribution_type": 3, "size": {"min": U, "max": 3}}, 0: 1})
    assert [one.path for one in plain.dimensions] == ["env.size.min"] and plain.constants["0"] == 1
    assert Space.from_yaml(plain.to_yaml()) == plain


def test_numbers_may_be_text_as_other_readers_leave_them() -> None:
    assert Space.from_dict({"lr": log(min="1e-5", max="1")}) == Space.from_yaml(
        "lr: {distribution: log_normal, min: 1e-5, max: 1.0}"
    )


def test_a_space_travels_between_processes() -> None:
    _ = PYTHON.centre
    back = pickle.loads(pickle.dumps(PYTHON))
    assert back == PYTHON and back.decode(back.centre) == PYTHON.decode(PYTHON.centre)


def test_errors_of_a_name_are_unknown_names() -> None:
    with pytest.raises(UnknownName):
        Space({"lr": {**U, "distribution": "unifrom"}})
    with pytest.raises(InvalidInput, match=r"p\.lr: min=3\.0 must be smaller"):
        Space({"p": {"lr": LogNormal(min=3, max=2)}})
    with pytest.raises(InvalidInput, match="constraints must be a list"):
        Space({"a": U}, constraints="a < 1")
    assert Space({"a": U, "constraints": ["a < 1"]}, constraints=["a > 0"]).constraints == ("a < 1", "a > 0")


def test_the_examples_of_the_documentation_are_spaces() -> None:
    page = (Path(__file__).resolve().parents[2] / "docs" / "sweeps-space.md").read_text()
    written, program = re.findall(r"```(?:yaml|python)\n(.*?)```", page, re.DOTALL)
    space = Space.from_yaml(written)
    assert len(space.dimensions) == 8 and len(space.constraints) == 2 and space.constants == {"seed": 7}
    names: dict[str, Any] = {}
    exec(program, names)
    assert len(names["space"].dimensions) == 3
    assert space.feasible([space.centre]).all()
