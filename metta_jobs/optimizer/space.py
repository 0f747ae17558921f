"""The search space of a sweep: its parameters by dotted path, their encoding as numbers, and points drawn from it.

Categories are true categories, whole numbers have bins of equal share, parameters may be there only where another has
some value, and constraints hold between them. numpy is imported when the first point is made, not before.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from metta_jobs.errors import InvalidInput, MissingExtra, UnknownName, nearest
from metta_jobs.optimizer.categories import Categorical as Categorical
from metta_jobs.optimizer.categories import type_of
from metta_jobs.optimizer.conditions import conditions_of
from metta_jobs.optimizer.distributions import Distribution, Kind
from metta_jobs.optimizer.distributions import LogitNormal as LogitNormal
from metta_jobs.optimizer.distributions import LogNormal as LogNormal
from metta_jobs.optimizer.distributions import Uniform as Uniform
from metta_jobs.optimizer.expressions import Expression
from metta_jobs.optimizer.space_file import flat, read_space, read_yaml, write_space, write_yaml
from metta_jobs.optimizer.values import key_of, plain, same, shown
from metta_jobs.optimizer.whole_numbers import IntUniform as IntUniform
from metta_jobs.optimizer.whole_numbers import UniformPow2 as UniformPow2

if TYPE_CHECKING:
    import numpy as np

    from metta_jobs.optimizer.encoding import Encoding


@dataclass(frozen=True)
class Dimension:
    """A parameter that is searched. `levels`: number of its legal values; None: continuous."""

    path: str
    kind: Kind
    levels: int | None
    conditional: bool = False


class _Absent:
    """No value: the parameter is not there."""

    def __repr__(self) -> str:
        return "ABSENT"

    def __reduce__(self) -> str:
        return "ABSENT"  # one of it, in every process


#: In a difference, what stands for a parameter that is not there.
ABSENT = _Absent()


class Space:
    """Parameters and constants by dotted path, nested as one likes, and constraints between them.

    Space({"trainer": {"lr": LogNormal(min=1e-5, max=1e-1), "optimizer": Categorical("adam", "muon")}, "seed": 7},
          constraints=["trainer.lr <= 0.01 or trainer.optimizer == 'muon'"])

    Raises InvalidInput for the first thing that is wrong, with its path.
    """

    dimensions: tuple[Dimension, ...]

    def __init__(self, parameters: Mapping[str, Any], constraints: Sequence[str] = ()) -> None:
        self._entries, written = read_space(parameters)
        if isinstance(constraints, str):
            raise InvalidInput(f"constraints must be a list of expressions, not {shown(constraints)}.")
        conditions = conditions_of(self._entries)
        self._conditions = conditions
        self._parameters = {
            path: entry
            for path, entry in self._entries.items()
            if isinstance(entry, Distribution) and path in conditions
        }
        self.constants: dict[str, Any] = {
            path: entry for path, entry in self._entries.items() if not isinstance(entry, Distribution)
        }
        choices = {path: one.choices for path, one in self._entries.items() if isinstance(one, Categorical)}
        types = {path: type_of(entry) for path, entry in self._entries.items()}
        self._expressions = [Expression.read(text, types, choices) for text in [*written, *constraints]]
        self.constraints = tuple(expression.text for expression in self._expressions)
        self.dimensions = tuple(
            Dimension(path, entry.kind, entry.levels, bool(conditions[path]))
            for path, entry in self._parameters.items()
        )

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Space:
        """A space from nested plain data; constraints stand under `constraints` at its top."""
        return cls(data)

    def to_dict(self) -> dict[str, Any]:
        """Plain data from which `from_dict` makes an equal space, dimensions in the same order."""
        return write_space(self._entries, list(self.constraints))

    @classmethod
    def from_yaml(cls, text: str) -> Space:
        """A space from YAML. Raises InvalidInput."""
        return cls(read_yaml(text))

    def to_yaml(self) -> str:
        """YAML from which `from_yaml` makes an equal space."""
        return write_yaml(self.to_dict())

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Space):
            return NotImplemented
        same_paths = list(self._entries) == list(other._entries) and self.constraints == other.constraints
        return same_paths and all(_equal(self._entries[path], other._entries[path]) for path in self._entries)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"Space({self.to_dict()!r})"

    # -------------------------------------------------------------------------------------------- points

    @cached_property
    def _encoding(self) -> Encoding:
        try:
            from metta_jobs.optimizer.encoding import Encoding
        except ImportError as error:
            raise MissingExtra("Points of a space need numpy: pip install 'metta-jobs[sweep]'.") from error
        # A constraint over what can never be there is met.
        live = [
            one for one in self._expressions if all(n in self._parameters or n in self.constants for n in one.names)
        ]
        return Encoding(self._parameters, self._conditions, live, self.constants)

    def encode(self, params: Mapping[str, Any], *, clip: bool = False) -> np.ndarray:
        """A point (d,) float64: numbers in [0, 1], a category's index, NaN for what is not there.

        `params` are nested or by dotted path; constants may be left out. Raises InvalidInput for values that are not
        legal; with `clip`, as for observations of other sweeps, numbers become the nearest legal ones, and what the
        space does not have, or has differently as a constant, is passed over.
        """
        given = flat(params, lenient=clip)
        values: dict[str, Any] = {}
        for path in self._conditions:  # parents first
            if not self._is_there(path, values):
                continue
            if path not in given:
                raise InvalidInput(f"{path} is missing: give it a value.")
            values[path] = self._parameters[path].accept(path, given[path], clip=clip)
        if not clip:
            self._refuse_others(given, values)
        return self._encoding.row(values)

    def _is_there(self, path: str, values: Mapping[str, Any]) -> bool:
        return all(one.path in values and one.holds(values[one.path]) for one in self._conditions[path])

    def _refuse_others(self, given: Mapping[str, Any], values: Mapping[str, Any]) -> None:
        for path, value in given.items():
            if path not in self._entries:
                raise UnknownName(f"{path} is not in the space.{nearest(path, self._entries)}")
            if path in self.constants and key_of(plain(value)) != key_of(self.constants[path]):
                raise InvalidInput(f"{path}={shown(value)} must be {shown(self.constants[path])}, which is constant.")
            if path not in values and path not in self.constants:
                reasons = " and ".join(str(one) for one in self._conditions.get(path, ()))
                told = f"it is there only where {reasons}" if reasons else "its `when` rules it out"
                raise InvalidInput(f"{path}={shown(value)} cannot be given here: {told}.")

    def decode(self, x: Any) -> dict[str, Any]:
        """The legal values nearest to a point (d,), by dotted path, with constants, without what is not there."""
        units = self.snap([x])[0].tolist()
        at = dict(zip(self._parameters, units, strict=True))
        found: dict[str, Any] = {}
        for path, entry in self._entries.items():
            if path in self.constants:
                found[path] = plain(entry)
            elif path in at and at[path] == at[path]:
                found[path] = entry.value(at[path])
        return found

    def snap(self, X: Any) -> np.ndarray:
        """The nearest legal points (n, d): whole numbers at their bin's middle, NaN where a parameter is not there.

        A parameter that is there, and NaN in X, becomes its search centre.
        """
        return self._encoding.snap(self._encoding.matrix(X))

    def feasible(self, X: Any) -> np.ndarray:
        """Which points of (n, d), snapped, meet all constraints: (n,) bool. One over an absent parameter is met."""
        return self._encoding.feasible(self.snap(X))

    def sample(self, n: int, rng: np.random.Generator, sobol: bool = False) -> np.ndarray:
        """Legal points (n, d) that meet the constraints, uniform or from a scrambled Sobol sequence.

        Raises InvalidInput, naming the constraint that fails most, when too few points meet them.
        """
        encoding = self._encoding
        from metta_jobs.optimizer.sampling import sample

        return sample(encoding, n, rng, sobol=sobol)

    @cached_property
    def _centre(self) -> np.ndarray:
        encoding = self._encoding
        from metta_jobs.optimizer.sampling import feasible_centre

        return feasible_centre(encoding)

    @property
    def centre(self) -> np.ndarray:
        """The search centre (d,), snapped: the means, or the feasible point near them that was found.

        Raises InvalidInput where no point is feasible.
        """
        return self._centre.copy()

    @property
    def scales(self) -> np.ndarray:
        """How far local suggestions lie from their centre on each axis, (d,): `scale` as a number."""
        return self._encoding.scales

    def grid(self, points_per_continuous: int) -> Iterator[np.ndarray]:
        """All combinations (d,) of this many values of each continuous parameter and all levels of the others."""
        encoding = self._encoding
        from metta_jobs.optimizer.sampling import grid

        return grid(encoding, points_per_continuous)

    # -------------------------------------------------------------------------------------------- questions

    def validate_paths(self, legal: Collection[str] | Callable[[str], object]) -> None:
        """Raise UnknownName for a path that the target's configuration does not have, with the nearest that it has.

        `legal`: its paths, or a function that answers for one; a function may also raise an error of its own.
        """
        wrong = [path for path in self._entries if not (legal(path) if callable(legal) else path in legal)]
        if wrong:
            close = "" if callable(legal) else nearest(wrong[0], legal)
            more = f" Nor are there: {', '.join(wrong[1:4])}{', …' if len(wrong) > 4 else ''}." if wrong[1:] else ""
            raise UnknownName(f"The space has {wrong[0]!r}, which the configuration does not.{close}{more}")

    def difference(self, params_a: Mapping[str, Any], params_b: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
        """What differs between two points, path → (a, b), in the space's order; ABSENT where one has no value."""
        a, b = flat(params_a), flat(params_b)
        paths = dict.fromkeys([*(path for path in self._entries if path in a or path in b), *a, *b])
        pairs = {path: (a.get(path, ABSENT), b.get(path, ABSENT)) for path in paths}
        return {path: pair for path, pair in pairs.items() if not same(plain(pair[0]), plain(pair[1]))}


def _equal(left: Any, right: Any) -> bool:
    if isinstance(left, Distribution) or isinstance(right, Distribution):
        return type(left) is type(right) and _plain_key(left.to_dict()) == _plain_key(right.to_dict())
    return key_of(left) == key_of(right) and type(left) is type(right)


def _plain_key(data: Any) -> Any:
    if isinstance(data, Mapping):
        return [(key, _plain_key(value)) for key, value in data.items()]
    return key_of(plain(data))
