"""How a space is written: nested dictionaries and YAML, checked as they are read, written so that they come back."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from metta_jobs.errors import InvalidInput, UnknownName, nearest
from metta_jobs.optimizer.categories import KINDS, Categorical
from metta_jobs.optimizer.distributions import Distribution
from metta_jobs.optimizer.values import key_of, plain, shown

CONSTRAINTS = "constraints"
_SEGMENT = re.compile(r"[\w-]+")
_FLOAT = re.compile(r"[-+]?(?:\d[\d_]*(?:\.[\d_]*)?|\.\d[\d_]*)[eE][-+]?\d+")
_MOST = 10_000
_DEEPEST = 32
_ALIASES = {"values": "choices"}
_KEYS = {key for kind in KINDS.values() for key in kind.keys()} | set(_ALIASES)  # noqa: SIM118 - a method of ours


def read_yaml(text: str) -> Any:
    """The plain data of a YAML text, where 1e-5 is a number and no key stands twice. Raises InvalidInput."""
    import yaml

    class Loader(yaml.SafeLoader):
        """Refuses a key that would silently replace another."""

        def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
            seen = set()
            for key, _ in node.value:
                name = key.value if isinstance(key, yaml.ScalarNode) else None
                if name in seen and key.tag != "tag:yaml.org,2002:merge":
                    raise InvalidInput(f"The space's YAML has {name!r} twice (line {key.start_mark.line + 1}).")
                if name is not None:
                    seen.add(name)
            return super().construct_mapping(node, deep)

    _take_exponents(Loader)
    try:
        return yaml.load(text, Loader=Loader)  # noqa: S506 - a SafeLoader
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise InvalidInput(f"The space's YAML cannot be read: {' '.join(str(error).split())}.") from error


def write_yaml(data: Mapping[str, Any]) -> str:
    """Such a text of plain data."""
    import yaml

    class Dumper(yaml.SafeDumper):
        """Quotes text that would be read as a number or broken at a line's end, and writes everything out."""

    def written(dumper: yaml.SafeDumper, value: str) -> yaml.Node:
        return dumper.represent_scalar("tag:yaml.org,2002:str", value, style=None if value.isprintable() else '"')

    Dumper.add_representer(str, written)
    _take_exponents(Dumper)
    Dumper.ignore_aliases = lambda self, data: True  # type: ignore[method-assign]
    text: str = yaml.dump(dict(data), Dumper=Dumper, sort_keys=False, allow_unicode=True, width=10**9)
    return text


def _take_exponents(reader: Any) -> None:
    reader.add_implicit_resolver(
        "tag:yaml.org,2002:float", re.compile(rf"^(?:{_FLOAT.pattern})$"), list("-+.0123456789")
    )


# ------------------------------------------------------------------------------------------------ reading


def read_space(data: Any) -> tuple[dict[str, Any], list[Any]]:
    """The entries of a space by dotted path, in order (checked distributions and constants), and its constraints.

    Raises InvalidInput with the path of the first that is wrong.
    """
    if not isinstance(data, Mapping):
        raise InvalidInput(f"A space is a mapping from names to parameters, not {shown(data)}.")
    constraints = data.get(CONSTRAINTS, [])
    if isinstance(constraints, str) or not isinstance(constraints, list | tuple):
        raise InvalidInput(
            f'constraints must be a list of expressions, as ["a.b + c <= 10"], not {shown(constraints)}.'
        )
    found: dict[str, Any] = {}
    for path, value in _flat({key: value for key, value in data.items() if key != CONSTRAINTS}, "", 0):
        if path in found:
            raise InvalidInput(f"{path} is in the space twice.")
        if len(found) >= _MOST:
            raise InvalidInput(f"The space has more than {_MOST} entries.")
        found[path] = _entry(path, value)
    for path in found:
        parents = path.split(".")
        for end in range(1, len(parents)):
            if (parent := ".".join(parents[:end])) in found:
                raise InvalidInput(f"{parent} is both a parameter and the parent of {path}: one of them must go.")
        if parents[0] == CONSTRAINTS:
            raise InvalidInput(f"{path} cannot be in a space: `constraints` at its top holds expressions.")
    return _ordered(found), list(constraints)


def flat(params: Mapping[str, Any], *, lenient: bool = False) -> dict[str, Any]:
    """Values by dotted path, from nested or dotted ones; `lenient`: whatever the keys are. Raises InvalidInput."""
    if not isinstance(params, Mapping):
        raise InvalidInput(f"Values are given by their paths, as {{'a.b': 1}}, not as {shown(params)}.")
    found: dict[str, Any] = {}
    for path, value in _leaves(params, "", 0, lenient):
        if path in found and not lenient:
            raise InvalidInput(f"{path} is given twice.")
        found[path] = value
    return found


def _leaves(data: Mapping[Any, Any], prefix: str, depth: int, lenient: bool) -> Iterator[tuple[str, Any]]:
    for path, value in _paths(data, prefix, depth, lenient):
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{path}.", depth + 1, lenient)
        else:
            yield path, value


def _flat(data: Mapping[Any, Any], prefix: str, depth: int) -> Iterator[tuple[str, Any]]:
    for path, value in _paths(data, prefix, depth, False):
        if isinstance(value, Mapping) and not is_parameter(path, value):
            if not value:
                raise InvalidInput(f"{path} is empty: give it parameters or a value, or leave it out.")
            yield from _flat(value, f"{path}.", depth + 1)
        else:
            yield path, value


def _paths(data: Mapping[Any, Any], prefix: str, depth: int, lenient: bool) -> Iterator[tuple[str, Any]]:
    if depth > _DEEPEST:
        raise InvalidInput(f"{prefix.rstrip('.')} is nested more than {_DEEPEST} deep.")
    for key, value in data.items():
        path = f"{prefix}{key}"
        right = isinstance(key, str | int) and not isinstance(key, bool)
        if not lenient and not (right and all(_SEGMENT.fullmatch(part) for part in str(key).split("."))):
            raise InvalidInput(
                f"{shown(path)} is no path: a path is names of letters, digits, _ and -, joined by dots."
            )
        yield path, value


def is_parameter(path: str, data: Mapping[Any, Any]) -> bool:
    """Whether this mapping describes a parameter, not several. Raises InvalidInput where it seems to want to."""
    if "distribution" in data:
        return not isinstance(data["distribution"], Mapping | Distribution)
    if any(isinstance(value, Mapping) and key != "when" for key, value in data.items()):
        return False
    others = {key for key in data if key not in _KEYS}
    close = nearest(str(next(iter(others))), ["distribution"]) if len(others) == 1 and len(data) > 1 else ""
    if close:
        raise UnknownName(f"{path} has no key {shown(others.pop())}.{close}")
    if not others and not {"min", "max", "choices", "values"}.isdisjoint(data):
        raise InvalidInput(
            f"{path} needs a `distribution`, one of {', '.join(KINDS)}; constants of such names are written "
            f"`{path}.{next(iter(data))}: value`."
        )
    return False


def _entry(path: str, value: Any) -> Any:
    if isinstance(value, Distribution):
        return value.checked(path)
    if isinstance(value, Mapping):
        return _parameter(path, value).checked(path)
    if _too_long(value):
        raise InvalidInput(f"{path} is a list of more than {_MOST} values.")
    constant = plain(value)
    if key_of(constant) is None:
        raise InvalidInput(
            f"{path}={shown(value)} is no constant: constants are text, finite numbers, true, false, null, "
            "or lists of them."
        )
    return constant


def _too_long(value: Any) -> bool:
    """Whether lists within lists hold more than anybody writes: YAML's aliases multiply what a few lines say."""
    waiting, count = [value], 0
    while waiting and count <= _MOST:
        part = waiting.pop()
        count += 1
        if isinstance(part, list | tuple):
            waiting += part[:_MOST]
    return count > _MOST


def _parameter(path: str, data: Mapping[Any, Any]) -> Distribution:
    if any(_too_long(value) for value in data.values()):
        raise InvalidInput(f"{path} has a list of more than {_MOST} values.")
    given = dict(data)
    name = given.pop("distribution")
    kind = KINDS.get(name) if isinstance(name, str) else None
    if kind is None:
        close = nearest(name, KINDS) if isinstance(name, str) else ""
        raise UnknownName(f"{path}: there is no distribution {shown(name)}.{close} There are: {', '.join(KINDS)}.")
    keys = kind.keys()
    if kind is Categorical:
        for alias, key in _ALIASES.items():
            if alias in given and key in given:
                raise InvalidInput(f"{path} has both {key} and {alias}, which mean the same: one of them must go.")
            if alias in given:
                given[key] = given.pop(alias)
    for key in given:
        if key not in keys:
            raise UnknownName(
                f"{path}: {kind.name} has no key {shown(key)}.{nearest(str(key), keys)} It has: {', '.join(keys)}."
            )
    needed = ["choices"] if kind is Categorical else ["min", "max"]
    for key in needed:
        if key not in given:
            raise InvalidInput(f"{path}: {kind.name} needs {' and '.join(needed)}; {key} is missing.")
    if kind is not Categorical:
        return kind(**given)
    choices = given.pop("choices")
    if not isinstance(choices, list | tuple):
        raise InvalidInput(f"{path}: choices={shown(choices)} must be a list.")
    return Categorical(*choices, **given)


# ------------------------------------------------------------------------------------------------ writing


def _tree(entries: Mapping[str, Any]) -> dict[str, Any]:
    root: dict[str, Any] = {}
    for path, value in entries.items():
        *parents, last = path.split(".")
        place = root
        for parent in parents:
            place = place.setdefault(parent, _Branch())
        place[last] = value
    return root


class _Branch(dict[str, Any]):
    """Several entries with one parent."""


def _ordered(entries: Mapping[str, Any]) -> dict[str, Any]:
    """In the order in which they are written, so that reading them again changes no dimension's place."""

    def walk(place: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
        for key, value in place.items():
            if isinstance(value, _Branch):
                yield from walk(value, f"{prefix}{key}.")
            else:
                yield f"{prefix}{key}", value

    return dict(walk(_tree(entries), ""))


def write_space(entries: Mapping[str, Any], constraints: list[str]) -> dict[str, Any]:
    """Nested dictionaries of plain data that `read_space` reads as these."""

    def written(place: Mapping[str, Any]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for key, value in place.items():
            if not isinstance(value, _Branch):
                found[key] = value.to_dict() if isinstance(value, Distribution) else value
                continue
            below = written(value)
            if _reads_as_branch(below):
                found[key] = below
            else:
                found.update({f"{key}.{name}": part for name, part in below.items()})
        return found

    return {**written(_tree(entries)), **({CONSTRAINTS: list(constraints)} if constraints else {})}


def _reads_as_branch(data: Mapping[str, Any]) -> bool:
    try:
        return not is_parameter("", data)
    except InvalidInput:
        return False
