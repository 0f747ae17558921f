"""What has been tried: observations, replicates merged, and what a model learns from."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[Any]


@dataclass(frozen=True)
class Observation:
    """One trial that has ended.

    score is None where it failed; of a stopped trial it is a lower bound, what it had reached by then. cost is above
    0 in any one unit, or None where unknown. noise is the standard error of the score, where it is known. The score
    is as the user knows it: a metric that is minimised keeps its sign.
    """

    params: dict[str, Any]
    x: tuple[float, ...] = field(compare=False)  # inactive dimensions are NaN, which equals nothing
    score: float | None
    cost: float | None
    failed: bool = False
    stopped: bool = False
    noise: float | None = None

    @property
    def finished(self) -> bool:
        """Whether its score is a final one."""
        return not self.failed and not self.stopped and self.score is not None


@dataclass(frozen=True)
class Prediction:
    """What the model expects at a point: score and its standard deviation (of the true score, without noise), cost,
    and the probability that the trial does not fail. cost is None while none is known."""

    score: float
    std: float
    cost: float | None
    feasible: float


@dataclass(frozen=True)
class Suggestion:
    """A point to try, and why. x is encoded, (d,). source is one of centre, spread, model, repeat, random, sobol, grid
    or optuna; expected_improvement (over the best so far, in units of the score) and expected_improvement_per_cost are
    None where no model was asked."""

    params: dict[str, Any]
    x: tuple[float, ...] = field(compare=False)
    source: str
    why: str
    prediction: Prediction | None = None
    expected_improvement: float | None = None
    expected_improvement_per_cost: float | None = None


@dataclass(frozen=True)
class Data:
    """What models learn from: n distinct points, of which each may have been observed several times.

    x (n, d) encoded; y (n,) mean score, larger is better, NaN where none is final; count (n,) of final scores;
    known_noise (n,) variance of the mean that was told, 0 where none was; log_cost (n,) NaN where none is known;
    failures and trials (n,); floor (n,) the score at which a trial was stopped, NaN elsewhere.
    """

    x: Array
    y: Array
    count: Array
    known_noise: Array
    log_cost: Array
    failures: Array
    trials: Array
    floor: Array


@dataclass
class _Cell:
    """All that was observed at one point."""

    x: tuple[float, ...]
    scores: list[float] = field(default_factory=list)
    variances: list[float] = field(default_factory=list)
    logs: list[float] = field(default_factory=list)
    floors: list[float] = field(default_factory=list)
    failures: int = 0
    trials: int = 0


def place(x: Iterable[float]) -> tuple[float, ...]:
    """A point as a key: rounded, and with one stand-in for inactive dimensions (NaN is not equal to itself)."""
    return tuple(-1.0 if value != value else round(float(value), 9) for value in x)


def merge(observations: Sequence[Observation], sign: float, dimensions: int) -> Data:
    """Merge replicates: scores at the same point are averaged, and their count and known noise kept."""
    import numpy as np

    cells: dict[tuple[float, ...], _Cell] = {}
    for seen in observations:
        cell = cells.setdefault(place(seen.x), _Cell(seen.x))
        cell.trials += 1
        cell.failures += seen.failed
        if seen.finished:
            assert seen.score is not None
            cell.scores.append(sign * seen.score)
            cell.variances.append((seen.noise or 0.0) ** 2)
            if seen.cost:
                cell.logs.append(float(np.log(seen.cost)))
        elif seen.stopped and seen.score is not None:
            cell.floors.append(sign * seen.score)
    rows = list(cells.values())
    nan = float("nan")
    return Data(
        x=np.array([row.x for row in rows], dtype=float).reshape(len(rows), dimensions),
        y=np.array([np.mean(row.scores) if row.scores else nan for row in rows], dtype=float),
        count=np.array([len(row.scores) for row in rows], dtype=float),
        known_noise=np.array([np.mean(row.variances) / len(row.scores) if row.scores else 0.0 for row in rows]),
        log_cost=np.array([np.mean(row.logs) if row.logs else nan for row in rows], dtype=float),
        failures=np.array([row.failures for row in rows], dtype=float),
        trials=np.array([row.trials for row in rows], dtype=float),
        floor=np.array([max(row.floors) if row.floors and not row.scores else nan for row in rows], dtype=float),
    )
