"""Whole numbers and powers of two, in bins of one width, so that a uniform draw gives each an equal share."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

from metta_jobs.errors import InvalidInput
from metta_jobs.optimizer.distributions import Kind, Range, as_whole
from metta_jobs.optimizer.values import shown, whole

_LARGEST = 2**53  # every whole number up to here is a float
_MOST_LEVELS = 2**50
_LARGEST_POWER = 62


@dataclass(frozen=True, kw_only=True)
class Bins(Range):
    """Whole numbers with bins of one width, so that a uniform draw gives each an equal share, the ends too."""

    kind: ClassVar[Kind] = "integer"

    @property
    def levels(self) -> int:
        raise NotImplementedError

    def _number(self, path: str, key: str, given: Any) -> float:
        return whole(path, key, given)

    def at(self, index: int) -> int:
        """The value of a bin, counted from 0."""
        raise NotImplementedError

    def index(self, value: int) -> int:
        """The bin of a legal value."""
        raise NotImplementedError

    def unit(self, value: Any) -> float:
        return (self.index(value) + 0.5) / self.levels

    def value(self, unit: float) -> Any:
        return self.at(min(max(math.floor(unit * self.levels), 0), self.levels - 1))

    @property
    def centre(self) -> float:
        middle = ((self.levels - 1) // 2 + 0.5) / self.levels
        return middle if self.mean is None else self.unit(self.mean)


@dataclass(frozen=True, kw_only=True)
class IntUniform(Bins):
    """A whole number, all of whose values matter alike: layers, epochs."""

    name: ClassVar[str] = "int_uniform"

    @property
    def levels(self) -> int:
        return int(self.max - self.min) + 1

    def _check_ends(self, path: str, low: float, high: float) -> None:
        for key, end in (("min", low), ("max", high)):
            if abs(end) > _LARGEST or high - low >= _MOST_LEVELS:
                raise InvalidInput(
                    f"{path}: {key}={shown(end)} is too large for int_uniform, which takes 2^50 values at most; "
                    "log_normal with `integer: true` suits wide ranges."
                )

    @property
    def allowed(self) -> str:
        return f"a whole number from {self.min} to {self.max}"

    def at(self, index: int) -> int:
        return int(self.min) + index

    def index(self, value: int) -> int:
        return value - int(self.min)

    def _legal(self, path: str, given: float, clip: bool) -> Any:
        return as_whole(path, given, clip, self.allowed)


@dataclass(frozen=True, kw_only=True)
class UniformPow2(Bins):
    """A power of two: a batch size, a layer's width."""

    name: ClassVar[str] = "uniform_pow2"
    _timed: ClassVar[bool] = True

    @property
    def levels(self) -> int:
        return int(self.max).bit_length() - int(self.min).bit_length() + 1

    def _number(self, path: str, key: str, given: Any) -> float:
        found = whole(path, key, given)
        if found < 1 or found & (found - 1):
            best = f"{2 ** round(math.log2(found))} is the nearest" if found >= 1 else "the smallest is 1"
            raise InvalidInput(f"{path}: {key}={found} must be a power of two for uniform_pow2; {best}.")
        if found > 2**_LARGEST_POWER:
            raise InvalidInput(f"{path}: {key}={found} must be at most 2^{_LARGEST_POWER}.")
        return found

    @property
    def allowed(self) -> str:
        return f"a power of two from {self.min} to {self.max}"

    def at(self, index: int) -> int:
        return int(self.min) << index

    def index(self, value: int) -> int:
        return value.bit_length() - int(self.min).bit_length()

    def _legal(self, path: str, given: float, clip: bool) -> Any:
        power = 2 ** round(math.log2(given))
        if power != given and not clip:
            raise InvalidInput(f"{path}={shown(given)} must be {self.allowed}; {power} is the nearest.")
        return power
