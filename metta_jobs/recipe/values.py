"""Reading what people type after `key=`, and saying what was expected."""

from __future__ import annotations

import ast
import json
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import TypeAdapter, ValidationError

from metta_jobs.errors import InvalidInput
from metta_jobs.refusal import explain


def literal(text: str) -> Any:
    """Read JSON or a Python literal; anything else is the text itself."""
    for read in (json.loads, ast.literal_eval):
        try:
            return read(text)
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            continue
    return text


def typed(path: str, text: str, annotation: Any) -> Any:
    """Return `text` as a value of `annotation`. Raises InvalidInput naming the path and the expected type."""
    adapter: TypeAdapter[Any] = TypeAdapter(annotation)
    try:
        return adapter.validate_python(literal(text))
    except ValidationError as first:
        try:
            return adapter.validate_python(text)  # "123" for a string
        except ValidationError:
            raise InvalidInput(explain(first, annotation, path=path, given=text)) from None


def type_name(annotation: Any) -> str:
    """A type as people read it: "int", "list[str]", "float | None", "'ppo' or 'sac'"."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return type_name(arguments[0])
    if annotation is type(None):
        return "None"
    if origin is Literal:
        return " or ".join(map(repr, arguments))
    if origin in (Union, UnionType):
        return " | ".join(map(type_name, arguments))
    if origin is not None and arguments:
        inner = ", ".join("…" if argument is Ellipsis else type_name(argument) for argument in arguments)
        return f"{getattr(origin, '__name__', origin)}[{inner}]"
    return str(getattr(annotation, "__name__", annotation))
