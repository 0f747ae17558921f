"""How many jobs a second go through, and how long it takes to put them in."""

from __future__ import annotations

import statistics
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from sqlite3 import connect

from benchmarks.bed import Bed, bed, noops, until
from benchmarks.figures import Figure, Must
from benchmarks.reference import spawn_rate
from metta_jobs import JobConfig

#: After so many seconds no further round is begun.
ENOUGH_S, ENOUGH_QUICK_S = 60.0, 10.0


def measure(quick: bool) -> list[Figure]:
    """Durable throughput: no-op jobs with 2 slots through submit into a running daemon, first start to last end."""
    jobs = 1_000 if quick else 10_000
    began = time.perf_counter()
    spawns = [spawn_rate() for _ in range(3)]
    rates: list[float] = []
    walls: list[float] = []
    enough = ENOUGH_QUICK_S if quick else ENOUGH_S
    while not rates or (len(rates) < 3 and time.perf_counter() - began < enough):
        with bed(cpus=2) as place:
            place.warm()
            submitted = time.time()
            rates.append(rate(place, jobs, "many"))
            walls.append(jobs / (time.time() - submitted))
        spawns += [spawn_rate() for _ in range(3)]
    bare = statistics.median(spawns)
    detail = {"jobs": jobs, "rates_per_s": rates, "with_submit_per_s": walls, "spawns_per_s": spawns}
    return [
        Figure(
            "throughput.ratio",
            f"durable throughput, {jobs:,} no-op jobs, 2 slots",
            statistics.median(rates) / bare,
            "R",
            Must("≥", 0.45),
            f"{statistics.median(rates):.0f} of {bare:.0f} a second, median of {len(rates)}",
            detail,
        )
    ]


def rate(place: Bed, jobs: int, group: str) -> float:
    """Jobs a second, from the first start to the last end, by the times that are stored."""
    place.manager.submit(noops(jobs), group=group)
    place.rest(every_s=0.05, patience_s=600)
    view = place.manager.group(group)
    bad = [job for job in view.jobs if job.state.value != "succeeded" or job.started_at is None]
    if bad:
        raise RuntimeError(f"{len(bad)} of {jobs} jobs did not succeed: {bad[0].name} {bad[0].state} ({bad[0].reason})")
    starts = [job.started_at for job in view.jobs if job.started_at is not None]
    ends = [job.finished_at for job in view.jobs if job.finished_at is not None]
    return jobs / (max(ends) - min(starts)).total_seconds()


def submit(quick: bool) -> list[Figure]:
    """Putting a group in through the API while the daemon runs and its slots are taken."""
    jobs = 10_000
    taken: list[float] = []
    for _ in range(1 if quick else 3):
        with busy_bed() as place:
            configs = noops(jobs)
            began = time.perf_counter()
            place.manager.submit(configs, group="many")
            taken.append(time.perf_counter() - began)
    with busy_bed() as place:
        seen = _sizes_seen(place, noops(2_000))
    return [
        Figure(
            "submit.time",
            f"submit {jobs:,} jobs as one group through the API",
            statistics.median(taken),
            "s",
            Must("<", 1.5),
            f"{statistics.median(taken) / jobs * 1e6:.0f} µs a job, median of {len(taken)}",
            {"seconds": taken},
        ),
        Figure(
            "submit.parts",
            "a group while it is put in: sizes seen but none and whole",
            len(seen ^ {0, 2_000}),
            "",
            Must("≤", 0),
            "one transaction when none",
            {"sizes_seen": sorted(seen)},
        ),
    ]


@contextmanager
def busy_bed() -> Iterator[Bed]:
    """A bed whose two slots are taken."""
    with bed(cpus=2) as place:
        place.manager.submit([JobConfig(name=f"holder{n}", command=("sleep", "1000")) for n in range(2)], group="busy")
        until(lambda: place.manager.group("busy").counts.running == 2, "two slots taken")
        yield place


def _sizes_seen(place: Bed, configs: list[JobConfig]) -> set[int]:
    """How many of these jobs another reader finds, looking again and again while they are put in."""
    found: set[int] = set()
    done = threading.Event()

    def look() -> None:
        with closing(connect(place.database, isolation_level=None)) as connection:
            last = False
            while not last:
                last = done.is_set()  # one look more when it is over
                found.add(connection.execute("SELECT count(*) FROM jobs WHERE name LIKE 'j%'").fetchone()[0])

    reader = threading.Thread(target=look)
    reader.start()
    try:
        place.manager.submit(configs, group="parts")
    finally:
        done.set()
        reader.join()
    return found
