"""What a later attempt is told of those before it: the folder of the last one, and a checkpoint to go on from."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

from metta_jobs.daemon.house import House
from metta_jobs.executors.base import Key
from metta_jobs.metrics.artifacts import find_checkpoints
from metta_jobs.store import health


def earlier(house: House, key: Key) -> dict[str, str]:
    """METTA_PREVIOUS_DIR, where there was an attempt before and its folder is there; and METTA_CHECKPOINT, where a
    health rule has ended that attempt so that it is tried again: the newest checkpoint from before anything was wrong,
    or one of the attempt before that, if it ended so, too."""
    job_id, number = key
    found: dict[str, str] = {}
    for before in range(number - 1, 0, -1):
        folder = house.state_dir.attempt(job_id, before)
        if before == number - 1 and folder.is_dir():
            found["METTA_PREVIOUS_DIR"] = str(folder)
        with house.store.read() as connection:
            well_until = health.well_until(connection, (job_id, before))
        if well_until is None:
            break
        if (checkpoint := _newest(folder, well_until)) is not None:
            found["METTA_CHECKPOINT"] = str(checkpoint)
            break
    return found


def _newest(folder: Path, well_until: datetime) -> Path | None:
    """What was saved after that moment may hold what was wrong already: a training saves on TERM, too."""
    good = [path for moment, path in find_checkpoints(folder) if moment <= well_until.timestamp()]
    return good[-1] if good else None
