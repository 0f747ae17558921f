"""`+patch=FILE`: overrides that are kept in a YAML file, as `metta sweep best` writes them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from metta_jobs.errors import InvalidInput
from metta_jobs.recipe.values import literal

PATCH = "+patch"


def patched(arguments: Sequence[str], project: Path) -> list[str]:
    """The arguments with each `+patch=FILE` replaced by what the file says and no argument says itself.

    Of several files the last one says most. A path is looked for from here, then from the project. Raises InvalidInput.
    """
    files = [text.partition("=")[2] for text in arguments if text.partition("=")[0] == PATCH]
    if not files:
        return list(arguments)
    typed = [text for text in arguments if text.partition("=")[0] != PATCH]
    given = [text.partition("=")[0].strip().removeprefix("--") for text in typed]
    found: dict[str, Any] = {}
    for name in files:
        for key, value in flattened(_read(name, project)):
            for other in [other for other in found if _meet(other, key)]:
                del found[other]
            found[key] = value
    kept = {key: value for key, value in found.items() if not any(_meet(key, other) for other in given)}
    return [*(f"{key}={as_text(value)}" for key, value in kept.items()), *typed]


def flattened(nested: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """(dotted path, value) of nested plain data, in order; an empty mapping is a value."""
    for key, value in nested.items():
        path = f"{prefix}{key}"
        if isinstance(value, Mapping) and value:
            yield from flattened(value, f"{path}.")
        else:
            yield path, value


def as_text(value: Any) -> str:
    """A value as it is typed behind `key=`, and read back as the same."""
    if isinstance(value, str) and literal(value) == value:
        return value
    return json.dumps(value)


def _meet(one: str, other: str) -> bool:
    """Whether two dotted paths are the same, or one leads to the other."""
    return one == other or one.startswith(f"{other}.") or other.startswith(f"{one}.")


def _read(name: str, project: Path) -> dict[str, Any]:
    path = Path(name).expanduser()
    path = path if path.exists() else project / path
    try:
        data = yaml.safe_load(path.read_text())
    except OSError as error:
        raise InvalidInput(f"The patch {name} cannot be read: {error.strerror}.") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InvalidInput(f"The patch {name} is no YAML: {' '.join(str(error).split())}.") from error
    if not isinstance(data, dict) or not all(isinstance(key, str) for key in data):
        raise InvalidInput(f"The patch {name} must hold overrides, as in `trainer: {{learning_rate: 0.001}}`.")
    return data
