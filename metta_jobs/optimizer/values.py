"""Plain values: what may be a constant or a choice, and how numbers are read."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping
from typing import Any

from metta_jobs.errors import InvalidInput

_LONGEST = 60
_SMALLEST, _LARGEST = 1e-100, 1e100  # beyond, values would not come back from their logarithm as they were


def plain(value: Any) -> Any:
    """A copy, with Python's own numbers for numpy's, and lists for tuples; what is not plain stays as it is."""
    if isinstance(value, list | tuple):
        return [plain(part) for part in value]
    if isinstance(value, Mapping):
        return {key: plain(part) for key, part in value.items()}
    if isinstance(value, bool | int | float | str):
        # subclasses too, as numpy's float64: what is told and stored shall be Python's own
        return next(kind(value) for kind in (bool, int, float, str) if isinstance(value, kind))
    item = getattr(value, "item", None)
    return item() if callable(item) and getattr(value, "shape", None) == () else value


def key_of(value: Any) -> Hashable | None:
    """What tells a plain value from any other (true from 1, but not 1 from 1.0); None where it is not plain."""
    if value is None or isinstance(value, bool | str):
        return type(value).__name__, value
    if isinstance(value, int | float):
        return ("number", value) if math.isfinite(value) else None
    if isinstance(value, list):
        parts = tuple(key_of(part) for part in value)
        return None if None in parts else ("list", parts)
    return None


def shown(value: Any) -> str:
    """A value in an error's sentence."""
    text = repr(value)
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"


def number(path: str, key: str, given: Any) -> float:
    """A finite float, also from text as "1e-5", which not every YAML reader takes for a number. Raises InvalidInput."""
    value = plain(given)
    if isinstance(value, str):
        try:
            value = float(value)
        except ValueError:
            value = None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise InvalidInput(f"{path}: {key}={shown(given)} must be a number.")
    try:
        found = float(value)
    except OverflowError:
        found = math.inf
    if not math.isfinite(found):
        raise InvalidInput(f"{path}: {key}={shown(given)} must be a finite number.")
    if found and not _SMALLEST <= abs(found) <= _LARGEST:
        raise InvalidInput(
            f"{path}: {key}={shown(given)} must be 0, or of a size between {_SMALLEST:g} and {_LARGEST:g}."
        )
    return found


def whole(path: str, key: str, given: Any) -> int:
    """A whole number, also from 1e6. Raises InvalidInput."""
    value = plain(given)
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    found = number(path, key, given)
    if found != int(found):
        raise InvalidInput(f"{path}: {key}={shown(given)} must be a whole number.")
    return int(found)


def same(left: Any, right: Any) -> bool:
    """Whether two values of a parameter are one; floats but for what rounding leaves."""
    if isinstance(left, float) and isinstance(right, int | float) and not isinstance(right, bool):
        return left == right or abs(left - right) <= 1e-12 * max(abs(left), abs(right))
    return key_of(left) is not None and key_of(left) == key_of(right)
