"""Constraints: what they mean, what they refuse, and that none of them can hang."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from metta_jobs.errors import InvalidInput, MettaError, UnknownName
from metta_jobs.optimizer.expressions import Expression, Type

TYPES: dict[str, Type] = {
    "a": "number",
    "b": "number",
    "t.batch_size": "number",
    "gae.lambda": "number",
    "on": "truth",
    "t.opt": "text",
}
CHOICES = {"t.opt": ("adam", "sgd", None, 1)}
COLUMNS = {
    "a": np.array([1.0, 4.0, -2.0, 0.0]),
    "b": np.array([2.0, 2.0, 2.0, 0.0]),
    "t.batch_size": np.array([256.0, 100.0, 64.0, 0.0]),
    "gae.lambda": np.array([0.9, 0.95, 0.99, 1.0]),
    "on": np.array([True, False, True, False]),
    "t.opt": np.array(["adam", "sgd", None, 1], dtype=object),
}


def holds(text: str) -> list[int]:
    """The rows of COLUMNS in which it holds."""
    found = Expression.read(text, TYPES, CHOICES)
    return np.flatnonzero(found.holds({name: COLUMNS[name] for name in found.names})).tolist()


@pytest.mark.parametrize(
    ("text", "rows"),
    [
        ("t.batch_size % 64 == 0", [0, 2, 3]),
        ("a + b * 2 <= 5", [0, 2, 3]),
        ("a - -b > 3 - 1", [0, 1]),
        ("a // b == 2 or a / b == 0.5", [0, 1]),
        ("a ** 2 >= 4", [1, 2]),
        ("0 < a < b", [0]),
        ("not on", [1, 3]),
        ("on and a > 0", [0]),
        ("on == True", [0, 2]),
        ("on != true", [1, 3]),
        ("min(a, b, 1) == 1", [0, 1]),
        ("max(a, b) == 4", [1]),
        ("abs(a) == 2", [2]),
        ("log2(t.batch_size) >= 8", [0]),
        ("sqrt(t.batch_size) == 10", [1]),
        ("gae.lambda > 0.92", [1, 2, 3]),
        ("t.opt == 'adam'", [0]),
        ("t.opt != 'adam'", [1, 2, 3]),
        ("t.opt in ('adam', 'sgd')", [0, 1]),
        ("t.opt not in ['adam', None]", [1, 3]),
        ("t.opt == None or t.opt == 1", [2, 3]),
        ("t.opt == null", [2]),
        ("a in (1, 4) and 't.lambda' == 't.lambda'", [0, 1]),
        ("  a\t>= 4 ", [1]),
        # what cannot be computed does not hold, whichever way it is asked
        ("a % b == 0", [1, 2]),
        ("a % b != 0", [0]),
        ("1 / a > 0", [0, 1, 3]),
        ("log2(a) < 99", [0, 1, 3]),
        ("sqrt(a) != 7", [0, 1, 3]),
        # no number is exact without bound
        ("9 ** 9 ** 9 ** 9 ** 9 > a", [0, 1, 2, 3]),
        ("10 ** 308 * 10 ** 308 - a > 5", [0, 1, 2, 3]),
    ],
)
def test_constraints_mean_what_they_say(text: str, rows: list[int]) -> None:
    assert holds(text) == rows


def test_names_are_told_once_and_in_order() -> None:
    assert Expression.read("b + a + b + gae.lambda > 0", TYPES).names == ("b", "a", "gae.lambda")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("t.batch_sise > 1", "names 't.batch_sise', which is not in the space. Did you mean 't.batch_size'?"),
        ("batch_size > 1", "Did you mean 't.batch_size'?"),
        ("t.opt == 'adm'", "compares t.opt with 'adm', which is none of its choices: 'adam', 'sgd', None, 1."),
        ("'admn' != t.opt", "Did you mean 'adam'?"),
        ("t.opt in ('adam', 'ssgd')", "Did you mean 'sgd'?"),
        ("t.opt == True", "none of its choices"),
        ("a % b", "is neither true nor false: compare it"),
        ("1 < 2", "names no parameter"),
        ("a = b", "cannot be read. Equality is written ==."),
        ("a <", "cannot be read. A constraint knows"),
        ("", "cannot be read"),
        ("a > 0; b", "cannot be read"),
        ("a > 0 # why", ""),
        ("t.opt < 'b'", "an order (<, <=, >, >=) needs a number, and 't.opt' is neither number"),
        ("on + 1 > 0", "arithmetic needs a number, and 'on' is true or false"),
        ("a and b > 0", "and, or needs true or false, and 'a' is a number"),
        ("on == 1", "compares a number with what is true or false"),
        ("not a", "not needs true or false"),
        ("-on == 1", "a sign needs a number"),
        ("abs(on) > 0", "abs needs a number"),
        ("abs(a, b) > 0", "abs takes one value"),
        ("min(a) > 0", "min takes two or more values"),
        ("max(a, key=b) > 0", "'max' cannot be called"),
        ("pow(a, 2) > 0", "'pow' cannot be called"),
        ("__import__('os').system('true') == a", "\"__import__('os').system\" cannot be called"),
        ("a.__class__ == b", "names 'a.__class__', which is not in the space"),
        ("(a + b).real > 0", "'(a + b).real' is not understood"),
        ("[x for x in (1, 2)] == a", "is not understood"),
        ("(lambda: 1)() == a", "cannot be called"),
        ("(c := a) > 0", "is not understood"),
        ("a if on else b", "is not understood"),
        ("t.opt in 'adam'", "is not understood"),
        ("a is b", "is not understood"),
        ("a << 70 > 0", "is not understood"),
        ("a @ b > 0", "is not understood"),
        ("~a > 0", "is not understood"),
        ("f'{a}' == t.opt", "is not understood"),
        ("b'x' == t.opt", "b'x' is not understood"),
        ("1j == a", "is not understood"),
        ("... == a", "is not understood"),
        ("a[0] > 0", "is not understood"),
        ("a > 1e999", "one of its numbers is too large"),
        (f"a > 1{'0' * 400}", "one of its numbers is too large"),
        (f"a > {'9' * 5000}", "is longer than 1000 characters"),
        (f"a > {'(' * 300}1{')' * 300}", "cannot be read"),
        (f"{'-' * 900}a > 0", "nested more than 100 deep"),
        (f"{'not ' * 240}on", "nested more than 100 deep"),
        (f"a{'+a' * 400} > 0", "nested more than 100 deep"),
        ("a > 0\x00", "cannot be read"),
    ],
)
def test_what_is_no_constraint_is_refused(text: str, said: str) -> None:
    if text.endswith("# why"):  # a comment is harmless
        assert holds(text) == [0, 1]
        return
    with pytest.raises(InvalidInput) as refused:
        Expression.read(text, TYPES, CHOICES)
    assert said in str(refused.value)
    assert len(str(refused.value)) < 1500 and "\n" not in str(refused.value)


def test_a_name_that_is_missing_is_an_unknown_name() -> None:
    with pytest.raises(UnknownName):
        Expression.read("nothing > 0", TYPES)
    with pytest.raises(InvalidInput, match="A constraint is text"):
        Expression.read(3, TYPES)


# ------------------------------------------------------------------------------------------------ properties

numbers = st.one_of(st.sampled_from(["a", "b", "t.batch_size"]), st.integers(0, 9).map(str), st.just("2.5"))
arithmetic = st.recursive(
    numbers,
    lambda part: st.one_of(
        st.tuples(part, st.sampled_from(["+", "-", "*", "/", "%", "//", "**"]), part).map(lambda x: f"({' '.join(x)})"),
        part.map(lambda x: f"abs({x})"),
        st.tuples(part, part).map(lambda x: f"max({', '.join(x)})"),
    ),
    max_leaves=6,
)
comparisons = st.tuples(arithmetic, st.sampled_from(["<", "<=", ">", ">=", "==", "!="]), arithmetic).map(" ".join)


class Row(dict[str, Any]):
    """Python's own evaluation, for comparison."""


@given(comparisons, st.tuples(*[st.integers(-4, 9)] * 3))
@settings(max_examples=300, deadline=None)
def test_they_agree_with_python(text: str, row: tuple[int, int, int]) -> None:
    a, b, size = map(float, row)
    try:
        found = Expression.read(f"{text} and a == a", TYPES)
    except MettaError:
        return
    columns = {"a": np.array([a]), "b": np.array([b]), "t.batch_size": np.array([size])}
    got = bool(found.holds({name: columns[name] for name in found.names})[0])
    floats = __import__("re").sub(r"(?<![\w.])\d+(?![\w.])", lambda m: f"{m[0]}.0", text)
    try:
        expected = eval(floats.replace("t.batch_size", "size"), {"a": a, "b": b, "size": size, "abs": abs, "max": max})
    except (ZeroDivisionError, OverflowError, TypeError):  # undefined or complex in Python
        return
    if "**" not in text:  # pow of C and numpy may differ in the last digit
        assert got == expected


@given(st.text(alphabet="ab.() +-*/%<>=!not andoris'\"0123456789[]{},:~^&|@lambda\\\n_", max_size=40))
@settings(max_examples=400, deadline=None)
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        found = Expression.read(text, TYPES, CHOICES)
    except InvalidInput:
        return
    assert found.holds({name: COLUMNS[name] for name in found.names}).shape == (4,)
