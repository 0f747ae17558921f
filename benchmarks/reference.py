"""What this machine can do at this moment, without us: everything else is told against it.

R           spawns of /bin/true a second, two at a time, from a bare Python loop
python      `python3 -c pass`, the interpreter that runs metta
fsync       4 KB appended and forced to disk, where the state folders of the benchmarks lie
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.figures import Figure

SPAWN_LOOP = Path(__file__).with_name("spawn_loop.py")
RUN_S = 0.4


def spawn_rate(seconds: float = RUN_S) -> float:
    """R, by one short run: spawns a second."""
    command = [sys.executable, "-I", "-S", str(SPAWN_LOOP), str(seconds)]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def python_ms() -> float:
    """Milliseconds of one `python3 -c pass`. The python3 of $PATH may be a script that looks for the real one."""
    began = time.perf_counter()
    subprocess.run([sys.executable, "-c", "pass"], check=True)
    return 1000 * (time.perf_counter() - began)


def fsync_ms() -> float:
    """Milliseconds of one small write forced to disk."""
    with tempfile.TemporaryFile() as file:
        file.write(bytes(4096))
        file.flush()
        os.fsync(file.fileno())
        began = time.perf_counter()
        file.write(bytes(4096))
        file.flush()
        os.fsync(file.fileno())
        return 1000 * (time.perf_counter() - began)


def sample(times: int = 3) -> dict[str, list[float]]:
    """Some short runs of each."""
    return {
        "spawns_per_s": [spawn_rate(RUN_S / 2) for _ in range(times)],
        "python_ms": [python_ms() for _ in range(times)],
        "fsync_ms": [fsync_ms() for _ in range(times)],
    }


def medians(*samples: dict[str, list[float]]) -> dict[str, float]:
    """The medians of several samples taken together."""
    return {
        name: round(statistics.median(value for sample in samples for value in sample[name]), 3) for name in samples[0]
    }


def measure(quick: bool) -> list[Figure]:
    """The reference itself."""
    times = 3 if quick else 9
    spawns = [spawn_rate() for _ in range(times)]
    starts = [python_ms() for _ in range(times)]
    syncs = [fsync_ms() for _ in range(times)]
    return [
        Figure("reference.spawn", "R: /bin/true spawned and reaped, two at a time", *_told(spawns, "/s")),
        Figure("reference.python", "python3 -c pass", *_told(starts, "ms")),
        Figure("reference.fsync", "4 KB forced to disk", *_told(syncs, "ms")),
    ]


def _told(values: list[float], unit: str) -> tuple[float, str, None, str]:
    return statistics.median(values), unit, None, f"{min(values):.3g} to {max(values):.3g}"
