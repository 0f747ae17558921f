"""What following the metrics of 1,000 running jobs costs the daemon."""

from __future__ import annotations

import shutil
import tempfile
import time
from pathlib import Path

from benchmarks.figures import Figure, Must
from benchmarks.screen import logged
from benchmarks.ticks import queue
from metta_jobs.daemon.follow import Follower
from metta_jobs.daemon.readings import SHARE, MetricsThread, Reading
from metta_jobs.policy import GroupConfig
from metta_jobs.store import edit

RUNNING = 1_000
SETTLE_S = 5.0
RULES = (
    {"when": "nan", "action": "kill"},
    {"when": "stalled", "minutes": 60, "action": "notify"},
    {"when": "slow", "share": 0.1},
    {"when": "below", "metric": "overview/reward", "threshold": -1e9},
)


class _Counted(MetricsThread):
    """Counts what it hands over."""

    looks = 0

    def take(self) -> list[Reading]:
        found = super().take()
        self.looks += len(found)
        return found


def measure(quick: bool) -> list[Figure]:
    """1,000 jobs of one group with four rules, each of which logs a row every ten seconds."""
    seconds = 15.0 if quick else 60.0
    scratch = Path(tempfile.mkdtemp(prefix="logged-"))
    data, where = logged(scratch / "run")
    shutil.rmtree(scratch)
    with queue(0, RUNNING) as house:
        rules = GroupConfig.model_validate({"health": RULES}).health
        with house.store.write() as connection:
            edit.set_columns(connection, house.clock.now(), 1, edit.columns({"health": rules}))
        logs = [_begin(house.state_dir.attempt(*key), data, where) for key in house.known]
        house.readings = readings = _Counted(lambda key: house.state_dir.attempt(*key), share=1.0)
        follower = Follower()
        try:
            while readings.looks < RUNNING:  # each is looked at once before it costs: jobs do not begin all at once
                _go_on(house, follower, logs, data, 1.0)
            readings.share = SHARE
            _go_on(house, follower, logs, data, SETTLE_S)
            looks, own, beside = readings.looks, *_go_on(house, follower, logs, data, seconds)
            looks = readings.looks - looks
        finally:
            readings.close()
    turn_s = RUNNING * seconds / max(1, looks)
    metrics = "" if data else "; without metrics, for wandb is not installed"
    return [
        Figure(
            "follow.cpu",
            f"following the metrics of {RUNNING:,} running jobs, four rules: share of a core",
            100 * (own + beside) / seconds,
            "%",
            Must("<", 1),
            f"each is looked at every {turn_s:.0f} s; {100 * beside / seconds:.2f} % of it reading{metrics}",
            {"looks_per_s": looks / seconds},
        ),
    ]


def _begin(folder: Path, data: bytes | None, where: Path | None) -> Path | None:
    folder.mkdir(parents=True, exist_ok=True)
    if data is None or where is None:
        return None
    path = folder / where
    path.parent.mkdir(parents=True)
    path.write_bytes(data[: len(data) // 2])
    return path


def _go_on(
    house: object, follower: Follower, logs: list[Path | None], data: bytes | None, seconds: float
) -> tuple[float, float]:
    """Let a tenth of the jobs log each second, and the follower be tended; return the seconds of a core that this took
    in the daemon's thread, and beside it."""
    began, cpu, mine, own = time.monotonic(), time.process_time(), time.thread_time(), 0.0
    turn = 0
    while time.monotonic() < began + seconds:
        for path in logs[turn % 10 :: 10]:
            if path is not None and data is not None:
                with path.open("ab") as file:
                    size = file.tell()
                    file.write(data[size : size + 300])
        turn += 1
        house.clock.advance(1)  # type: ignore[attr-defined]
        before = time.thread_time()
        follower.tend(house)  # type: ignore[arg-type]
        own += time.thread_time() - before
        time.sleep(max(0.0, began + turn - time.monotonic()))
    return own, (time.process_time() - cpu) - (time.thread_time() - mine)
