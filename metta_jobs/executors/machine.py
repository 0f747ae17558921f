"""CPU slots and memory of this machine, as far as we may use them: in a container or an allocation, what it has."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from metta_jobs.settings import Settings

GB = 1e9
CGROUPS = Path("/sys/fs/cgroup")
OWN_CGROUP = Path("/proc/self/cgroup")


def usable_cpus(settings: Settings, cgroups: Path = CGROUPS, own: Path = OWN_CGROUP) -> float:
    """CPU slots: the setting, else the cores that we may use, by affinity and by the quota of our cgroups; at least 1.

    A quota of 2.5 cores makes 2.5 slots.
    """
    if settings.cpus is not None:
        return settings.cpus
    cores = float(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)
    for folder in _folders("cpu", cgroups, own):
        quota = _numbers(folder / "cpu.max") or [
            *_numbers(folder / "cpu.cfs_quota_us"),
            *_numbers(folder / "cpu.cfs_period_us"),
        ]
        if len(quota) == 2 and min(quota) > 0:
            cores = min(cores, round(quota[0] / quota[1], 2))
    return max(1.0, cores)


def memory_gb(settings: Settings, cgroups: Path = CGROUPS, own: Path = OWN_CGROUP) -> float:
    """Memory in GB (10^9 bytes): the setting, else what the machine has, or less where a cgroup of ours has less."""
    if settings.memory_gb is not None:
        return settings.memory_gb
    limits = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    for folder in _folders("memory", cgroups, own):
        for name in ("memory.max", "memory.high", "memory.limit_in_bytes"):
            limits += [number for number in _numbers(folder / name) if number > 0]
    return min(limits) // (GB / 10) / 10


def _folders(controller: str, cgroups: Path, own: Path) -> Iterator[Path]:
    """Where limits of ours may lie: our cgroup's folder and those above it, in version 2 and in version 1.

    A container may show its own cgroup as the topmost, and tell a path that exists outside of it only.
    """
    try:
        lines = own.read_text().splitlines()
    except OSError:
        lines = []  # not Linux
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if not controllers:
            top = cgroups
        elif controller in controllers.split(","):
            top = cgroups / controller if (cgroups / controller).is_dir() else cgroups / controllers
        else:
            continue
        # A path that leads out of what we are shown begins with "..".
        folder = top if ".." in path.split("/") else top / path.lstrip("/")
        yield from (step for step in (folder, *folder.parents) if step == top or top in step.parents)


def _numbers(path: Path) -> list[int]:
    """The numbers in a file of the kernel's; none where it is missing or says "max"."""
    try:
        words = path.read_text().split()
    except OSError:
        return []
    return [int(word) for word in words] if all(word.lstrip("-").isdigit() for word in words) else []
