"""What pydantic has refused, told as a person needs it: where, what was given, what is allowed, the nearest name."""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from metta_jobs.environment import is_secret
from metta_jobs.errors import nearest

_LONGEST = 60
_BOUNDS = {"ge": "at least", "gt": "greater than", "le": "at most", "lt": "less than"}
_UNITS = {"_s": "seconds", "_gb": "GB", "_mb": "MB", "_hours": "hours"}
#: Errors of validators that somebody wrote: they say what they want to be said.
_OWN_WORDS = ("value_error", "assertion_error")
#: Errors whose whole story is what is allowed there.
_PLAIN = ("_type", "_parsing", "literal_error", "int_from_float", "finite_number", "enum", "_than", "_than_equal")


def explain(
    error: ValidationError, root: Any = None, *, path: str = "", given: str | None = None, called: str = ""
) -> str:
    """Tell of the first thing that is wrong, in one sentence or two.

    `root` is the model or annotation that refused, None where it is not known; `path` leads to it ("retry."), and
    `given` is what was typed there. `called` is the place's name where it has another one, as an option.
    """
    errors = error.errors()
    first = errors[0]
    # Each member of a union complains for itself, under a name of its own.
    alike = [other for other in errors if len(other["loc"]) == len(first["loc"]) and other["input"] is first["input"]]
    union = len(alike) > 1 and len({other["loc"][:-1] for other in alike}) == 1
    loc = first["loc"][:-1] if union else first["loc"]
    where = called or _place(path, loc)
    if first["type"] == "extra_forbidden":
        return _no_field(where, loc, root)
    if first["type"] == "missing":
        return f"{where} is missing."
    own = next((other for other in alike if other["type"] in _OWN_WORDS), None)
    head = f"{where}{_shown(first['input'], given, loc)}: " if where else ""
    if own is not None:
        repeats = repr(first["input"]) in own["msg"]
        return f"{where}: {sentence(own['msg'])}" if where and repeats else f"{head}{sentence(own['msg'])}"
    if first["type"] == "too_short" and first["ctx"]["min_length"] == 1:
        return f"{head}it must not be empty."
    kinds = [_bare(kind) for kind in _at(root, loc)] if root is not None else []
    if not first["type"].endswith(_PLAIN):
        return f"{head}{sentence(first['msg'])}"
    if not kinds:
        return f"{head}{_without_types(first)}"
    wanted = _either([allowed(kind, _place(path, loc)) for kind in _at(root, loc)])
    if called:  # an option that is not wanted is left out
        wanted = wanted.removesuffix(", or null")
    if any(other["type"] == "finite_number" for other in alike):
        wanted = wanted.replace("a number", "a finite number", 1)
    words = [word for kind in _at(root, loc) for word in _words(kind)]
    close = nearest(first["input"], words) if isinstance(first["input"], str) else ""
    return f"{head}it must be {wanted}.{close}"


def _without_types(error: Any) -> str:
    """What is allowed, as far as the error alone tells."""
    facts = error.get("ctx", {})
    if limits := [f"{words} {facts[kind]}" for kind, words in _BOUNDS.items() if kind in facts]:
        return f"it must be {limits[0]}."
    if "expected" in facts:
        return f"it must be {facts['expected']}."
    starts = {"int": "a whole number", "float": "a number", "finite": "a finite number", "bool": "true or false"}
    found = next((words for start, words in starts.items() if error["type"].startswith(start)), None)
    return f"it must be {found}." if found else sentence(error["msg"])


def sentence(message: str) -> str:
    """A validator's message, ending as a sentence; it may begin with a field's name, so its first letter stays."""
    text = message.removeprefix("Value error, ").removeprefix("Assertion failed, ").rstrip(".")
    return text if text.endswith("?") else f"{text}."


def allowed(annotation: Any, name: str = "", marks: Sequence[Any] = ()) -> str:
    """What a field of this type takes, after "it must be": "a whole number, at least 1, or null".

    `marks` are further limits of it; a unit may follow from the field's `name`.
    """
    while get_origin(annotation) is Annotated:
        annotation, *more = get_args(annotation)
        marks = [*more, *marks]
    if described := [mark.description for mark in marks if isinstance(mark, FieldInfo) and mark.description]:
        return str(described[0])
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin in (Union, UnionType):
        literals = [word for part in arguments if get_origin(_bare(part)) is Literal for word in get_args(_bare(part))]
        others = [allowed(part, name, marks) for part in arguments if get_origin(_bare(part)) is not Literal]
        return _either([*others, *map(repr, literals)])
    if annotation in (int, float):
        unit = next((f" of {unit}" for end, unit in _UNITS.items() if name.endswith(end)), "")
        return f"a {'whole ' if annotation is int else ''}number{unit}{_range(marks)}"
    if origin is Literal:
        return _either([repr(word) for word in arguments])
    if origin in (list, tuple, set, frozenset) and arguments:
        part = _bare(arguments[0])
        return 'a list like ["a", "b"]' if part is str else f"a list ([…]), each part of it {allowed(arguments[0])}"
    if origin is dict and len(arguments) == 2:
        part = _bare(arguments[1])
        return 'a dictionary like {"NAME": "value"}' if part is str else "a dictionary ({…})"
    if isinstance(annotation, type) and issubclass(annotation, Enum):
        return _either([repr(member.value) for member in annotation])
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return f"a dictionary ({{…}}) with any of {', '.join(sorted(annotation.model_fields))}"
    plain = {bool: "true or false", str: "text", Path: "a path", type(None): "null", Any: "anything"}
    simple = {dict: "a dictionary ({…})", list: "a list ([…])", tuple: "a list ([…])"}
    return (plain | simple).get(annotation) or str(getattr(annotation, "__name__", annotation))


def _range(marks: Sequence[Any]) -> str:
    parts = [part for mark in marks for part in (mark.metadata if isinstance(mark, FieldInfo) else (mark,))]
    limits = {kind: limit for part in parts for kind in _BOUNDS if (limit := getattr(part, kind, None)) is not None}
    limits = {kind: f"{limit:.12g}" if isinstance(limit, float) else limit for kind, limit in limits.items()}
    if {"ge", "le"} <= set(limits):
        return f" from {limits['ge']} to {limits['le']}"
    return "".join(f", {words} {limits[kind]}" for kind, words in _BOUNDS.items() if kind in limits)


def _either(phrases: Sequence[str]) -> str:
    different = list(dict.fromkeys(phrases))
    empty = ", or null" if "null" in different[1:] else ""
    *others, last = [phrase for phrase in different if not empty or phrase != "null"]
    return (f"{', '.join(others)} or {last}" if others else last) + empty


def _words(annotation: Any) -> list[str]:
    """The names among what is allowed."""
    kind = _bare(annotation)
    if get_origin(kind) is Literal:
        return [str(word) for word in get_args(kind)]
    if isinstance(kind, type) and issubclass(kind, Enum):
        return [str(member.value) for member in kind]
    return [word for member in _members(kind) if member is not kind for word in _words(member)]


def _place(path: str, loc: Sequence[int | str]) -> str:
    text = path.rstrip(".")
    for part in loc:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text


def _shown(value: Any, given: str | None, loc: Sequence[int | str]) -> str:
    """ "=what was given", unless it is long, or may be somebody's secret."""
    if not loc and given is not None:
        text = given
    elif value is None or isinstance(value, bool | int | float | str | list | tuple):
        text = repr(value)
    else:
        return ""
    return "" if len(text) > _LONGEST or is_secret(text, text) else f"={text}"


def _no_field(where: str, loc: Sequence[int | str], root: Any) -> str:
    models = [kind for kind in map(_bare, _at(root, loc[:-1])) for kind in _models(kind)] if root is not None else []
    if not models:
        return f"There is no field {where!r}."
    fields = list(models[0].model_fields)
    return (
        f"There is no field {where!r} in {models[0].__name__}.{nearest(str(loc[-1]), fields)} "
        f"It has: {', '.join(sorted(fields))}."
    )


# ------------------------------------------------------------------------------------------------ walking


def _bare(annotation: Any) -> Any:
    while get_origin(annotation) is Annotated:
        annotation = get_args(annotation)[0]
    return annotation


def _members(annotation: Any) -> list[Any]:
    kind = _bare(annotation)
    return list(get_args(kind)) if get_origin(kind) in (Union, UnionType) else [annotation]


def _models(annotation: Any) -> list[type[BaseModel]]:
    kinds = [_bare(member) for member in _members(annotation)]
    return [kind for kind in kinds if isinstance(kind, type) and issubclass(kind, BaseModel)]


def _at(annotation: Any, loc: Sequence[int | str]) -> list[Any]:
    """The annotations that may be meant at a place below one; none when it leads nowhere that we know."""
    if not loc:
        return [annotation]
    found: list[Any] = []
    for member in _members(annotation):
        kind, part = _bare(member), loc[0]
        origin, arguments = get_origin(kind), get_args(kind)
        if isinstance(kind, type) and issubclass(kind, BaseModel) and part in kind.model_fields:
            found += _at(kind.model_fields[str(part)].rebuild_annotation(), loc[1:])
        elif origin in (list, tuple, set, frozenset) and isinstance(part, int) and arguments:
            found += _at(arguments[0], loc[1:])
        elif origin is dict and len(arguments) == 2:
            found += _at(arguments[1], loc[1:])
    return found
