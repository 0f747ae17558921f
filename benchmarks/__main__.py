"""Measure what people wait for: `python -m benchmarks [NAME…] [--quick] [--json PATH]`."""

from __future__ import annotations

import argparse
import json
import os
import platform
import signal
import sqlite3
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NoReturn

import psutil
from rich.console import Console

import metta_jobs
from benchmarks import (
    cold,
    daemon,
    follow,
    footprint,
    latency,
    metrics,
    reference,
    remote,
    scaling,
    screen,
    throughput,
    ticks,
)
from benchmarks.bed import isolated
from benchmarks.figures import Figure, render

BENCHMARKS: dict[str, Callable[[bool], list[Figure]]] = {
    "reference": reference.measure,
    "throughput": throughput.measure,
    "submit": throughput.submit,
    "start": latency.start,
    "chain": latency.chain,
    "cold": cold.measure,
    "monitor": screen.measure,
    "metrics": metrics.measure,
    "kill": latency.kill,
    "idle": daemon.idle,
    "running": daemon.running,
    "follow": follow.measure,
    "tick": ticks.measure,
    "remote": remote.measure,
    "bytes": footprint.measure,
    "finished": scaling.finished,
    "pending": scaling.pending,
}


@dataclass
class Result:
    """Everything that one call has measured."""

    quick: bool
    began: datetime = field(default_factory=lambda: datetime.now(UTC))
    figures: list[Figure] = field(default_factory=list)
    failures: dict[str, str] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """The stable JSON form."""
        return {
            "began_at": self.began.isoformat(timespec="seconds"),
            "quick": self.quick,
            "machine": machine(),
            "figures": [figure.to_dict() for figure in self.figures],
            "failures": self.failures,
        }


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, show, write; return 0, or 1 when something could not be measured."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"only these, of: {', '.join(BENCHMARKS)}")
    parser.add_argument("--quick", action="store_true", help="smaller numbers: under two minutes in all")
    parser.add_argument("--json", type=Path, metavar="PATH", help="write every figure there")
    chosen = parser.parse_args(arguments)
    if unknown := [name for name in chosen.names if name not in BENCHMARKS]:
        parser.error(f"there is no benchmark {unknown[0]!r}; there are {', '.join(BENCHMARKS)}")
    target = chosen.json.resolve() if chosen.json else None
    signal.signal(signal.SIGTERM, _stop)
    with isolated():
        result = measure(chosen.names or list(BENCHMARKS), chosen.quick)
    console = Console(highlight=False, width=None if sys.stdout.isatty() else 150)
    console.print(render(result.figures, result.failures))
    if target:
        target.write_text(json.dumps(result.to_dict(), indent=2) + "\n")
    return 1 if result.failures else 0


def measure(names: Sequence[str], quick: bool) -> Result:
    """Run these benchmarks one after another, each between two samples of the reference."""
    result = Result(quick)
    before = reference.sample()
    for name in names:
        began = time.perf_counter()
        print(f"{name} …", end="", flush=True, file=sys.stderr)
        try:
            figures = BENCHMARKS[name](quick)
        except Exception as error:  # noqa: BLE001  the others are worth measuring all the same
            figures = []
            result.failures[name] = f"{type(error).__name__}: {error}"
        after = reference.sample()
        result.figures += [figure.within(reference.medians(before, after)) for figure in figures]
        before = after
        print(f" {time.perf_counter() - began:.0f} s", file=sys.stderr)
    return result


def _stop(*_: object) -> NoReturn:
    """Go, but by the way on which whatever was started is ended."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    sys.exit(143)


def machine() -> dict[str, Any]:
    """What was measured, and on what."""
    return {
        "metta_jobs": metta_jobs.__version__,
        "python": platform.python_version(),
        "sqlite": sqlite3.sqlite_version,
        "system": f"{platform.system()} {platform.machine()}",
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory_gb": round(psutil.virtual_memory().total / 1e9, 1),
        "load_1_min": round(os.getloadavg()[0], 2),
    }


if __name__ == "__main__":
    sys.exit(main())
