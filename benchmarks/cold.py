"""What a person at a shell waits for: whole processes of the program, with much behind it and with nothing."""

from __future__ import annotations

import statistics
import subprocess
import time
from collections import defaultdict
from collections.abc import Sequence

from benchmarks import history
from benchmarks.bed import Bed, bed, noops
from benchmarks.figures import Figure, Must
from benchmarks.reference import python_ms


def measure(quick: bool) -> list[Figure]:
    """`metta job list` and `metta job show`, with a long history and with none, turn by turn with `python3 -c pass`."""
    finished = 10_000 if quick else 100_000
    with bed() as empty, bed() as full:
        for place in (empty, full):
            place.warm()
        history.fill(full.database, finished)
        places = {"empty": empty, "full": full}
        commands = {
            (verb, size): place.metta("job", *arguments)
            for size, place in places.items()
            for verb, arguments in (("list", ["list"]), ("show", ["show", str(newest(place))]))
        }
        taken: dict[tuple[str, str], list[float]] = defaultdict(list)
        bare: list[float] = []
        for command in commands.values():
            run_ms(command)  # once unmeasured: it writes what Python compiles
        for _ in range(5 if quick else 15):
            bare.append(python_ms())
            for key, command in commands.items():
                taken[key].append(run_ms(command))
    return [figure for verb in ("list", "show") for figure in _figures(verb, finished, taken, bare)]


def newest(place: Bed) -> int:
    """The id of a job that the program has run just now."""
    (job,) = place.manager.submit(noops(1), group="newest").jobs
    place.rest()
    return job.id


def run_ms(command: Sequence[str]) -> float:
    """Milliseconds of one whole process that must succeed."""
    began = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    taken = 1000 * (time.perf_counter() - began)
    if done.returncode != 0 or not done.stdout.strip():
        raise RuntimeError(f"{' '.join(command)} ended with {done.returncode}: {done.stderr.strip()[-200:]}")
    return taken


def _figures(verb: str, finished: int, taken: dict[tuple[str, str], list[float]], bare: list[float]) -> list[Figure]:
    full, empty, python = (statistics.median(some) for some in (taken[verb, "full"], taken[verb, "empty"], bare))
    what = f"metta job {verb}, {finished:,} finished jobs"
    detail = {"full_ms": taken[verb, "full"], "empty_ms": taken[verb, "empty"], "python_ms": bare}
    return [
        Figure(f"{verb}.time", what, full, "ms", Must("<", 300), f"whole process, median of {len(bare)}", detail),
        Figure(
            f"{verb}.pythons",
            f"{what}: of python3 -c pass",
            full / python,
            "×",
            Must("<", 18),
            f"which took {python:.1f} ms",
        ),
        Figure(
            f"{verb}.growth",
            f"{what}: of an empty history",
            full / empty,
            "×",
            Must("≤", 1.3),
            f"which took {empty:.0f} ms",
        ),
    ]
