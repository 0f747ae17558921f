"""How far a running job is, cheap enough to ask every second."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Collection, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from metta_jobs.metrics.base import STEP_KEYS, Row, RunInfo, as_number
from metta_jobs.metrics.wandb_framing import LogTail, find_logs
from metta_jobs.metrics.wandb_log import step_shift
from metta_jobs.metrics.wandb_records import DECODE_ERRORS, HISTORY, SUMMARY, apply, find_message, history_row
from metta_jobs.views import Progress as Progress

#: Names of a run's planned number of steps, best first, wherever they stand in its config.
TOTAL_KEYS = ("total_timesteps", "total_steps")
_AXES = STEP_KEYS[:-1]
_WINDOW_BYTES = 1 << 20


class ProgressReader:
    """Follows the log of the job whose attempt folder is `folder`; `keys` are to be among Progress.values."""

    def __init__(
        self,
        folder: Path,
        reward_key: str = "overview/reward",
        sps_key: str = "overview/sps",
        keys: Collection[str] = (),
    ) -> None:
        self.folder = folder
        self.reward_key = reward_key
        self.sps_key = sps_key
        self.keys = tuple(sorted(set(keys)))
        self._starts: dict[Path, _Start] = {}

    def poll(self) -> Progress:
        """Read what is new and return the newest values. Raises OSError when a log may not be read.

        A long log that is new to this reader is read at its ends, if they tell everything.
        """
        newest: Row = {}
        total: float | None = None
        next_step: dict[str | None, int] = {}
        for path in find_logs(self.folder):
            start = self._starts.get(path)
            if start is None:
                start = self._starts[path] = _Start(path, (self.reward_key, self.sps_key, *self.keys))
            start.poll()
            newest |= start.newest
            if start.first_step is not None:
                run_id, first, last = start.info.run_id, start.first_step, start.last_step
                newest["_step"] = last + step_shift(first, next_step.get(run_id, 0))
                next_step[run_id] = newest["_step"] + 1
            found = find_total(start.info.config)
            total = total if found is None else found
        return Progress(
            steps=as_number(next((newest[key] for key in STEP_KEYS if key in newest), None)),
            total=total,
            reward=as_number(newest.get(self.reward_key)),
            sps=as_number(newest.get(self.sps_key)),
            updated_at=as_number(newest.get("_timestamp")),
            values={key: value for key in self.keys if (value := as_number(newest.get(key))) is not None},
        )


class _Start:
    """The newest values in the log of one start of a run."""

    def __init__(self, path: Path, measured: tuple[str, ...]) -> None:
        self.info = RunInfo()
        self.newest: Row = {}
        self.first_step: int | None = None
        self.last_step = 0
        self._tail = LogTail(path)
        self._measured = measured
        self._keys = frozenset(key.encode() for key in (*measured, *_AXES, "_timestamp"))
        self._opened = False

    def poll(self) -> None:
        if not self._opened:
            self._opened = True
            if self._tail.size() > 4 * _WINDOW_BYTES:
                self._open_long()
        self._read()

    def _open_long(self) -> None:
        """Read the first and the last stretch, and what lies between only when they do not tell everything."""
        self._read(_WINDOW_BYTES)
        between = self._tail.offset
        head, self.newest = self.newest, {}
        self._tail.skip_to_last(_WINDOW_BYTES)
        self._read()
        known = all(key in self.newest for key in self._measured) and any(key in self.newest for key in _AXES)
        if not known or find_total(self.info.config) is None:
            self.newest = head
            self._tail.offset = between

    def _read(self, most: int | None = None) -> None:
        for records in self._tail.batches(most):
            if self.first_step is None:
                self._find_first(records)
            self._take(records)

    def _find_first(self, records: list[bytes]) -> None:
        for record in records:
            kind, start, end = _message(record)
            if kind == HISTORY:
                row = _row(record, start, end, frozenset())
                self.first_step = row.get("_step")
                return

    def _take(self, records: list[bytes]) -> None:
        """Go from the newest record back, and decode only the newest value of each metric."""
        missing = self._keys
        found: Row = {}
        others: list[tuple[bytes, int, int, int]] = []
        for record in reversed(records):
            kind, start, end = _message(record)
            if kind == HISTORY:
                if "_step" not in found or any(key in record for key in missing):
                    row = _row(record, start, end, missing)
                    found = {**row, **found}
                    missing = missing - {key.encode() for key in row}
            elif kind and kind != SUMMARY:
                others.append((record, kind, start, end))
        for record, kind, start, end in reversed(others):
            with suppress(*DECODE_ERRORS):  # a record of a later wandb: its news is lost, the rest is not
                apply(self.info, record, kind, start, end)
        self.last_step = found.pop("_step", self.last_step)
        self.newest |= found


def _message(record: bytes) -> tuple[int, int, int]:
    try:
        return find_message(record)
    except DECODE_ERRORS:
        return 0, 0, 0


def _row(record: bytes, start: int, end: int, wanted: frozenset[bytes]) -> Row:
    try:
        return history_row(record, start, end, wanted)
    except DECODE_ERRORS:
        return {}


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
            if number is not None and 0 < number < math.inf:
                return number
            level.extend(inner for inner in place.values() if isinstance(inner, Mapping))
    return None
