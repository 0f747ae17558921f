"""What the daemon costs beside training: with nothing to do, and with a hundred jobs that run."""

from __future__ import annotations

import time

import psutil

from benchmarks import processes
from benchmarks.bed import Bed, bed, until
from benchmarks.figures import Figure, Must
from metta_jobs import JobConfig

RUNNING = 100
SETTLE_S = 3.0


def idle(quick: bool) -> list[Figure]:
    """The daemon when every job has ended."""
    seconds = 8.0 if quick else 30.0
    with bed() as place:
        place.warm()
        daemon = place.daemon()
        others = _others(place, daemon)
        time.sleep(SETTLE_S)
        used, beside = _watch([daemon], others, seconds)
        resident, unique = processes.memory_mb([daemon])
        left = [other for other in others if other.is_running()]
        _, left_mb = processes.memory_mb(left)
    note = f"over {seconds:.0f} s, {1000 * used.cpu_s / max(1, used.wakes):.2f} ms for each wake-up"
    return [
        Figure("idle.cpu", "daemon idle: share of a core", 100 * used.cpu_s / seconds, "%", Must("<", 0.1), note),
        Figure(
            "idle.memory",
            "daemon idle: resident memory",
            resident,
            "MB",
            Must("<", 70),
            f"{unique:.0f} MB of it its own",
        ),
        Figure(
            "idle.wakes",
            "daemon idle: wake-ups",
            max(0, used.wakes - 1) / seconds,  # what wakes once a second wakes 31 times in 30 s
            "/s",
            Must("≤", 1),
            f"{used.wakes} times in {seconds:.0f} s",
        ),
        Figure(
            "idle.beside",
            "idle processes beside the daemon: share of a core",
            100 * beside.cpu_s / seconds,
            "%",
            None,
            f"{len(left)} of them, {left_mb:.0f} MB of their own",
        ),
    ]


def running(quick: bool) -> list[Figure]:
    """The daemon, and what it keeps beside it, while a hundred jobs sleep."""
    seconds = 6.0 if quick else 30.0
    with bed(cpus=RUNNING) as place:
        jobs = [JobConfig(name=f"s{n}", command=("sleep", "1000")) for n in range(RUNNING)]
        place.manager.submit(jobs, group="sleepers")
        until(lambda: place.manager.group("sleepers").counts.running == RUNNING, "a hundred jobs that run", every_s=0.2)
        until(lambda: _sleeping(place) == RUNNING, "a hundred sleeping processes", every_s=0.2)
        daemon = place.daemon()
        others = _others(place, daemon)
        time.sleep(SETTLE_S)
        used, beside = _watch([daemon], others, seconds)
        resident, unique = processes.memory_mb([daemon])
        _, beside_mb = processes.memory_mb(others)
    return [
        Figure(
            "running.cpu",
            f"daemon with {RUNNING} running jobs: share of a core",
            100 * used.cpu_s / seconds,
            "%",
            Must("<", 1),
            f"over {seconds:.0f} s; {used.wakes / seconds:.1f} wake-ups a second; {resident:.0f} MB resident, "
            f"{unique:.0f} its own",
        ),
        Figure(
            "running.runners",
            f"the runners of {RUNNING} running jobs together: share of a core",
            100 * beside.cpu_s / seconds,
            "%",
            None,
            f"{len(others)} processes, {beside_mb / max(1, len(others)):.1f} MB of its own each",
            {"wakes_per_s": beside.wakes / seconds},
        ),
    ]


def _watch(
    daemon: list[psutil.Process], others: list[psutil.Process], seconds: float
) -> tuple[processes.Cost, processes.Cost]:
    """What the daemon uses in so many seconds, and what those beside it do that live to the end of them."""
    before, before_others = processes.cost(daemon), {other: processes.cost([other]) for other in others}
    time.sleep(seconds)
    after = processes.cost(daemon)
    total = processes.Cost(0, 0)
    for other, cost in before_others.items():
        if other.is_running():
            grown = processes.cost([other]) - cost
            total = processes.Cost(total.cpu_s + grown.cpu_s, total.wakes + grown.wakes)
    return after - before, total


def _others(place: Bed, daemon: psutil.Process) -> list[psutil.Process]:
    """What runs for the daemon: neither it nor the jobs' own processes."""
    return [process for process in processes.of_folder(place.root) if process != daemon and process.name() != "sleep"]


def _sleeping(place: Bed) -> int:
    return sum(process.name() == "sleep" for process in processes.of_folder(place.root))
