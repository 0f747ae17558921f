"""Constraints as people write them: `batch_size % minibatch_size == 0`, read and evaluated without Python's eval.

Numbers are float64 throughout, so no power and no product can take long or much memory: at worst it is infinite.
"""

from __future__ import annotations

import ast
import difflib
import keyword
import math
import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from metta_jobs.errors import InvalidInput, UnknownName, nearest
from metta_jobs.optimizer.values import shown

if TYPE_CHECKING:
    import numpy as np

#: What a name or a part of an expression is: "text" stands for whatever has no order, categories above all.
Type = Literal["number", "truth", "text"]

_LONGEST = 1000
_DEEPEST = 100
_FUNCTIONS = ("abs", "log2", "max", "min", "sqrt")
_ARITHMETIC: dict[type[ast.operator], str] = {
    ast.Add: "add",
    ast.Sub: "subtract",
    ast.Mult: "multiply",
    ast.Div: "divide",
    ast.FloorDiv: "floor_divide",
    ast.Mod: "mod",
    ast.Pow: "power",
}
_ORDER: dict[type[ast.cmpop], str] = {
    ast.Lt: "less",
    ast.LtE: "less_equal",
    ast.Gt: "greater",
    ast.GtE: "greater_equal",
}
_WORDS = {"true": True, "false": False, "null": None, "none": None}
_CAN = (
    "A constraint knows paths of parameters, numbers, text, + - * / // % **, comparisons, in, and, or, not, "
    f"{', '.join(_FUNCTIONS)}."
)
# `gae.lambda` is a path, though Python keeps the word for itself.
_KEYWORD = re.compile(rf"(?<=\.)({'|'.join(keyword.kwlist)})\b")
_ESCAPE = "_a_word_of_python"


@dataclass(frozen=True)
class Expression:
    """A constraint over dotted paths, checked; `holds` evaluates it for many points at once."""

    text: str
    names: tuple[str, ...]
    tree: ast.expr

    @classmethod
    def read(
        cls, text: Any, types: Mapping[str, Type], choices: Mapping[str, Sequence[Any]] | None = None
    ) -> Expression:
        """Read a constraint over the paths in `types`; `choices` are what those that are categories may be.

        Raises InvalidInput, or UnknownName with the nearest path or choice.
        """
        if not isinstance(text, str):
            raise InvalidInput(f"A constraint is text, as `a.b + c <= 10`, not {shown(text)}.")
        text = text.strip()
        tree = _parse(text)
        reader = _Reader(text, types, choices or {})
        if reader.type_of(tree, 0) != "truth":
            raise InvalidInput(f"The constraint {text!r} is neither true nor false: compare it, as in `… == 0`.")
        if not reader.names:
            raise InvalidInput(f"The constraint {text!r} names no parameter.")
        return cls(text, tuple(reader.names), tree)

    def holds(self, columns: Mapping[str, np.ndarray]) -> np.ndarray:
        """Whether it holds, (n,) bool, where each name has a column (n,): float64, bool, or objects for text.

        A comparison with what cannot be computed, as a remainder of a division by zero, does not hold.
        """
        import numpy as np

        rows = len(next(iter(columns.values())))
        with np.errstate(all="ignore"):
            found = _Evaluation(columns).of(self.tree)
        return np.broadcast_to(np.asarray(found, dtype=bool), (rows,)).copy()


def _parse(text: str) -> ast.expr:
    if len(text) > _LONGEST:
        raise InvalidInput(f"The constraint {text[:40]!r}… is longer than {_LONGEST} characters; write several.")
    source = _KEYWORD.sub(rf"\1{_ESCAPE}", text)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = ast.parse(source, mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        hint = " Equality is written ==." if re.search(r"(?<![=<>!])=(?!=)", text) else ""
        raise InvalidInput(f"The constraint {text!r} cannot be read.{hint} {_CAN}") from error
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            node.attr = node.attr.replace(_ESCAPE, "")
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            node.value = node.value.replace(_ESCAPE, "")
    return tree


def _path(node: ast.expr) -> str | None:
    """The dotted path that a node spells, None where it is something else."""
    parts = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    if not isinstance(node, ast.Name):
        return None
    return ".".join([node.id, *reversed(parts)])


class _Reader:
    """Walks an expression once: refuses what is not known, and tells what each part is."""

    def __init__(self, text: str, types: Mapping[str, Type], choices: Mapping[str, Sequence[Any]]) -> None:
        self.text, self.types, self.choices = text, types, choices
        self.names: dict[str, None] = {}

    def refuse(self, why: str) -> InvalidInput:
        return InvalidInput(f"The constraint {self.text!r} cannot be used: {why}")

    def type_of(self, node: ast.expr, depth: int) -> Type:
        if depth > _DEEPEST:
            raise self.refuse(f"it is nested more than {_DEEPEST} deep.")
        match node:
            case ast.Constant():
                return self._constant(node.value)
            case ast.Name() | ast.Attribute():
                return self._name(node)
            case ast.BoolOp():
                for part in node.values:
                    self._must_be("truth", part, depth, "and, or")
                return "truth"
            case ast.UnaryOp(op=ast.Not()):
                self._must_be("truth", node.operand, depth, "not")
                return "truth"
            case ast.UnaryOp(op=ast.USub() | ast.UAdd()):
                self._must_be("number", node.operand, depth, "a sign")
                return "number"
            case ast.BinOp() if type(node.op) in _ARITHMETIC:
                for part in (node.left, node.right):
                    self._must_be("number", part, depth, "arithmetic")
                return "number"
            case ast.Compare():
                return self._comparison(node, depth)
            case ast.Call():
                return self._call(node, depth)
        raise self.refuse(f"{ast.unparse(node)!r} is not understood. {_CAN}")

    def _constant(self, value: Any) -> Type:
        if isinstance(value, bool):
            return "truth"
        if isinstance(value, int | float):
            try:
                finite = math.isfinite(float(value))
            except OverflowError:
                finite = False
            if not finite:
                raise self.refuse("one of its numbers is too large.")
            return "number"
        if value is None or isinstance(value, str):
            return "text"
        raise self.refuse(f"{value!r} is not understood. {_CAN}")

    def _name(self, node: ast.expr) -> Type:
        path = _path(node)
        if path is None:
            raise self.refuse(f"{ast.unparse(node)!r} is not understood. {_CAN}")
        if path not in self.types:
            if path in _WORDS:
                return self._constant(_WORDS[path])
            ends = [known for known in self.types if known.endswith(f".{path}")]
            close = ends or difflib.get_close_matches(path, list(self.types), n=1, cutoff=0.6)
            hint = f" Did you mean {close[0]!r}?" if close else ""
            raise UnknownName(f"The constraint {self.text!r} names {path!r}, which is not in the space.{hint}")
        self.names[path] = None
        return self.types[path]

    def _must_be(self, wanted: Type, node: ast.expr, depth: int, place: str) -> None:
        found = self.type_of(node, depth + 1)
        if found != wanted:
            words = {"number": "a number", "truth": "true or false", "text": "neither number nor true or false"}
            told = ast.unparse(node)
            raise self.refuse(f"{place} needs {words[wanted]}, and {told!r} is {words[found]}.")

    def _comparison(self, node: ast.Compare, depth: int) -> Type:
        sides = [node.left, *node.comparators]
        for left, op, right in zip(sides, node.ops, node.comparators, strict=False):
            if type(op) in _ORDER:
                for part in (left, right):
                    self._must_be("number", part, depth, "an order (<, <=, >, >=)")
            elif isinstance(op, ast.Eq | ast.NotEq):
                kinds = {self.type_of(part, depth + 1) for part in (left, right)}
                if kinds == {"number", "truth"}:
                    raise self.refuse("it compares a number with what is true or false.")
                self._must_be_a_choice(left, right)
                self._must_be_a_choice(right, left)
            elif isinstance(op, ast.In | ast.NotIn) and isinstance(right, ast.Tuple | ast.List | ast.Set):
                self.type_of(left, depth + 1)
                for part in right.elts:
                    self.type_of(part, depth + 1)
                    self._must_be_a_choice(left, part)
            else:
                raise self.refuse(f"{ast.unparse(node)!r} is not understood. {_CAN}")
        return "truth"

    def _must_be_a_choice(self, name: ast.expr, constant: ast.expr) -> None:
        path = _path(name) if isinstance(name, ast.Name | ast.Attribute) else None
        if path is None or path not in self.choices or not isinstance(constant, ast.Constant):
            return
        choices, value = self.choices[path], constant.value
        if not any(_same(choice, value) for choice in choices):
            close = nearest(value, [one for one in choices if isinstance(one, str)]) if isinstance(value, str) else ""
            raise UnknownName(
                f"The constraint {self.text!r} compares {path} with {shown(value)}, which is none of its choices: "
                f"{', '.join(map(shown, choices))}.{close}"
            )

    def _call(self, node: ast.Call, depth: int) -> Type:
        name = node.func.id if isinstance(node.func, ast.Name) else ""
        if name not in _FUNCTIONS or node.keywords:
            raise self.refuse(f"{ast.unparse(node.func)!r} cannot be called. {_CAN}")
        least, most = (2, 100) if name in ("min", "max") else (1, 1)
        if not least <= len(node.args) <= most:
            raise self.refuse(f"{name} takes {'two or more values' if most > 1 else 'one value'}.")
        for part in node.args:
            self._must_be("number", part, depth, name)
        return "number"


class _Evaluation:
    """Evaluates an expression that `_Reader` has let pass."""

    def __init__(self, columns: Mapping[str, np.ndarray]) -> None:
        self.columns = columns

    def of(self, node: ast.expr) -> Any:
        import numpy as np

        match node:
            case ast.Constant(value=value):
                # never an int: its powers would be exact, and without bound
                return np.float64(value) if isinstance(value, int | float) and not isinstance(value, bool) else value
            case ast.Name() | ast.Attribute():
                path = _path(node)
                assert path is not None
                return self.columns[path] if path in self.columns else _WORDS[path]
            case ast.BoolOp(op=op, values=values):
                join = np.logical_and if isinstance(op, ast.And) else np.logical_or
                return _folded(join, [self.of(part) for part in values])
            case ast.UnaryOp(op=ast.Not(), operand=operand):
                return np.logical_not(self.of(operand))
            case ast.UnaryOp(op=op, operand=operand):
                return np.negative(self.of(operand)) if isinstance(op, ast.USub) else self.of(operand)
            case ast.BinOp(left=left, op=op, right=right):
                return getattr(np, _ARITHMETIC[type(op)])(self.of(left), self.of(right))
            case ast.Compare(left=left, ops=ops, comparators=comparators):
                return self._compared(left, ops, comparators)
            case ast.Call(func=ast.Name(id=name), args=args):
                values_ = [self.of(part) for part in args]
                if name in ("min", "max"):
                    return _folded(np.minimum if name == "min" else np.maximum, values_)
                return getattr(np, name)(values_[0])
        raise AssertionError(ast.dump(node))

    def _compared(self, left: ast.expr, ops: list[ast.cmpop], comparators: list[ast.expr]) -> Any:
        import numpy as np

        found: Any = True
        value = self.of(left)
        for op, right in zip(ops, comparators, strict=True):
            if isinstance(op, ast.In | ast.NotIn):
                assert isinstance(right, ast.Tuple | ast.List | ast.Set)
                inside: Any = False
                for part in right.elts:
                    inside = np.logical_or(inside, _equal(value, self.of(part)))
                here, other = inside if isinstance(op, ast.In) else np.logical_not(inside), None
            else:
                other = self.of(right)
                if type(op) in _ORDER:
                    here = getattr(np, _ORDER[type(op)])(value, other)
                else:
                    here = _equal(value, other)
                    if isinstance(op, ast.NotEq):
                        here = np.logical_and(np.logical_not(here), _computed(value, other))
            found = np.logical_and(found, here)
            value = other
        return found


def _equal(left: Any, right: Any) -> Any:
    """Equality, element by element; true is not 1, and text is no number."""
    import numpy as np

    columns = [side for side in (left, right) if isinstance(side, np.ndarray)]
    if all(not isinstance(side, np.ndarray) or side.dtype != object for side in (left, right)) and not any(
        side is None or isinstance(side, str) for side in (left, right)
    ):
        return np.equal(left, right)
    if not columns:
        return _same(left, right)
    pairs = np.broadcast(*(side if isinstance(side, np.ndarray) else _cell(side) for side in (left, right)))
    return np.array([_same(a, b) for a, b in pairs], dtype=bool)


def _cell(value: Any) -> np.ndarray:
    import numpy as np

    cell = np.empty(1, dtype=object)
    cell[0] = value
    return cell


def _same(left: Any, right: Any) -> bool:
    return bool(_is_truth(left) == _is_truth(right) and left == right)


def _is_truth(value: Any) -> bool:
    return type(value).__name__ in ("bool", "bool_")


def _computed(*sides: Any) -> Any:
    """Where no side is NaN."""
    import numpy as np

    found: Any = True
    for side in sides:
        if isinstance(side, float) or (isinstance(side, np.ndarray) and side.dtype == np.float64):
            found = np.logical_and(found, np.logical_not(np.isnan(side)))
    return found


def _folded(join: Callable[[Any, Any], Any], values: list[Any]) -> Any:
    found = values[0]
    for value in values[1:]:
        found = join(found, value)
    return found
