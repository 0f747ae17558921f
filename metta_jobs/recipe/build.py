"""From a recipe's function and `key=value` arguments to a tool."""

from __future__ import annotations

import inspect
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar, cast, get_args, get_type_hints

from pydantic import BaseModel, ValidationError

from metta_jobs.errors import InvalidInput, MettaError, UnknownName, nearest
from metta_jobs.recipe.find import Recipe, find_recipe, own_lines
from metta_jobs.recipe.patch import patched
from metta_jobs.recipe.values import literal, type_name, typed
from metta_jobs.refusal import allowed, explain
from metta_jobs.tool import Tool

Model = TypeVar("Model", bound=BaseModel)
Overrides = dict[str, Any]
"""Texts by field name; a dict where a dotted path goes on."""


def build(name: str, arguments: Sequence[str], project: Path) -> Tool:
    """Find the recipe, call it with those of `arguments` that it takes, override fields of its tool with the others.

    `+patch=FILE` stands for the overrides in a YAML file; what is given beside it counts more.
    Raises UnknownName or InvalidInput, naming the field, the nearest right name and the type expected.
    """
    recipe = find_recipe(name, project)
    pairs = [split_argument(argument) for argument in patched(arguments, project)]
    if twice := [key for key, count in Counter(key for key, _ in pairs).items() if count > 1]:
        raise InvalidInput(f"{twice[0]} is given twice: give it once.")
    parameters = inspect.signature(recipe.function).parameters
    mine = {key: text for key, text in pairs if key in parameters}
    tool = _call(recipe, mine, project)
    rest = [(key, text) for key, text in pairs if key not in mine]
    tool = cast(Tool, _override(tool, _nested(rest), "", tuple(parameters)))
    tool.name_origin(recipe.slug)
    return tool


def takes(name: str, arguments: Sequence[str], key: str, project: Path) -> bool:
    """Whether `key=value` can be given to the recipe beside `arguments`: its function or its tool takes it.

    Raises UnknownName or InvalidInput where the recipe or `arguments` are wrong.
    """
    if key in inspect.signature(find_recipe(name, project).function).parameters:
        return True
    return key in type(build(name, arguments, project)).model_fields


def split_argument(argument: str) -> tuple[str, str]:
    """Split "key=value". Raises InvalidInput."""
    key, equals, text = argument.partition("=")
    if not equals or not key.strip():
        raise InvalidInput(f"{argument!r} is no argument: write key=value, for instance seed=1.")
    return key.strip().removeprefix("--"), text


def override(model: Model, arguments: Sequence[str]) -> Model:
    """Return `model` with `key=value` arguments applied by dotted path. Raises UnknownName or InvalidInput."""
    return cast(Model, _override(model, _nested([split_argument(argument) for argument in arguments]), ""))


def _nested(pairs: Sequence[tuple[str, str]]) -> Overrides:
    overrides: Overrides = {}
    for key, text in pairs:
        _nest(overrides, key, text)
    return overrides


def _nest(overrides: Overrides, key: str, text: str) -> None:
    *parents, last = key.split(".")
    here = overrides
    for depth, part in enumerate(parents):
        here = here.setdefault(part, {})
        if not isinstance(here, dict):
            raise InvalidInput(f"{'.'.join(parents[: depth + 1])} is given whole and in parts: give it one way.")
    if isinstance(here.get(last), dict):
        raise InvalidInput(f"{key} is given whole and in parts: give it one way.")
    here[last] = text


def _call(recipe: Recipe, texts: dict[str, str], project: Path) -> Tool:
    hints = get_type_hints(recipe.function, include_extras=True)
    signature = inspect.signature(recipe.function)
    values = {key: typed(key, text, hints[key]) if key in hints else literal(text) for key, text in texts.items()}
    needed = [
        name
        for name, parameter in signature.parameters.items()
        if parameter.default is parameter.empty
        and parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY)
        and name not in values
    ]
    if needed:
        wanted = ", ".join(f"{name}=<{type_name(hints.get(name, Any))}>" for name in needed)
        raise InvalidInput(f"{recipe.name} needs {wanted}.")
    try:
        tool = recipe.function(**values)
    except ValidationError as error:
        raise InvalidInput(f"{recipe.name}: {explain(error)}") from error
    except MettaError:
        raise
    except Exception as error:
        raise InvalidInput(f"{recipe.name} raised an error:\n{own_lines(error, project)}") from error
    if not isinstance(tool, Tool):
        raise InvalidInput(f"{recipe.name} returned {type(tool).__name__}; a recipe's function must return a Tool.")
    return tool


def _override(model: Any, overrides: Overrides, path: str, parameters: tuple[str, ...] = ()) -> Any:
    """Return `model` with all overrides applied at once: fields that must fit each other are checked together."""
    if not overrides:
        return model
    fields = type(model).model_fields
    values = {name: getattr(model, name) for name in fields}
    for name, given in overrides.items():
        where = f"{path}{name}"
        if name not in fields:
            known = [*parameters, *fields]
            raise UnknownName(
                f"There is no field {where!r} in {type(model).__name__}.{nearest(name, known)} "
                f"It has: {', '.join(sorted(set(known)))}."
            )
        current = values[name] if values[name] is not None else _empty(fields[name].annotation)
        if not isinstance(given, dict):
            values[name] = typed(where, given, fields[name].rebuild_annotation())
        elif isinstance(current, BaseModel):
            values[name] = _override(current, given, f"{where}.")
        elif isinstance(current, dict):
            texts = fields[name].annotation == dict[str, str]
            values[name] = _merged(where, current, given, texts)
        else:
            raise InvalidInput(
                f"{where} has no fields: it must be {allowed(fields[name].rebuild_annotation(), name)}. "
                f"Write {where}=value."
            )
    # A default that nobody has touched may follow from the others, so it is not handed on as if it were a wish.
    asked = {name: value for name, value in values.items() if name in overrides or name in model.model_fields_set}
    try:
        return type(model).model_validate(asked)
    except ValidationError as error:
        raise InvalidInput(explain(error, type(model), path=path)) from error


def _empty(annotation: Any) -> Any:
    """What a field that is None begins with when a part of it is given: the model that it may hold."""
    models = [part for part in get_args(annotation) if isinstance(part, type) and issubclass(part, BaseModel)]
    required = [field for model in models for field in model.model_fields.values() if field.is_required()]
    return models[0]() if models and not required else None


def _merged(path: str, current: dict[Any, Any], given: Overrides, texts: bool) -> dict[Any, Any]:
    """A dictionary with entries set, those of dictionaries inside it by their own paths."""
    new = dict(current)
    for key, entry in given.items():
        if not isinstance(entry, dict):
            new[key] = entry if texts else literal(entry)
        elif texts:
            raise InvalidInput(f"{path}.{key} has no fields: it is a text. Write {path}.{key}=value.")
        else:
            inner = new.get(key)
            new[key] = _merged(f"{path}.{key}", inner if isinstance(inner, dict) else {}, entry, texts)
    return new
