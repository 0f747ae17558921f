"""How soon one thing follows another: a start a submit, a job its parent, the end of a process tree a kill."""

from __future__ import annotations

import os
import select
import signal
import statistics
import subprocess
import time
from collections.abc import Sequence
from contextlib import ExitStack

from benchmarks.bed import NOOP, Bed, bed, until
from benchmarks.figures import Figure, Must
from metta_jobs import Dependency, JobConfig

#: Says when it starts, in nanoseconds since the epoch, a millisecond after it is spawned.
STAMP = ("date", "+%s%N")
CHILDREN = 4
TREE = f"for i in $(seq {CHILDREN}); do sleep 1000 & echo $!; done; echo $$; wait"


def start(quick: bool) -> list[Figure]:
    """Idle queue to job started: from just before `submit` to what the job itself says."""
    with bed() as place:
        place.warm()
        taken = starts(place, 12 if quick else 60)
    own = statistics.median(_bare_start() for _ in range(9))
    detail = {"ms": taken, "bare_spawn_ms": own}
    note = f"of {len(taken)}; a bare spawn tells {own:.1f} ms"
    return [
        Figure(
            "start.p50",
            "idle queue to job started, API submit, p50",
            statistics.median(taken),
            "ms",
            Must("<", 15),
            note,
            detail,
        ),
        Figure(
            "start.p95", "idle queue to job started, API submit, p95", percentile(taken, 95), "ms", Must("<", 30), note
        ),
    ]


def starts(place: Bed, count: int) -> list[float]:
    """Milliseconds from submit to start, so many times, the queue idle for 0.1 to 0.5 s before each."""
    taken = []
    for number in range(count):
        time.sleep(0.1 + 0.4 * (number * 0.618 % 1))  # so that no daemon's own beat is met or missed each time
        config = JobConfig(name="stamp", command=STAMP)
        began = time.time_ns()
        (job,) = place.manager.submit([config], group=f"start.{time.time_ns()}").jobs
        place.rest(every_s=0.005)
        taken.append((int(place.manager.log_path(job.id).read_text()) - began) / 1e6)
    return taken


def percentile(values: Sequence[float], percent: float) -> float:
    """The smallest of the values that so many per cent of them do not exceed."""
    ordered = sorted(values)
    return ordered[max(0, -int(-percent * len(ordered) // 100) - 1)]


def _bare_start() -> float:
    began = time.time_ns()
    done = subprocess.run(STAMP, check=True, capture_output=True, text=True)
    return (int(done.stdout) - began) / 1e6


def chain(quick: bool) -> list[Figure]:
    """A chain of jobs that do nothing, each after the one before."""
    hops = 100 if quick else 300
    with bed() as place:
        place.warm()
        taken = [per_hop(place, hops, f"chain{turn}") for turn in range(1 if quick else 3)]
    return [
        Figure(
            "chain.hop",
            "dependency chain, per hop",
            statistics.median(taken),
            "ms",
            Must("<", 15),
            f"{hops} hops, median of {len(taken)}",
            {"ms": taken},
        )
    ]


def per_hop(place: Bed, hops: int, group: str) -> float:
    """Milliseconds from one job's end to the end of the next."""
    first = JobConfig(name="h0", command=NOOP)
    rest = [
        JobConfig(name=f"h{n}", command=NOOP, depends_on=(Dependency(job=f"h{n - 1}"),)) for n in range(1, hops + 1)
    ]
    place.run([first, *rest], group)
    ends = [job.finished_at for job in place.manager.group(group).jobs if job.state.value == "succeeded"]
    if len(ends) != hops + 1:
        raise RuntimeError(f"{hops + 1 - len(ends)} jobs of the chain did not succeed")
    moments = [end for end in ends if end is not None]
    return 1000 * (max(moments) - min(moments)).total_seconds() / hops


def kill(quick: bool) -> list[Figure]:
    """From `kill` to the process tree gone, less what the same tree takes to go when signalled directly."""
    taken, own, stored = [], [], []
    with bed() as place:
        place.warm()
        for number in range(4 if quick else 15):
            own.append(_own_exit())
            gone, told = _killed(place, f"kill{number}")
            taken.append(gone)
            stored.append(told)
    beyond = statistics.median(taken) - statistics.median(own)
    return [
        Figure(
            "kill.gone",
            f"kill to process tree gone ({CHILDREN + 1} processes), beyond the job's own exit",
            beyond,
            "ms",
            Must("<", 100),
            f"median of {len(taken)}, at most {max(taken):.0f} ms; by itself it takes {statistics.median(own):.1f} ms",
            {"ms": taken, "own_exit_ms": own},
        ),
        Figure(
            "kill.stored",
            "kill to state killed",
            statistics.median(stored),
            "ms",
            None,
            "as readers see it",
            {"ms": stored},
        ),
    ]


def _killed(place: Bed, group: str) -> tuple[float, float]:
    """Milliseconds from kill to the end of the last process, and to the state that readers see."""
    (job,) = place.manager.submit([JobConfig(name="tree", command=("sh", "-c", TREE))], group=group).jobs
    log = place.manager.log_path(job.id)
    until(lambda: log.exists() and log.read_text().count("\n") == CHILDREN + 1, "a process tree")
    with ExitStack() as stack:
        ends = _ends([int(line) for line in log.read_text().split()], stack)
        time.sleep(0.1)  # the daemon is at rest again
        began = time.perf_counter()
        place.manager.kill([job.id])
        _wait(ends)
        gone = time.perf_counter()
        place.rest(every_s=0.002)
        told = time.perf_counter()
    if place.manager.job(job.id).state.value != "killed":
        raise RuntimeError(f"the job is {place.manager.job(job.id).state.value} after a kill")
    return 1000 * (gone - began), 1000 * (told - began)


def _own_exit() -> float:
    """Milliseconds that the same tree takes to end when its process group gets the signal."""
    with (
        subprocess.Popen(["sh", "-c", TREE], stdout=subprocess.PIPE, text=True, start_new_session=True) as tree,
        ExitStack() as stack,
    ):
        assert tree.stdout is not None
        ends = _ends([int(tree.stdout.readline()) for _ in range(CHILDREN + 1)], stack)
        began = time.perf_counter()
        os.killpg(tree.pid, signal.SIGTERM)
        _wait(ends)
        return 1000 * (time.perf_counter() - began)


def _ends(pids: Sequence[int], stack: ExitStack) -> list[int]:
    """File descriptors that become readable when the processes end."""
    found = [os.pidfd_open(pid) for pid in pids]
    for fd in found:
        stack.callback(os.close, fd)
    return found


def _wait(ends: Sequence[int]) -> None:
    left = set(ends)
    while left:
        ready, _, _ = select.select(left, [], [], 60)
        if not ready:
            raise TimeoutError(f"{len(left)} processes of a killed job are still there after 60 s")
        left -= set(ready)
