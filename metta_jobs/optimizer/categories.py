"""Categories: one of several values without an order; and the table of all kinds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Final, Literal, Self

from metta_jobs.errors import InvalidInput, nearest
from metta_jobs.optimizer.distributions import Distribution, Kind, LogitNormal, LogNormal, Uniform
from metta_jobs.optimizer.values import key_of, plain, shown
from metta_jobs.optimizer.whole_numbers import IntUniform, UniformPow2


class _First:
    """The first choice, whatever it is: None may be a choice."""

    def __repr__(self) -> str:
        return "the first"

    def __reduce__(self) -> str:
        return "FIRST"  # one of it, in every process


FIRST: Final = _First()


@dataclass(frozen=True, init=False)
class Categorical(Distribution):
    """One of several values without an order: `Categorical("adam", "muon")`.

    They are text, numbers, true, false, None, or lists of them. The search starts at `mean`, by default the first.
    """

    name: ClassVar[str] = "categorical"
    kind: ClassVar[Kind] = "categorical"

    choices: tuple[Any, ...]
    mean: Any = FIRST

    def __init__(self, *choices: Any, mean: Any = FIRST, when: Mapping[str, Any] | None = None) -> None:
        for key, value in (("choices", choices), ("mean", mean), ("when", when)):
            object.__setattr__(self, key, value)

    def to_dict(self) -> dict[str, Any]:
        """Its mapping; `mean` is left out where it is the first choice."""
        given: dict[str, Any] = {"distribution": self.name, "choices": plain(self.choices)}
        if self.mean is not FIRST:
            given["mean"] = plain(self.mean)
        return {**given, **({"when": plain(self.when)} if self.when else {})}

    @property
    def levels(self) -> int:
        return len(self.choices)

    def checked(self, path: str) -> Self:
        choices = tuple(plain(choice) for choice in self.choices)
        for choice in choices:
            if key_of(choice) is None:
                raise InvalidInput(
                    f"{path}: {shown(choice)} cannot be a choice: choices are text, finite numbers, true, false, null, "
                    "or lists of them."
                )
        if len(choices) < 2:
            last = path.rsplit(".", 1)[-1]
            only = f"{shown(choices[0])} is its only choice" if choices else "it has no choices"
            raise InvalidInput(f"{path}: {only}; write two or more, or a constant, `{last}: value`.")
        seen: set[Any] = set()
        for choice in choices:
            if key_of(choice) in seen:
                raise InvalidInput(f"{path}: the choice {shown(choice)} is there twice.")
            seen.add(key_of(choice))
        found = Categorical(*choices, when=self.when)
        if self.mean is not FIRST:
            object.__setattr__(found, "mean", found.accept(f"{path}: mean", self.mean))
        return found  # type: ignore[return-value]

    def index(self, value: Any) -> int | None:
        """The index of a choice; None where it is none."""
        key = key_of(plain(value))
        return next((i for i, choice in enumerate(self.choices) if key is not None and key_of(choice) == key), None)

    def accept(self, path: str, value: Any, *, clip: bool = False) -> Any:
        index = self.index(value)
        if index is None:
            close = nearest(value, [c for c in self.choices if isinstance(c, str)]) if isinstance(value, str) else ""
            listed = ", ".join(shown(choice) for choice in self.choices)
            raise InvalidInput(f"{path}={shown(value)} must be one of {listed}.{close}")
        return self.choices[index]

    def unit(self, value: Any) -> float:
        index = self.index(value)
        assert index is not None
        return float(index)

    def value(self, unit: float) -> Any:
        chosen = self.choices[min(max(round(unit), 0), len(self.choices) - 1)]
        return plain(chosen)

    @property
    def centre(self) -> float:
        return 0.0 if self.mean is FIRST else self.unit(self.mean)


KINDS: dict[str, type[Distribution]] = {
    kind.name: kind for kind in (Uniform, IntUniform, UniformPow2, LogNormal, LogitNormal, Categorical)
}


def type_of(entry: Any) -> Literal["number", "truth", "text"]:
    """What constraints may do with a parameter or constant: compute, use as truth, or only compare."""
    values = entry.choices if isinstance(entry, Categorical) else (entry,)
    if isinstance(entry, Distribution) and not isinstance(entry, Categorical):
        return "number"
    if all(isinstance(value, bool) for value in values):
        return "truth"
    return (
        "number" if all(isinstance(value, int | float) and not isinstance(value, bool) for value in values) else "text"
    )
