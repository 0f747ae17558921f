"""How costs grow: not at all with finished jobs, linearly at worst with live ones."""

from __future__ import annotations

import statistics
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from benchmarks import history, ticks
from benchmarks.bed import Bed, bed, noops
from benchmarks.cold import run_ms
from benchmarks.figures import Figure, Must
from benchmarks.latency import starts
from benchmarks.throughput import busy_bed, rate

#: What noise alone may add between the smallest and the largest.
NOISE = 1.3


def finished(quick: bool) -> list[Figure]:
    """The same work with more and more finished jobs behind it, turn by turn."""
    sizes = (100, 1_000, 10_000) if quick else (1_000, 10_000, 100_000)
    costs: dict[str, dict[int, list[float]]] = defaultdict(lambda: defaultdict(list))
    with ExitStack() as stack:
        places = {size: stack.enter_context(_with_history(size)) for size in sizes}
        for turn in range(3 if quick else 4):
            for size, place in places.items():
                for what, cost in _costs(place, turn, quick).items():
                    costs[what][size].append(cost)
    for size in sizes:
        with ticks.queue(1_000, 100, past=size) as house:
            costs["one tick, 1,000 pending, 100 running"][size] = [ticks.ended_ms(house, 1) for _ in range(15)]
    return [_growth("finished", what, "finished", points, NOISE) for what, points in costs.items()]


@contextmanager
def _with_history(size: int) -> Iterator[Bed]:
    with bed() as place:
        place.warm()
        history.fill(place.database, size)
        yield place


def _costs(place: Bed, turn: int, quick: bool) -> dict[str, float]:
    """Milliseconds of each thing that people do."""
    jobs = 100 if quick else 300
    submitted = []
    for number in range(3):
        configs = noops(jobs, "s")
        began = time.perf_counter()
        place.manager.submit(configs, group=f"submitted.{turn}.{number}")
        submitted.append(time.perf_counter() - began)
        place.rest()
    each = 1000 / rate(place, jobs, f"many.{turn}")
    last = place.manager.group(f"many.{turn}").jobs[-1]
    return {
        f"submit {jobs} jobs": 1000 * statistics.median(submitted),
        "one no-op job, of many, 2 slots": each,
        "submit to start, idle queue": statistics.median(starts(place, 5)),
        "metta job list": run_ms(place.metta("job", "list")),
        "metta job show": run_ms(place.metta("job", "show", str(last.id))),
    }


def pending(quick: bool) -> list[Figure]:
    """The same with more and more jobs waiting."""
    sizes = (1_000, 10_000)
    costs: dict[str, dict[int, list[float]]] = defaultdict(lambda: defaultdict(list))
    for size in sizes:
        with busy_bed() as place:
            configs = noops(size)
            began = time.perf_counter()
            place.manager.submit(configs, group="many")
            costs["submit them"][size].append(1000 * (time.perf_counter() - began))
            for _ in range(2 if quick else 5):
                costs["metta job list"][size].append(run_ms(place.metta("job", "list")))
                costs["metta job list GROUP"][size].append(run_ms(place.metta("job", "list", "many")))
        with ticks.queue(size, size // 10) as house:
            costs["one tick, a tenth of them running"][size] = [ticks.ended_ms(house, 1) for _ in range(15)]
    return [_growth("pending", what, "pending", points, 10 * NOISE) for what, points in costs.items()]


def _growth(name: str, what: str, kind: str, points: dict[int, list[float]], most: float) -> Figure:
    middle = {size: statistics.median(values) for size, values in points.items()}
    least, largest = min(middle), max(middle)
    told = ", ".join(f"{size:,}: {cost:.3g}" for size, cost in middle.items())
    return Figure(
        f"scaling.{name}.{what.replace(' ', '_').replace(',', '')}",
        f"{what}: {largest:,} {kind} against {least:,}",
        middle[largest] / middle[least],
        "×",
        Must("≤", most),
        f"{told} ms",
        {str(size): values for size, values in points.items()},
    )
