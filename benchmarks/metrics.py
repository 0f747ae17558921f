"""Metrics: reading a long run for a plot, and following one that goes on."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.figures import Figure, Must
from metta_jobs.metrics import ProgressReader, read_series
from metta_jobs.metrics.wandb_framing import find_logs

KEYS = ("overview/reward", "overview/sps")
STEPS = 100_000
#: Rows that a live run logs between two looks, which the monitor takes once a second.
ROWS_A_SECOND = 100


def measure(quick: bool) -> list[Figure]:
    """A real offline run of 100,000 steps with 13 metrics each."""
    rows = STEPS // 10 if quick else STEPS
    with tempfile.TemporaryDirectory(prefix="metrics-") as name:
        folder = Path(name)
        _log(folder, rows)
        (log,) = find_logs(folder)
        megabytes = log.stat().st_size / 1e6
        reading, used = zip(*(_read(folder, rows) for _ in range(3 if quick else 5)), strict=True)
        share, looks = _follow(log, rows)
    return [
        Figure(
            "metrics.read",
            f"read {rows:,} steps of an offline run for a plot, 2 keys",
            statistics.median(reading),
            "s",
            Must("<", 1.5 * rows / STEPS),
            f"{megabytes:.0f} MB, 13 metrics a step; {statistics.median(used):.2f} s of CPU time",
            {"s": list(reading), "cpu_s": list(used)},
        ),
        Figure(
            "metrics.follow",
            "follow a live run, looked at once a second",
            100 * share,
            "% of a core",
            Must("<", 1),
            f"CPU time; {ROWS_A_SECOND} rows a second, {looks} looks",
        ),
    ]


def _log(folder: Path, rows: int) -> None:
    program = Path(__file__).with_name("logged_run.py")
    environment = {**os.environ, "WANDB_X_DISABLE_STATS": "true", "WANDB_CONSOLE": "off", "WANDB_SILENT": "true"}
    command = [sys.executable, str(program), str(folder), str(rows)]
    subprocess.run(command, check=True, capture_output=True, env=environment, cwd=folder)


def _read(folder: Path, rows: int) -> tuple[float, float]:
    """Seconds by the clock, and of CPU time."""
    began, used = time.perf_counter(), time.process_time()
    found = read_series(folder, KEYS)
    took = time.perf_counter() - began, time.process_time() - used
    if any(series.steps[-1] != 100 * (rows - 1) or len(series) > 1000 for series in found.values()):
        raise RuntimeError("the curves are not what was logged")
    return took


def _follow(log: Path, rows: int) -> tuple[float, int]:
    """CPU seconds a second, the log growing by as much between two looks as so many rows take."""
    data = log.read_bytes()
    step = max(1, len(data) * ROWS_A_SECOND // rows)
    with tempfile.TemporaryDirectory(prefix="follow-") as name:
        copy = Path(name) / "wandb" / log.parent.name / log.name
        copy.parent.mkdir(parents=True)
        copy.write_bytes(data[: len(data) // 2])
        reader = ProgressReader(Path(name))
        before = reader.poll().steps
        starts = range(len(data) // 2, len(data) - step, step)[:300]
        used = 0.0
        for start in starts:
            with copy.open("ab") as file:
                file.write(data[start : start + step])
            began = time.process_time()
            now = reader.poll().steps
            used += time.process_time() - began
            if now is None or before is None or now < before:
                raise RuntimeError("the run does not go on")
            before = now
    return used / len(starts), len(starts)
