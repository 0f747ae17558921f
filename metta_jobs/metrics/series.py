"""Metrics as series: one per key, however the keys were logged, thinned without losing a spike."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from metta_jobs.metrics.base import STEP_KEYS, Row, Series, Source, as_number
from metta_jobs.metrics.wandb_log import WandbFolder


def read_series(folder: Path, keys: Sequence[str], max_points: int | None = 1000) -> dict[str, Series]:
    """Read the metrics that the job with the attempt folder `folder` has logged so far.

    Every key is a series of its own, empty when it was never logged, with at most `max_points` points (None: all).
    The x axis is the metric `metric/agent_step` if it was logged together with the key, else `global_step`, else
    wandb's count of log calls. Where a resumed run did steps again, the later values replace the earlier. Raises
    OSError when a log may not be read.
    """
    return {key: thin(series, max_points) for key, series in collect(WandbFolder(folder), keys).items()}


def collect(source: Source, keys: Sequence[str]) -> dict[str, Series]:
    """Read all points of each key from `source`."""
    collectors = {key: _Collector() for key in keys}
    for row in source.rows({*keys, *STEP_KEYS}):
        for key, collector in collectors.items():
            if key in row:
                collector.add(row, row[key])
    return {key: collector.series() for key, collector in collectors.items()}


class _Collector:
    """Gathers one key's points on the best axis that was logged with it."""

    def __init__(self) -> None:
        self.axis = len(STEP_KEYS)
        self.fragment = 0
        self.steps: list[float] = []
        self.values: list[float] = []
        self.skipped = 0

    def add(self, row: Row, raw: object) -> None:
        value = as_number(raw)
        axis, step = _place(row)
        if value is None or step is None or axis > self.axis:
            self.skipped += 1
            return
        if axis < self.axis:  # points on a poorer axis cannot be compared with this one
            self.skipped += len(self.values)
            self.axis, self.steps, self.values = axis, [], []
        if (fragment := row.get("_fragment", 0)) != self.fragment:
            self.fragment = fragment
            self._forget_from(step)
        self.steps.append(step)
        self.values.append(value)

    def _forget_from(self, step: float) -> None:
        """A run that resumed from a checkpoint does its last steps again: what follows replaces them."""
        while self.steps and self.steps[-1] >= step:
            self.steps.pop()
            self.values.pop()

    def series(self) -> Series:
        order = sorted(range(len(self.steps)), key=self.steps.__getitem__)
        return Series([self.steps[i] for i in order], [self.values[i] for i in order], self.skipped)


def _place(row: Row) -> tuple[int, float | None]:
    for axis, key in enumerate(STEP_KEYS):
        step = as_number(row.get(key))
        if step is not None and math.isfinite(step):
            return axis, step
    return len(STEP_KEYS), None


def thin(series: Series, max_points: int | None) -> Series:
    """Return at most `max_points` points of `series`: the first, the last, and the extremes in between.

    The points between are cut into stretches of equal count; of each its lowest and its highest stay, so that spikes
    survive, and, in a series with gaps, one NaN if it has any.
    """
    count = len(series)
    if max_points is None or count <= max_points:
        return series
    gaps = any(math.isnan(value) for value in series.values)
    buckets = max(0, (max_points - 2) // (3 if gaps else 2))
    kept = {0, count - 1} if max_points >= 2 else {count - 1}
    for bucket in range(buckets):
        start = 1 + bucket * (count - 2) // buckets
        stop = 1 + (bucket + 1) * (count - 2) // buckets
        numbers = [i for i in range(start, stop) if not math.isnan(series.values[i])]
        if numbers:
            kept.add(min(numbers, key=series.values.__getitem__))
            kept.add(max(numbers, key=series.values.__getitem__))
        if len(numbers) < stop - start:
            kept.add(next(i for i in range(start, stop) if math.isnan(series.values[i])))
    order = sorted(kept)
    return Series([series.steps[i] for i in order], [series.values[i] for i in order], series.skipped)
