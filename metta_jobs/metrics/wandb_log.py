"""A run's metrics from the transaction log that wandb keeps on disk, online or not. Never imports wandb."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from pathlib import Path

from metta_jobs.metrics.base import Row, RunInfo
from metta_jobs.metrics.reading import Reading
from metta_jobs.metrics.wandb_framing import LogTail, find_logs
from metta_jobs.metrics.wandb_records import (
    DECODE_ERRORS,
    HISTORY,
    SUMMARY,
    RowPicker,
    apply,
    find_message,
    history_row,
)


class WandbLog:
    """One transaction log: one start of a run. `poll` reads what is new; `info` is what was read so far.

    `keys` limits which metrics are decoded (None: all), `summary` whether the run's summary is kept up to date: both
    only save time. `undecodable` counts records that are whole but not as expected.
    """

    def __init__(self, path: Path, keys: Collection[str] | None = None, summary: bool = False) -> None:
        self.tail = LogTail(path)
        self.info = RunInfo()
        self.undecodable = 0
        self._picker = None if keys is None else RowPicker(keys)
        self._summary = summary

    def poll(self) -> Iterator[Row]:
        """Yield the rows that became complete since the last call."""
        for batch in self.tail.batches():
            for record in batch:
                try:
                    kind, start, end = find_message(record)
                    if kind == HISTORY:
                        yield (
                            history_row(record, start, end, None)
                            if self._picker is None
                            else self._picker.row(record, start, end)
                        )
                    elif kind and (kind != SUMMARY or self._summary):
                        apply(self.info, record, kind, start, end)
                except DECODE_ERRORS:
                    self.undecodable += 1


class WandbFolder(Reading):
    """All that was logged with one of `folders` as WANDB_DIR, such as those of a job's attempts, oldest first.

    Several logs are the starts of a run that was resumed. As in W&B itself, the `_step` of a start that counts from
    zero again is moved behind the last step of the same run.
    """

    kind = "wandb"

    def __init__(self, *folders: Path) -> None:
        self.folders = folders

    def _logs(self) -> list[Path]:
        return [log for folder in self.folders for log in find_logs(folder)]

    def rows(self, keys: Collection[str] | None = None) -> Iterator[Row]:
        """Yield all rows of all starts, oldest first."""
        next_step: dict[str | None, int] = {}
        for fragment, path in enumerate(self._logs()):
            log = WandbLog(path, keys)
            shift: int | None = None
            for row in log.poll():
                run_id = log.info.run_id
                shift = step_shift(row["_step"], next_step.get(run_id, 0)) if shift is None else shift
                row["_step"] += shift
                row["_fragment"] = fragment
                next_step[run_id] = row["_step"] + 1
                yield row

    def info(self) -> RunInfo:
        """Return the newest start's identity and end, with the config and summary of all."""
        total = RunInfo()
        for path in self._logs():
            log = WandbLog(path, keys=(), summary=True)
            for _ in log.poll():
                pass
            log.info.config = {**total.config, **log.info.config}
            log.info.summary = {**total.summary, **log.info.summary}
            total = log.info
        return total


def step_shift(first_step: int, next_step: int) -> int:
    """Return what to add to the steps of a resumed start whose first step is `first_step`."""
    return next_step if first_step < next_step else 0
