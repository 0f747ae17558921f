"""Many points of a space at once, as rows of numbers: snapped, told apart by what is there, tested on constraints."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from metta_jobs.optimizer.categories import Categorical, type_of
from metta_jobs.optimizer.conditions import Condition
from metta_jobs.optimizer.distributions import Distribution, LogNormal, Range
from metta_jobs.optimizer.expressions import Expression
from metta_jobs.optimizer.whole_numbers import UniformPow2


def column_of(entry: Any, values: Sequence[Any]) -> np.ndarray:
    """Values of a parameter or constant as constraints take them, (n,): float64, bool, or objects."""
    kind = type_of(entry)
    if kind != "text":
        return np.array(values, dtype=np.float64 if kind == "number" else bool)
    column = np.empty(len(values), dtype=object)
    column[:] = values if not any(isinstance(value, list) for value in values) else [str(value) for value in values]
    return column


@dataclass(frozen=True)
class Gate:
    """Lets pass the rows where the parameter of column `parent` has one of these levels, counted from 0."""

    parent: int
    levels: tuple[int, ...]

    def open(self, parent: Distribution, points: np.ndarray) -> Any:
        """Which of points (n, d) pass: (n,) bool. A parent that is not there is NaN, and lets nothing pass."""
        return np.isin(_level(parent, points[:, self.parent]), self.levels)


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
        self.gates: list[tuple[int, list[Gate]]] = [
            (self.place[path], [self._gate(condition) for condition in found])
            for path, found in conditions.items()
            if found
        ]

    def _gate(self, condition: Condition) -> Gate:
        parent = self.place[condition.path]
        of = self.distributions[parent]
        units = np.array([of.unit(value) for value in condition.values])
        return Gate(parent, tuple(int(level) for level in _level(of, units)))

    def row(self, values: Mapping[str, Any]) -> np.ndarray:
        """Legal values by path as a point (d,); NaN for those that are missing."""
        pairs = zip(self.paths, self.distributions, strict=True)
        return np.array([one.unit(values[path]) if path in values else np.nan for path, one in pairs])

    def matrix(self, points: Any) -> np.ndarray:
        """Points as a new float64 matrix (n, d). Raises ValueError for any other shape."""
        found = np.array(points, dtype=np.float64)
        if found.ndim != 2 or found.shape[1] != self.d:
            raise ValueError(f"points of this space are (n, {self.d}), not {found.shape}")
        return found

    @property
    def scales(self) -> np.ndarray:
        return np.array([one.spread for one in self.distributions], dtype=np.float64)

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
                found[~gate.open(self.distributions[gate.parent], found), i] = np.nan
        return found

    def feasible(self, points: np.ndarray) -> np.ndarray:
        """Which points (n, d), legal ones, meet all constraints: (n,) bool."""
        return np.asarray(~self.failing(points).any(axis=1))

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
        if one.levels is None:
            return np.array([one.value(unit) for unit in units.tolist()], dtype=np.float64)
        level = _level(one, units)
        if isinstance(one, Categorical):
            return column_of(one, one.choices)[level.astype(np.int64)]
        assert isinstance(one, Range)
        return np.ldexp(float(one.min), level.astype(np.int64)) if isinstance(one, UniformPow2) else one.min + level


def _level(one: Distribution, units: np.ndarray) -> Any:
    """Which of its levels each place on the axis of a category or whole number means, from 0, as floats; NaN stays."""
    if isinstance(one, Categorical):
        return np.clip(np.rint(units), 0, one.levels - 1)
    assert isinstance(one, Range)
    assert one.levels is not None
    if isinstance(one, LogNormal):
        low, high = one.ends
        return np.clip(np.rint(np.exp(low + units * (high - low))), one.min, one.max) - one.min
    return np.clip(np.floor(units * one.levels), 0, one.levels - 1)


def _snapped(one: Distribution, units: np.ndarray) -> Any:
    """The nearest legal places on one axis."""
    if isinstance(one, Categorical):
        return _level(one, units)
    units = np.clip(units, 0.0, 1.0)
    if one.levels is None:
        return units
    if isinstance(one, LogNormal):
        low, high = one.ends
        return (np.log(one.min + _level(one, units)) - low) / (high - low)
    return (_level(one, units) + 0.5) / one.levels
