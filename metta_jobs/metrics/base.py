"""What every source of metrics answers, and the values that travel between them."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from metta_jobs.metrics.names import STEP_KEYS as STEP_KEYS
from metta_jobs.views import Progress as Progress

#: What one call of a logger stored: metric name to value. `_step` is always there and counts log calls over all
#: fragments of a run; `_fragment` is there when the run was started again, and counts its starts.
Row = dict[str, Any]


@dataclass(frozen=True)
class Series:
    """One metric over time: `values[i]` was logged at step `steps[i]`; steps never fall.

    A NaN or an infinity that was logged stays one. `skipped` counts what was logged under this name but is no number,
    or has no place on the axis.
    """

    steps: list[float]
    values: list[float]
    skipped: int = 0

    def __len__(self) -> int:
        return len(self.values)


@dataclass
class RunInfo:
    """What a source knows about a run beside its metrics. `exit_code` is None until the run reported its end."""

    run_id: str | None = None
    name: str | None = None
    entity: str | None = None
    project: str | None = None
    config: dict[str, Any] = field(default_factory=dict)
    summary: dict[str, Any] = field(default_factory=dict)
    exit_code: int | None = None


class Source(Protocol):
    """A place where one run's metrics can be read row by row."""

    def rows(self, keys: Collection[str] | None = None) -> Iterator[Row]:
        """Yield all rows so far in the order of logging, each with only `keys` (None: all) beside `_step`."""

    def info(self) -> RunInfo:
        """Return what is known now about the run."""


class MetricsSource(Protocol):
    """The metrics of one run, wherever they are kept. We only ever read what the run writes.

    `kind` names the source: "wandb" (the log on disk), "tensorboard", "csv", "jsonl", "wandb-api".
    """

    @property
    def kind(self) -> str: ...

    def history(self, run_keys: Sequence[str], samples: int | None = 1000) -> dict[str, Series]:
        """Return one series per key, empty when it was never logged, of at most `samples` points (None: all).

        The lowest and the highest of what the source gives are among the points. A canonical name that was never
        logged gives what was logged under another well-known one (names.py). Raises OSError when a file may not be
        read, WandbError when W&B cannot be asked.
        """

    @property
    def summary(self) -> Mapping[str, Any]:
        """The last value of every metric, and what the run has put into its summary."""

    @property
    def config(self) -> Mapping[str, Any]:
        """The run's configuration, as far as it was logged."""

    @property
    def progress(self) -> Progress:
        """The newest values."""


def as_number(value: object) -> float | None:
    """Return `value` as a float, or None when it is no number.

    Booleans count as 0 and 1; "NaN", "Infinity" and "-Infinity" are how loggers spell those floats in JSON.
    """
    if isinstance(value, (int, float)):
        try:
            return float(value)
        except OverflowError:
            return math.inf if value > 0 else -math.inf
    if value in ("NaN", "Infinity", "-Infinity"):
        return float(str(value))
    return None
