"""The newest values in W&B's log on disk, cheap enough to ask every second."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from itertools import chain
from pathlib import Path

from metta_jobs.metrics.base import Row, RunInfo
from metta_jobs.metrics.names import STEP_KEYS
from metta_jobs.metrics.reading import find_total
from metta_jobs.metrics.wandb_framing import LogTail, find_logs
from metta_jobs.metrics.wandb_log import step_shift
from metta_jobs.metrics.wandb_records import DECODE_ERRORS, HISTORY, SUMMARY, apply, find_message, history_row

_AXES = STEP_KEYS[:-1]
_WINDOW_BYTES = 1 << 20


class WandbFollower:
    """Follows all logs under one WANDB_DIR. `measured` holds, for each thing to measure, its names, best first.

    A long log that is new to it is read at its ends, if they tell everything.
    """

    def __init__(self, folder: Path, measured: Sequence[Sequence[str]]) -> None:
        self.folder = folder
        self._measured = measured
        self._starts: dict[Path, _Start] = {}

    def poll(self) -> tuple[Row, float | None]:
        """Read what is new; return the newest value of each metric, and the planned number of steps."""
        newest: Row = {}
        total: float | None = None
        next_step: dict[str | None, int] = {}
        for path in find_logs(self.folder):
            start = self._starts.get(path)
            if start is None:
                start = self._starts[path] = _Start(path, self._measured)
            start.poll()
            newest |= start.newest
            if start.first_step is not None:
                run_id, first, last = start.info.run_id, start.first_step, start.last_step
                newest["_step"] = last + step_shift(first, next_step.get(run_id, 0))
                next_step[run_id] = newest["_step"] + 1
            found = find_total(start.info.config)
            total = total if found is None else found
        return newest, total


class _Start:
    """The newest values in the log of one start of a run."""

    def __init__(self, path: Path, measured: Sequence[Sequence[str]]) -> None:
        self.info = RunInfo()
        self.newest: Row = {}
        self.first_step: int | None = None
        self.last_step = 0
        self._tail = LogTail(path)
        self._measured = measured
        self._keys = frozenset(key.encode() for key in (*chain(*measured), *_AXES, "_timestamp"))
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
        # A better name than those seen may stand in between; the best one cannot be beaten.
        known = all(names[0] in self.newest for names in self._measured) and any(key in self.newest for key in _AXES)
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
