"""The kinds of parameters: which values each may take, and where they lie on an axis from 0 to 1.

Everything here is about one value at a time, and needs no numpy; `encoding` does the same for many points at once.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, ClassVar, Literal, Self

from metta_jobs.errors import InvalidInput, nearest
from metta_jobs.optimizer.values import number, plain, shown, whole

Kind = Literal["continuous", "integer", "categorical"]
Scale = float | Literal["auto", "time"]

#: What `scale: auto` stands for.
AUTO_SCALE = 0.5
_LARGEST_LOG = 10**13  # beyond, a whole number would not come back from its logarithm
_NARROWEST = 1e-9
_NEXT_TO_1 = 1e-12
_DIGITS = 12  # that a value keeps: what a person wrote comes back, and commands stay short


@dataclass(frozen=True, kw_only=True)
class Distribution:
    """What one parameter may be. `when` maps paths of others to the value, or list of values, at which it is there.

    Its numbers are checked when a Space is made of it, which knows the path that an error must name.
    """

    name: ClassVar[str]
    kind: ClassVar[Kind]

    when: Mapping[str, Any] | None = None

    @property
    def levels(self) -> int | None:
        """Number of legal values; None: continuous."""
        return None

    @classmethod
    def keys(cls) -> list[str]:
        """The keys that its mapping may have beside `distribution`."""
        return [field.name for field in fields(cls) if field.name != "when"] + ["when"]

    def to_dict(self) -> dict[str, Any]:
        """Its mapping, as `from_dict` of a space reads it; what has its default is left out."""
        given = {field.name: getattr(self, field.name) for field in fields(self)}
        defaults = {field.name: field.default for field in fields(self)}
        kept = {key: value for key, value in given.items() if value != defaults[key] or key in ("min", "max")}
        when = kept.pop("when", None)
        return {"distribution": self.name, **kept, **({"when": plain(when)} if when else {})}

    def checked(self, path: str) -> Self:
        """The same with numbers of the right type. Raises InvalidInput, naming the path."""
        raise NotImplementedError

    def unit(self, value: Any) -> float:
        """Where a legal value lies: in [0, 1], or a category's index."""
        raise NotImplementedError

    def value(self, unit: float) -> Any:
        """The legal value at this place, or the nearest to it."""
        raise NotImplementedError

    def accept(self, path: str, value: Any, *, clip: bool = False) -> Any:
        """The legal value that is meant; with `clip`, the nearest. Raises InvalidInput with what is allowed."""
        raise NotImplementedError

    @property
    def centre(self) -> float:
        """Where the search starts, as `unit` gives it."""
        raise NotImplementedError

    @property
    def spread(self) -> float:
        """`scale` as a number: how far local suggestions lie from their centre, in units of the axis."""
        return AUTO_SCALE


@dataclass(frozen=True, kw_only=True)
class Range(Distribution):
    """A range of numbers from `min` to `max`, both legal; `mean` is the search centre, by default the middle."""

    kind: ClassVar[Kind] = "continuous"
    _timed: ClassVar[bool] = False

    min: float
    max: float
    mean: float | None = None
    scale: Scale = "auto"

    def checked(self, path: str) -> Self:
        low, high = (self._number(path, key, getattr(self, key)) for key in ("min", "max"))
        self._check_ends(path, low, high)
        if not low < high:
            raise InvalidInput(
                f"{path}: min={shown(low)} must be smaller than max={shown(high)}; a fixed value is written as "
                f"a constant, `{path.rsplit('.', 1)[-1]}: {shown(low)}`."
            )
        mean = None if self.mean is None else self._number(path, "mean", self.mean)
        if mean is not None and not low <= mean <= high:
            raise InvalidInput(f"{path}: mean={shown(mean)} must lie between min={shown(low)} and max={shown(high)}.")
        return replace(self, min=low, max=high, mean=mean, scale=self._checked_scale(path))

    def _number(self, path: str, key: str, given: Any) -> float:
        return number(path, key, given)

    def _check_ends(self, path: str, low: float, high: float) -> None:
        """Raise InvalidInput where this kind of range cannot have these ends."""

    def _checked_scale(self, path: str) -> Scale:
        if self.scale == "auto" or (self.scale == "time" and self._timed):
            return self.scale
        if self.scale == "time":
            raise InvalidInput(
                f"{path}: scale=time counts in doublings, so only log_normal and uniform_pow2 have it, not {self.name}."
            )
        if isinstance(self.scale, str):
            close = nearest(self.scale, ["auto", "time"])
            if close:
                raise InvalidInput(f"{path}: scale={self.scale!r} must be auto, time or a number above 0.{close}")
        scale = number(path, "scale", self.scale)
        if scale <= 0:
            raise InvalidInput(f"{path}: scale={shown(scale)} must be auto, time or a number above 0.")
        return scale

    @property
    def centre(self) -> float:
        return 0.5 if self.mean is None else self.unit(self.mean)

    @property
    def spread(self) -> float:
        if self.scale == "time":
            return min(1.0, 1.0 / math.log2(self.max / self.min))
        return AUTO_SCALE if isinstance(self.scale, str) else self.scale

    @property
    def allowed(self) -> str:
        """What is legal, as a person says it."""
        return f"a number from {shown(self.min)} to {shown(self.max)}"

    def accept(self, path: str, value: Any, *, clip: bool = False) -> Any:
        given = plain(value)
        if isinstance(given, bool) or not isinstance(given, int | float) or not math.isfinite(given):
            raise InvalidInput(f"{path}={shown(value)} must be {self.allowed}.")
        # What was written and read again with fewer digits may miss an end by a hair.
        hair = 1e-12 * max(abs(self.min), abs(self.max))
        if not clip and not self.min - hair <= given <= self.max + hair:
            raise InvalidInput(f"{path}={shown(value)} must be {self.allowed}.")
        return self._legal(path, min(max(given, self.min), self.max), clip)

    def _legal(self, path: str, given: float, clip: bool) -> Any:
        return float(given)

    def value(self, unit: float) -> Any:
        # The ends are exact, whatever a logarithm does to them.
        if unit <= 0:
            return self.min
        return self.max if unit >= 1 else min(max(self._between(unit), self.min), self.max)

    def _between(self, unit: float) -> float:
        raise NotImplementedError


@dataclass(frozen=True, kw_only=True)
class Uniform(Range):
    """A number, all of whose values matter alike: a clip range, a discount's offset."""

    name: ClassVar[str] = "uniform"

    def unit(self, value: Any) -> float:
        # Halves, so that the widest range overflows nowhere.
        return float((value / 2 - self.min / 2) / (self.max / 2 - self.min / 2))

    def _check_ends(self, path: str, low: float, high: float) -> None:
        if 0 < high - low < _NARROWEST * max(abs(low), abs(high)):
            raise InvalidInput(f"{path}: min={shown(low)} and max={shown(high)} are too close to be searched between.")

    def _between(self, unit: float) -> float:
        found = self.min * (1 - unit) + self.max * unit
        digits = 14 - math.ceil(math.log10(max(abs(self.min), abs(self.max))))
        return round(found, digits)  # so that what a person wrote comes back


@dataclass(frozen=True, kw_only=True)
class LogNormal(Range):
    """A number whose order of magnitude matters: a learning rate, a coefficient; `integer`: a step budget.

    Uniform in the logarithm from min to max, as PufferLib's sweeps have it by this name; the middle is geometric.
    """

    name: ClassVar[str] = "log_normal"
    _timed: ClassVar[bool] = True

    integer: bool = False

    @property
    def kind(self) -> Kind:  # type: ignore[override]
        return "integer" if self.integer else "continuous"

    @property
    def levels(self) -> int | None:
        return int(self.max - self.min) + 1 if self.integer else None

    def checked(self, path: str) -> Self:
        if not isinstance(self.integer, bool):
            raise InvalidInput(f"{path}: integer={shown(self.integer)} must be true or false.")
        return super().checked(path)

    def _number(self, path: str, key: str, given: Any) -> float:
        return whole(path, key, given) if self.integer else number(path, key, given)

    def _check_ends(self, path: str, low: float, high: float) -> None:
        for key, end in (("min", low), ("max", high)):
            if end <= 0:
                raise InvalidInput(
                    f"{path}: {key}={shown(end)} must be above 0, as log_normal is uniform in the logarithm; "
                    "uniform takes any number."
                )
        if not self.integer and low < high < low * (1 + _NARROWEST):
            raise InvalidInput(f"{path}: min={shown(low)} and max={shown(high)} are too close to be searched between.")
        if self.integer and high > _LARGEST_LOG:
            raise InvalidInput(f"{path}: max={shown(high)} must be at most {_LARGEST_LOG} for whole numbers.")

    @property
    def allowed(self) -> str:
        return super().allowed.replace("a number", "a whole number" if self.integer else "a number")

    @property
    def ends(self) -> tuple[float, float]:
        """The logarithms at 0 and at 1; whole numbers have a bin each, half a number to both sides."""
        half = 0.5 if self.integer else 0.0
        return math.log(self.min - half), math.log(self.max + half)

    def unit(self, value: Any) -> float:
        low, high = self.ends
        return min(max((math.log(value) - low) / (high - low), 0.0), 1.0)

    @property
    def centre(self) -> float:
        middle = round(math.sqrt(self.min * self.max)) if self.integer else None
        return self.unit(middle) if middle is not None and self.mean is None else super().centre

    def _between(self, unit: float) -> float:
        low, high = self.ends
        found = math.exp(low + unit * (high - low))
        return round(found) if self.integer else float(f"{found:.{_DIGITS}g}")

    def _legal(self, path: str, given: float, clip: bool) -> Any:
        return as_whole(path, given, clip, self.allowed) if self.integer else float(given)


@dataclass(frozen=True, kw_only=True)
class LogitNormal(Range):
    """A probability or discount whose distance from 0 and from 1 matters, as gamma from 0.9 to 0.9999.

    Uniform in log(v / (1 - v)), so 0.99 lies as far from 0.9 as 0.999 from 0.99, nearly.
    """

    name: ClassVar[str] = "logit_normal"

    def _check_ends(self, path: str, low: float, high: float) -> None:
        for key, end in (("min", low), ("max", high)):
            if not 0 < end < 1:
                raise InvalidInput(
                    f"{path}: {key}={shown(end)} must lie between 0 and 1, both excluded, where logit_normal is "
                    "defined; uniform may reach them."
                )
            if 1 - end < _NEXT_TO_1:
                raise InvalidInput(f"{path}: {key}={shown(end)} must be at most 1 - {_NEXT_TO_1:g}.")
        if low < high and _logit(high) - _logit(low) < _NARROWEST:
            raise InvalidInput(f"{path}: min={shown(low)} and max={shown(high)} are too close to be searched between.")

    def unit(self, value: Any) -> float:
        low, high = _logit(self.min), _logit(self.max)
        return min(max((_logit(value) - low) / (high - low), 0.0), 1.0)

    def _between(self, unit: float) -> float:
        low, high = _logit(self.min), _logit(self.max)
        at = low + unit * (high - low)
        small = math.exp(-abs(at))
        rest = small / (1 + small)  # to the nearer of 0 and 1, whose digits are the ones that matter
        if at <= 0:
            return float(f"{rest:.{_DIGITS}g}")
        return round(1 - rest, min(15, _DIGITS - 1 - math.floor(math.log10(rest))))


def _logit(value: float) -> float:
    return math.log(value) - math.log1p(-value)


def as_whole(path: str, given: float, clip: bool, allowed: str) -> int:
    """The whole number that is meant; with `clip`, the nearest. Raises InvalidInput with what is allowed."""
    if given != round(given) and not clip:
        raise InvalidInput(f"{path}={shown(given)} must be {allowed}.")
    return round(given)
