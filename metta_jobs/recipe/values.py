"""Reading what people type after `key=`, and saying what was expected."""

from __future__ import annotations

import ast
import json
from typing import Annotated, Any, get_args, get_origin

from pydantic import TypeAdapter, ValidationError

from metta_jobs.errors import InvalidInput


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
            raise InvalidInput(explain(path, text, annotation, first)) from None


def explain(path: str, given: object, annotation: Any, error: ValidationError) -> str:
    """One sentence about the first thing that is wrong with a value."""
    first = error.errors()[0]
    where = ".".join([path, *(str(part) for part in first["loc"])])
    return f"{where}={given!s}: {sentence(first['msg'])} It takes {type_name(annotation)}."


def sentence(message: str) -> str:
    """A message of pydantic's as a sentence."""
    text = message.removeprefix("Value error, ").rstrip(".")
    return f"{text[:1].upper()}{text[1:]}."


def type_name(annotation: Any) -> str:
    """A type as people read it: "int", "list[str]", "float | None"."""
    if get_origin(annotation) is Annotated:
        return type_name(get_args(annotation)[0])
    if annotation is type(None):
        return "None"
    if isinstance(annotation, type) and not hasattr(annotation, "__args__"):
        return annotation.__name__
    return str(annotation).replace("typing.", "").replace("NoneType", "None")
