"""What all sources on disk share: series, summary, config and progress, made from their rows."""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterator, Mapping, Sequence
from math import inf
from typing import Any

from metta_jobs.metrics.base import Progress, Row, RunInfo, Series, as_number
from metta_jobs.metrics.names import REWARD_KEYS, SPS_KEYS, STEP_KEYS, first_of
from metta_jobs.metrics.series import collect_known, thin

#: Names of a run's planned number of steps, best first, wherever they stand in its config.
TOTAL_KEYS = ("total_timesteps", "total_steps")


class Reading:
    """A `MetricsSource` over `rows` and `info`. Nothing is remembered: each question reads what is there now."""

    kind = ""

    def rows(self, keys: Collection[str] | None = None) -> Iterator[Row]:
        """Yield all rows so far in the order of logging, each with only `keys` (None: all) beside `_step`."""
        raise NotImplementedError

    def info(self) -> RunInfo:
        """Return what is known now about the run: here, the last value of every metric."""
        info = RunInfo()
        for row in self.rows():
            info.summary |= row
        info.summary.pop("_fragment", None)
        return info

    def history(self, run_keys: Sequence[str], samples: int | None = 1000) -> dict[str, Series]:
        """As `MetricsSource.history`."""
        return {key: thin(series, samples) for key, series in collect_known(self, run_keys).items()}

    @property
    def summary(self) -> Mapping[str, Any]:
        return self.info().summary

    @property
    def config(self) -> Mapping[str, Any]:
        return self.info().config

    @property
    def progress(self) -> Progress:
        newest: Row = {}
        for row in self.rows({*REWARD_KEYS, *SPS_KEYS, *STEP_KEYS, "_timestamp"}):
            newest |= row
        return progress_of(newest, find_total(self.info().config))


def progress_of(
    newest: Mapping[str, Any],
    total: float | None,
    reward_keys: Sequence[str] = REWARD_KEYS,
    sps_keys: Sequence[str] = SPS_KEYS,
) -> Progress:
    """The progress that the newest value of each metric tells."""

    def number(keys: Sequence[str]) -> float | None:
        key = first_of(keys, newest)
        return None if key is None else as_number(newest[key])

    return Progress(number(STEP_KEYS), total, number(reward_keys), number(sps_keys), number(("_timestamp",)))


def find_total(config: Mapping[str, Any]) -> float | None:
    """Return the planned number of steps from a run's config, the least deeply nested `total_timesteps` first."""
    for name in TOTAL_KEYS:
        level: deque[Mapping[str, Any]] = deque([config])
        while level:
            place = level.popleft()
            value = place.get(name)
            if isinstance(value, Mapping):
                value = value.get("value")  # how W&B's own files nest a config value
            number = None if isinstance(value, bool) else as_number(value)
            if number is not None and 0 < number < inf:
                return number
            level.extend(inner for inner in place.values() if isinstance(inner, Mapping))
    return None
