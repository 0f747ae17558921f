"""What people wait for, measured: `make bench`. Ratios within one run count; these figures are no tests."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import psutil

from metta_jobs import JobConfig, JobManager
from tests.conftest import clean_up
from tests.processes import until


def main() -> None:
    """Measure and print."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder).resolve() / "job_state"
        os.environ["METTA_CPUS"] = "4"
        try:
            with JobManager(root) as manager:
                _measure(manager, root)
        finally:
            clean_up(root)


def _measure(manager: JobManager, root: Path) -> None:
    names = iter(range(1_000_000))
    noop = lambda: JobConfig(name=f"j{next(names)}", command=("true",))  # noqa: E731
    manager.submit([noop()], group="warm")
    manager.wait(["warm"])
    metta = [sys.executable, "-m", "metta_jobs", "--state-dir", str(root)]
    quiet = {"stdout": subprocess.DEVNULL, "check": True}
    _say("python -c pass", lambda: subprocess.run([sys.executable, "-c", "pass"], **quiet))
    _say("metta --help", lambda: subprocess.run([*metta, "--help"], **quiet))
    _say("metta job list", lambda: subprocess.run([*metta, "job", "list"], **quiet))
    _say("submit one job (API)", lambda: manager.submit([noop()], group="one"), 20)

    def whole() -> None:
        job = manager.submit([noop()], group="whole").jobs[-1]
        until(lambda: manager.job(job.id).state.terminal)

    _say("submit to succeeded, a job that does nothing", whole, 20)
    _say("submit a group of 1000 jobs", lambda: manager.submit([noop() for _ in range(1000)], group="big"), 1)
    _say("list that group", lambda: manager.group("big"), 5)
    holder = manager.daemon()
    assert holder is not None
    started = time.perf_counter()
    before = len([job for job in manager.group("big").jobs if job.state.terminal])
    until(lambda: time.perf_counter() - started > 10)
    after = len([job for job in manager.group("big").jobs if job.state.terminal])
    print(f"{'jobs ended per second, 4 slots, jobs that do nothing':<55} {(after - before) / 10:8.1f}")
    manager.kill(["big"], force=True)
    manager.wait(["big"])
    daemon = psutil.Process(holder.pid)
    started, used = time.perf_counter(), sum(daemon.cpu_times()[:2])
    until(lambda: time.perf_counter() - started > 10)
    share = (sum(daemon.cpu_times()[:2]) - used) / (time.perf_counter() - started)
    print(f"{'idle daemon, share of one core':<55} {100 * share:8.2f} %")
    print(f"{'idle daemon, memory (USS)':<55} {daemon.memory_full_info().uss / 1e6:8.1f} MB")


def _say(what: str, act: Callable[[], object], times: int = 7) -> None:
    taken = []
    for _ in range(times):
        started = time.perf_counter()
        act()
        taken.append(time.perf_counter() - started)
    print(f"{what:<55} {1000 * statistics.median(taken):8.1f} ms  (median of {times})")


if __name__ == "__main__":
    main()
