"""Many points of a space at once, as rows of numbers: snapped, told apart by what is there, tested on constraints."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from metta_jobs.optimizer.categories import Categorical, type_of
from metta_jobs.optimizer.conditions import Condition
from metta_jobs.optimizer.distributions import Distribution, IntUniform, UniformPow2
from metta_jobs.optimizer.expressions import Expression
from metta_jobs.optimizer.values import key_of


def column_of(entry: Any, values: Sequence[Any]) -> np.ndarray:
    """Values of a parameter or constant as constraints take them, (n,): float64, bool, or objects."""
    kind = type_of(entry)
    if kind != "text":
        return np.array(values, dtype=np.float64 if kind == "number" else bool)
    column = np.empty(len(values), dtype=object)
    column[:] = values if not any(isinstance(value, list) for value in values) else [str(value) for value in values]
    return column


@dataclass(frozen=True)
class _Gate:
    """Rows where the column `parent` has one of `levels` (indices for categories, bin middles for whole numbers)."""

    parent: int
    levels: np.ndarray


class Encoding:
    """The vectorised side of a space with these distributions, by path, whose conditions are given parents first."""

    def __init__(
        self,
        distributions: Mapping[str, Distribution],
        conditions: Mapping[str, tuple[Condition, ...]],
        constraints: Sequence[Expression],
        constants: Mapping[str, Any],
    ) -> None:
        self.paths = tuple(distributions)
        self.distributions = tuple(distributions.values())
        self.constraints, self.constants = tuple(constraints), constants
        self.place = {path: i for i, path in enumerate(self.paths)}
        self.centre = np.array([one.centre for one in self.distributions], dtype=np.float64)
        self.gates: list[tuple[int, list[_Gate]]] = [
            (self.place[path], [self._gate(condition) for condition in found])
            for path, found in conditions.items()
            if found
        ]

    def _gate(self, condition: Condition) -> _Gate:
        parent = self.place[condition.path]
        of = self.distributions[parent]
        return _Gate(parent, np.array([of.unit(value) for value in condition.values]))

    @property
    def d(self) -> int:
        """Number of dimensions."""
        return len(self.paths)

    def snap(self, points: np.ndarray) -> np.ndarray:
        """The nearest legal points of (n, d); NaN where a parameter is not there, its centre where it lacks."""
        found = np.where(np.isnan(points), self.centre, points)
        for i, one in enumerate(self.distributions):
            found[:, i] = _snapped(one, found[:, i])
        for i, gates in self.gates:
            for gate in gates:
                # a parent that is not there is NaN, and equals nothing
                found[~np.isin(found[:, gate.parent], gate.levels), i] = np.nan
        return found

    def failing(self, points: np.ndarray) -> np.ndarray:
        """Which constraints points (n, d), legal ones, do not meet: (n, number of constraints) bool."""
        failed = np.zeros((len(points), len(self.constraints)), dtype=bool)
        if not len(points) or not self.constraints:
            return failed
        columns: dict[str, np.ndarray] = {}
        for j, constraint in enumerate(self.constraints):
            there = np.ones(len(points), dtype=bool)
            for name in constraint.names:
                if name in self.place:
                    there &= ~np.isnan(points[:, self.place[name]])
                if name not in columns:
                    columns[name] = self._column(name, points)
            if there.any():
                failed[there, j] = ~constraint.holds({name: columns[name][there] for name in constraint.names})
        return failed

    def _column(self, name: str, points: np.ndarray) -> Any:
        if name not in self.place:
            constant = self.constants[name]
            return np.repeat(column_of(constant, [constant]), len(points))
        i = self.place[name]
        one = self.distributions[i]
        units = np.where(np.isnan(points[:, i]), self.centre[i], points[:, i])
        if isinstance(one, Categorical):
            return column_of(one, one.choices)[units.astype(np.int64)]
        if isinstance(one, IntUniform | UniformPow2):
            bins = np.floor(units * one.levels)
            return one.min + bins if isinstance(one, IntUniform) else np.ldexp(float(one.min), bins.astype(np.int64))
        return np.array([one.value(unit) for unit in units.tolist()], dtype=np.float64)


def _snapped(one: Distribution, units: np.ndarray) -> Any:
    """The nearest legal places on one axis."""
    if isinstance(one, Categorical):
        return np.clip(np.rint(units), 0, one.levels - 1)
    units = np.clip(units, 0.0, 1.0)
    if isinstance(one, IntUniform | UniformPow2):
        return (np.minimum(np.floor(units * one.levels), one.levels - 1) + 0.5) / one.levels
    if one.levels is not None:
        return np.array([one.unit(one.value(unit)) for unit in units.tolist()], dtype=np.float64)
    return units


def same(left: Any, right: Any) -> bool:
    """Whether two values of a parameter are one; floats but for what rounding leaves."""
    if isinstance(left, float) and isinstance(right, int | float) and not isinstance(right, bool):
        return left == right or abs(left - right) <= 1e-12 * max(abs(left), abs(right))
    return key_of(left) is not None and key_of(left) == key_of(right)
