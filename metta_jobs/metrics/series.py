"""Metrics as series: one per key, however the keys were logged, thinned without losing a spike."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Sequence
from itertools import islice
from operator import le

from metta_jobs.metrics.base import Row, Series, Source, as_number
from metta_jobs.metrics.names import STEP_KEYS, spellings


def collect(source: Source, keys: Sequence[str]) -> dict[str, Series]:
    """Read all points of each key from `source`, by exactly these names."""
    collectors = {key: _Collector() for key in keys}
    pairs = list(collectors.items())
    for row in source.rows({*keys, *STEP_KEYS}):
        place = None
        for key, collector in pairs:
            if key in row:
                place = place or _place(row)
                collector.add(row, row[key], *place)
    return {key: collector.series() for key, collector in collectors.items()}


def collect_known(source: Source, keys: Sequence[str]) -> dict[str, Series]:
    """Read all points of each key; a canonical name that was never logged gives the first other that was."""
    found = collect(source, list(dict.fromkeys(name for key in keys for name in spellings(key))))
    return {key: next((found[n] for n in spellings(key) if _was_logged(found[n])), found[key]) for key in keys}


def _was_logged(series: Series) -> bool:
    return bool(len(series) or series.skipped)


class _Collector:
    """Gathers one key's points on the best axis that was logged with it."""

    def __init__(self) -> None:
        self.axis = len(STEP_KEYS)
        self.fragment = 0
        self.steps: list[float] = []
        self.values: list[float] = []
        self.skipped = 0

    def add(self, row: Row, raw: object, axis: int, step: float | None) -> None:
        value = as_number(raw)
        if value is None or step is None or axis > self.axis:
            self.skipped += 1
            return
        if axis < self.axis:  # points on a poorer axis cannot be compared with this one
            self.skipped += len(self.values)
            self.axis, self.steps, self.values = axis, [], []
        if (fragment := row.get("_fragment", 0)) != self.fragment:
            self.fragment = fragment
            self._forget_from(step)
        elif self.steps and step < self.steps[-1]:
            self._go_back(step)
        self.steps.append(step)
        self.values.append(value)

    def _forget_from(self, step: float) -> None:
        """A run that resumed from a checkpoint does its last steps again: what follows replaces them."""
        while self.steps and self.steps[-1] >= step:
            self.steps.pop()
            self.values.pop()

    def _go_back(self, step: float) -> None:
        """In one file, a run that does steps again comes back to one that it has logged; a late row does not."""
        again = bisect_left(self.steps, step)
        if again < len(self.steps) and self.steps[again] == step:
            del self.steps[again:], self.values[again:]

    def series(self) -> Series:
        if all(map(le, self.steps, islice(self.steps, 1, None))):  # the usual case
            return Series(self.steps, self.values, self.skipped)
        order = sorted(range(len(self.steps)), key=self.steps.__getitem__)
        return Series([self.steps[i] for i in order], [self.values[i] for i in order], self.skipped)


def _place(row: Row) -> tuple[int, float | None]:
    for axis, key in enumerate(STEP_KEYS):
        if key not in row:
            continue
        step = as_number(row[key])
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
