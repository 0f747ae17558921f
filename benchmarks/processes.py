"""The processes of one state folder, and what they cost."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import psutil


def of_folder(root: Path) -> list[psutil.Process]:
    """Every live process that names this state folder in its arguments or its environment: daemon, runners, jobs."""
    return [process for process in psutil.process_iter() if process.pid != os.getpid() and _names(process, str(root))]


def _names(process: psutil.Process, root: str) -> bool:
    try:
        if process.status() == psutil.STATUS_ZOMBIE:
            return False
        return any(root in word for word in (*process.cmdline(), *process.environ().values()))
    except (psutil.AccessDenied, psutil.NoSuchProcess, OSError):
        return False  # another user's, or gone meanwhile: not of ours


def end_all(root: Path, patience_s: float = 10.0) -> None:
    """Kill them, and wait until they are gone. Raises TimeoutError."""
    deadline = time.monotonic() + patience_s
    while left := of_folder(root):
        for process in left:
            try:
                process.send_signal(signal.SIGKILL)
            except psutil.NoSuchProcess:
                continue
        psutil.wait_procs(left, timeout=1)
        if time.monotonic() > deadline:
            raise TimeoutError(f"{len(left)} processes of {root} do not end: {[process.pid for process in left]}")


@dataclass(frozen=True)
class Cost:
    """What processes have used since they began: seconds of a core, and times that they gave it up by themselves."""

    cpu_s: float
    wakes: int

    def __sub__(self, earlier: Cost) -> Cost:
        return Cost(self.cpu_s - earlier.cpu_s, self.wakes - earlier.wakes)


def cost(processes: Iterable[psutil.Process]) -> Cost:
    """What these have used so far, all their threads together."""
    found = [_cost(process) for process in processes]
    return Cost(sum(one.cpu_s for one in found), sum(one.wakes for one in found))


def _cost(process: psutil.Process) -> Cost:
    tasks = Path(f"/proc/{process.pid}/task")
    try:
        # In nanoseconds: the usual times come in steps of 10 ms, which is what an idle daemon uses in a minute.
        return Cost(
            sum(int((task / "schedstat").read_text().split()[0]) for task in tasks.iterdir()) / 1e9,
            sum(_wakes(task / "status") for task in tasks.iterdir()),
        )
    except FileNotFoundError:
        used = process.cpu_times()
        return Cost(used.user + used.system, process.num_ctx_switches().voluntary)


def _wakes(status: Path) -> int:
    line = next(line for line in status.read_text().splitlines() if line.startswith("voluntary_ctxt_switches"))
    return int(line.split()[1])


def memory_mb(processes: Iterable[psutil.Process]) -> tuple[float, float]:
    """(resident, unique) megabytes of these together; what they share is counted with each in the first."""
    found = [process.memory_full_info() for process in processes]
    return sum(one.rss for one in found) / 1e6, sum(one.uss for one in found) / 1e6
