"""When a parameter is there: `when: {optimizer: sgd}`, checked, put in order, and decided for constants."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from metta_jobs.errors import InvalidInput, UnknownName, nearest
from metta_jobs.optimizer.distributions import Distribution
from metta_jobs.optimizer.space_file import flat
from metta_jobs.optimizer.values import key_of, plain, shown


@dataclass(frozen=True)
class Condition:
    """A parameter is there only where the one at `path` has one of `values`."""

    path: str
    values: tuple[Any, ...]

    def holds(self, value: Any) -> bool:
        """Whether this value is one of them."""
        return key_of(value) in {key_of(one) for one in self.values}

    def __str__(self) -> str:
        return f"{self.path}={' or '.join(shown(value) for value in self.values)}"


def conditions_of(entries: Mapping[str, Any]) -> dict[str, tuple[Condition, ...]]:
    """Each parameter's conditions, parents first; those that a constant rules out for ever are missing.

    Conditions that a constant meets are left out. Raises InvalidInput for a cycle, for a parent that is continuous,
    and for values that it cannot have; UnknownName for a parent that is not there.
    """
    read = {path: _read(path, entry, entries) for path, entry in entries.items() if isinstance(entry, Distribution)}
    found: dict[str, tuple[Condition, ...]] = {}
    ruled_out: set[str] = set()
    for path in _parents_first(read):
        kept = []
        for condition in read[path]:
            entry = entries[condition.path]
            if isinstance(entry, Distribution):
                kept.append(condition)
                if condition.path in ruled_out:
                    ruled_out.add(path)
            elif not condition.holds(entry):
                ruled_out.add(path)
        if path not in ruled_out:
            found[path] = tuple(kept)
    return found


def _read(path: str, entry: Distribution, entries: Mapping[str, Any]) -> tuple[Condition, ...]:
    when = entry.when
    if when is None:
        return ()
    if not isinstance(when, Mapping) or not when:
        raise InvalidInput(f"{path}: when={shown(when)} must map paths to values, as `when: {{optimizer: sgd}}`.")
    found = []
    for parent, given in flat(when).items():
        if parent not in entries:
            ends = [known for known in entries if known.endswith(f".{parent}")]
            close = f" Did you mean {ends[0]!r}?" if ends else nearest(parent, entries)
            raise UnknownName(f"{path}: when names {parent!r}, which is not in the space.{close}")
        values = [plain(value) for value in given] if isinstance(given, list | tuple) else [plain(given)]
        if not values:
            raise InvalidInput(f"{path}: when has no value for {parent}, so it would never be there.")
        of = entries[parent]
        if isinstance(of, Distribution):
            if of.kind == "continuous":
                raise InvalidInput(
                    f"{path}: when names {parent}, which is continuous and never has one value; only a categorical or "
                    "whole number decides what is there."
                )
            values = [of.accept(f"{path}: when {parent}", value) for value in values]
        found.append(Condition(parent, tuple(values)))
    return tuple(found)


def _parents_first(read: Mapping[str, tuple[Condition, ...]]) -> list[str]:
    order: dict[str, None] = {}

    def visit(path: str, chain: tuple[str, ...]) -> None:
        if path in chain:
            cycle = [*chain[chain.index(path) :], path]
            raise InvalidInput(f"{path} would decide on itself: {' → '.join(cycle)}. One of these `when` must go.")
        if path in order or path not in read:
            return
        for condition in read[path]:
            visit(condition.path, (*chain, path))
        order[path] = None

    for path in read:
        visit(path, ())
    return list(order)
