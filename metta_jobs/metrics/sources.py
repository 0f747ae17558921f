"""Which sources of metrics a job's run folder holds, and reading from the best of them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from metta_jobs.metrics.base import Series
from metta_jobs.metrics.reading import Reading
from metta_jobs.metrics.series import thin
from metta_jobs.metrics.tables import CsvFile, JsonLinesFile
from metta_jobs.metrics.tensorboard import TensorBoardFolder
from metta_jobs.metrics.walk import CSV_NAMES, JSONL_NAMES, before, telling_files
from metta_jobs.metrics.wandb_framing import find_logs
from metta_jobs.metrics.wandb_log import WandbFolder


def discover(folder: Path, earlier: bool = True) -> list[Reading]:
    """Return the sources that the attempt folder `folder` holds, best first.

    W&B's log, TensorBoard's event files, `progress.csv` and `metrics.csv`, `progress.json`, `metrics.jsonl` and
    `result.json` (JSON lines), anywhere down to four folders below. With `earlier`, what the attempts before have left
    comes before what this one has: a retry that goes on from a checkpoint is one curve. Raises OSError when a folder
    may not be read.
    """
    folders = [*(before(folder) if earlier else ()), folder]
    logs = [one for one in folders if find_logs(one)]
    found = [path for one in folders for path in telling_files(one)]
    events = [path for path in found if "tfevents" in path.name]
    sources: list[Reading] = [WandbFolder(*logs)] if logs else []
    if events:
        sources.append(TensorBoardFolder(*folders))
    # Of several files of one name the last says most: that of the newest attempt.
    for names, kind in ((CSV_NAMES, CsvFile), (JSONL_NAMES, JsonLinesFile)):
        for name in names:
            if same := [path for path in found if path.name == name]:
                sources.append(kind(*same))
    return sources


def read_series(folder: Path, keys: Sequence[str], max_points: int | None = 1000) -> dict[str, Series]:
    """Read the metrics that the job with the attempt folder `folder` has logged so far, with whatever it logs.

    Every key is a series of its own, empty when it was never logged, with at most `max_points` points (None: all);
    it comes from the best source that has it. The x axis is the metric `metric/agent_step` if it was logged together
    with the key, else `global_step` and its like (names.STEP_KEYS), else the source's own count. Where a resumed run
    did steps again, the later values replace the earlier. Raises OSError when a log may not be read.
    """
    found = {key: Series([], []) for key in keys}
    missing = list(found)
    for source in discover(folder):
        for key, series in source.history(missing, None).items():
            if len(series) or series.skipped > found[key].skipped:
                found[key] = series
        missing = [key for key in keys if not len(found[key])]
        if not missing:
            break
    return {key: thin(series, max_points) for key, series in found.items()}
