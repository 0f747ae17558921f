"""The fields of a configuration as the flags of a program, and back."""

from __future__ import annotations

import inspect
import types
from collections.abc import Callable, Iterator, Mapping
from typing import Annotated, Any, Union, get_args, get_origin

import typer
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from typer.core import TyperCommand

from metta_jobs.recipe.values import type_name, typed


class SpacedLists(TyperCommand):
    """Lets lists be typed as people do: `--job-ids 1 2 3` is `--job-ids 1 --job-ids 2 --job-ids 3`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Write each value's flag before it."""
        many = {name for option in self.params if getattr(option, "multiple", False) for name in option.opts}
        return super().parse_args(ctx, list(_spread(args, many)))


def _spread(arguments: list[str], many: set[str]) -> Iterator[str]:
    flag, waits = None, False
    for position, argument in enumerate(arguments):
        if argument == "--":
            yield from arguments[position:]
            return
        if argument.startswith("-") and not _number(argument):
            flag, waits = (argument if argument in many else None), True
        elif flag is not None and not waits:
            yield flag
        else:
            waits = False
        yield argument


def _number(text: str) -> bool:
    return text[1:].replace(".", "", 1).isdigit()


def signature_of(config: type[BaseModel]) -> inspect.Signature:
    """A Typer command's signature: `name` is its argument, every other field a flag, parts of a model dotted ones.

    All values come as the texts that were typed, None for those that were not.
    """
    parameters = [
        inspect.Parameter(
            "name",
            inspect.Parameter.KEYWORD_ONLY,
            default=None,
            annotation=Annotated[str | None, typer.Argument(help=config.model_fields["name"].description)],
        )
    ]
    for path, field in _fields(config):
        if path == ("name",):
            continue
        flag = "--" + ".".join(path).replace("_", "-")
        kind, plain = _kind(field)
        if kind is bool:
            option = typer.Option(f"{flag}/--no-{flag[2:]}", help=_help(field), show_default=False)
        else:
            option = typer.Option(flag, metavar=_metavar(plain), help=_help(field), show_default=False)
        parameters.append(
            inspect.Parameter(
                "__".join(path), inspect.Parameter.KEYWORD_ONLY, default=None, annotation=Annotated[kind | None, option]
            )
        )
    return inspect.Signature(parameters)


def config_from(config: type[BaseModel], given: Mapping[str, Any]) -> dict[str, Any]:
    """The fields that were given, typed, and nested again. Raises InvalidInput, which names the flag's field."""
    fields = {"__".join(path): (path, field) for path, field in _fields(config)}
    found: dict[str, Any] = {}
    for key, value in given.items():
        if value is None or value == []:
            continue
        path, field = fields[key]
        kind, plain = _kind(field)
        if kind is bool:
            new = value
        elif kind == list[str]:
            item = get_args(plain)[0]
            parts = [part for text in value for part in text.split(",") if part.strip()]
            new = [typed(".".join(path), part.strip(), item) for part in parts]
        else:
            new = typed(".".join(path), value, field.rebuild_annotation())
        here = found
        for part in path[:-1]:
            here = here.setdefault(part, {})
        here[path[-1]] = new
    return found


def named(function: Callable[..., Any], config: type[BaseModel]) -> Callable[..., Any]:
    """The function with the signature that Typer is to see."""
    signature = signature_of(config)
    function.__signature__ = signature  # type: ignore[attr-defined]
    function.__annotations__ = {name: parameter.annotation for name, parameter in signature.parameters.items()}
    return function


def _fields(config: type[BaseModel], path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], FieldInfo]]:
    for name, field in config.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from _fields(field.annotation, (*path, name))
        else:
            yield (*path, name), field


def _kind(field: FieldInfo) -> tuple[Any, Any]:
    """How Typer reads a field (bool, list[str] or str), and the field's type without None."""
    plain: Any = field.annotation
    if get_origin(plain) in (Union, types.UnionType):
        rest = [part for part in get_args(plain) if part is not type(None)]
        plain = rest[0] if len(rest) == 1 else plain
    if plain is bool:
        return bool, plain
    return (list[str], plain) if get_origin(plain) in (tuple, list) else (str, plain)


def _metavar(plain: Any) -> str:
    arguments = get_args(plain)
    if get_origin(plain) in (tuple, list):
        return f"{type_name(arguments[0])}…"
    return type_name(plain)


def _help(field: FieldInfo) -> str:
    default = field.get_default(call_default_factory=True) if not field.is_required() else None
    said = field.description or ""
    if default in (None, (), [], "") or isinstance(default, bool):
        return said + (" (by default)" if default is True else "")
    shown = ",".join(map(str, default)) if isinstance(default, tuple | list) else default
    return f"{said} (default: {shown})".strip()
