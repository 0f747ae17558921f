"""One round of the daemon, in this process, with an executor that starts nothing: the queue's own cost."""

from __future__ import annotations

import shutil
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks import history
from benchmarks.bed import NOOP
from benchmarks.figures import Figure, Must
from metta_jobs import JobConfig
from metta_jobs.daemon.tick import tick
from metta_jobs.testing import add, make_house


def measure(quick: bool) -> list[Figure]:
    """A round with 10,000 pending and 1,000 running jobs in which one ends and the next is claimed; and a quiet one."""
    pending, running = 10_000, 1_000
    with queue(pending, running) as house:
        turns = 10 if quick else 40
        ends = [ended_ms(house, 1) for _ in range(turns)]
        many = [ended_ms(house, 10) for _ in range(turns // 4)]
        quiet = [tick_ms(house) for _ in range(turns)]
    what = f"one tick with {pending:,} pending and {running:,} running"
    return [
        Figure(
            "tick.end",
            f"{what}: one ends, one starts",
            statistics.median(ends),
            "ms",
            Must("<", 50),
            f"median of {turns}, at most {max(ends):.0f}; ten end, ten start: {statistics.median(many):.1f} ms",
            {"ms": ends, "ten_ms": many},
        ),
        Figure("tick.quiet", f"{what}: no news", statistics.median(quiet), "ms", Must("<", 50), "", {"ms": quiet}),
    ]


@contextmanager
def queue(pending: int, running: int, past: int = 0) -> Iterator[Any]:
    """A house with so many jobs that run, wait, and (a copy of one that it ran) have ended."""
    folder = Path(tempfile.mkdtemp(prefix="house-")).resolve()
    house = make_house(folder, cpus=running)
    try:
        if past:
            (first,) = add(house, JobConfig(name="first", command=NOOP), group="past")
            _settle(house)
            house.executors["local"].end((first, 1), 0)  # type: ignore[attr-defined]
            _settle(house)
            history.fill(folder / "jobs.sqlite", past)
        add(house, *(JobConfig(name=f"j{n}", command=NOOP) for n in range(pending + running)), group="live")
        _settle(house)
        yield house
    finally:
        house.store.close()
        shutil.rmtree(folder)


def _settle(house: Any) -> None:
    """Tick until a round changes nothing."""
    for _ in range(1_000):
        if not tick(house):
            return
    raise TimeoutError("the queue does not come to rest")


def tick_ms(house: Any) -> float:
    """Milliseconds of one round."""
    house.clock.advance(0.01)
    began = time.perf_counter()
    tick(house)
    return 1000 * (time.perf_counter() - began)


def ended_ms(house: Any, count: int) -> float:
    """Milliseconds of the round that finds so many jobs ended; the rounds after it are not counted."""
    executor = house.executors["local"]
    before = len(executor.launched)
    oldest = [key for key in executor.launched if executor._processes[key].alive][:count]
    for key in oldest:
        executor.end(key, 0)
    taken = tick_ms(house)
    if len(executor.launched) != before + count:
        raise RuntimeError(f"{count} jobs ended, and {len(executor.launched) - before} were started in the same round")
    _settle(house)
    return taken
