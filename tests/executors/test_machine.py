"""CPU slots and memory, in containers, allocations and outside of them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from metta_jobs.executors.machine import memory_gb, usable_cpus
from metta_jobs.settings import Settings

PHYSICAL = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
UNLIMITED = 9223372036854771712
V1 = "12:memory:{path}\n4:cpu,cpuacct:{path}\n1:name=systemd:{path}\n0::{path}\n"
V2 = "0::{path}\n"


class Cgroups:
    """The kernel's files, with a cgroup of ours."""

    def __init__(self, root: Path) -> None:
        self.root = root / "cgroup"
        self.own = root / "own"
        self.root.mkdir()
        self.write("cpuset.cpus.effective", "0-1")  # a folder in which nothing is limited
        self.own.write_text(V2.format(path="/"))

    def write(self, path: str, text: str) -> None:
        (self.root / path).parent.mkdir(parents=True, exist_ok=True)
        (self.root / path).write_text(text + "\n")

    def cpus(self, **settings: float) -> float:
        return usable_cpus(Settings(**settings), self.root, self.own)

    def memory(self, **settings: float) -> float:
        return memory_gb(Settings(**settings), self.root, self.own)


@pytest.fixture
def cgroups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cgroups:
    """Sixteen cores, and no limits yet."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(16)), raising=False)
    return Cgroups(tmp_path)


def test_without_limits_the_machine_counts(cgroups: Cgroups) -> None:
    cgroups.write("cpu.max", "max 100000")
    cgroups.write("memory.max", "max")
    assert cgroups.cpus() == 16
    assert PHYSICAL / 1e9 - 0.1 <= cgroups.memory() <= PHYSICAL / 1e9


def test_settings_come_first(cgroups: Cgroups) -> None:
    cgroups.write("cpu.max", "200000 100000")
    cgroups.write("memory.max", "1000000000")
    assert (cgroups.cpus(cpus=40), cgroups.memory(memory_gb=999)) == (40, 999)


@pytest.mark.parametrize(
    ("quota", "slots"),
    [("200000 100000", 2), ("250000 100000", 2.5), ("50000 100000", 1), ("9900000 100000", 16), ("1000000 333333", 3)],
)
def test_a_quota_limits_the_slots(cgroups: Cgroups, quota: str, slots: float) -> None:
    cgroups.write("cpu.max", quota)
    assert cgroups.cpus() == slots


def test_affinity_limits_the_slots(cgroups: Cgroups, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {3, 5}, raising=False)
    cgroups.write("cpu.max", "800000 100000")
    assert cgroups.cpus() == 2


def test_the_narrowest_of_our_cgroups_counts(cgroups: Cgroups) -> None:
    """An allocation of Slurm's limits the job; the steps within it say "max"."""
    job = "system.slice/slurmstepd.scope/job_42"
    cgroups.own.write_text(V2.format(path=f"/{job}/step_0/user/task_0"))
    cgroups.write(f"{job}/memory.max", "2000000000")
    cgroups.write(f"{job}/step_0/memory.max", "max")
    cgroups.write(f"{job}/step_0/user/task_0/memory.max", "max")
    cgroups.write(f"{job}/cpu.max", "400000 100000")
    cgroups.write("system.slice/other.scope/memory.max", "1000")
    cgroups.write("memory.max", "3000000000")
    assert (cgroups.cpus(), cgroups.memory()) == (4, 2.0)


def test_what_slows_down_is_a_limit_too(cgroups: Cgroups) -> None:
    cgroups.write("memory.max", "2000000000")
    cgroups.write("memory.high", "1550000000")
    assert cgroups.memory() == 1.5


def test_version_1(cgroups: Cgroups) -> None:
    cgroups.own.write_text(V1.format(path="/user.slice/me"))
    cgroups.write("memory/memory.limit_in_bytes", str(UNLIMITED))
    cgroups.write("memory/user.slice/me/memory.limit_in_bytes", "2000000000")
    cgroups.write("cpu,cpuacct/cpu.cfs_quota_us", "-1")
    cgroups.write("cpu,cpuacct/cpu.cfs_period_us", "100000")
    cgroups.write("cpu,cpuacct/user.slice/me/cpu.cfs_quota_us", "300000")
    cgroups.write("cpu,cpuacct/user.slice/me/cpu.cfs_period_us", "100000")
    assert (cgroups.cpus(), cgroups.memory()) == (3, 2.0)
    cgroups.write("memory/user.slice/me/memory.limit_in_bytes", str(UNLIMITED))
    assert cgroups.memory() > PHYSICAL / 1e9 - 0.1


@pytest.mark.parametrize("version", [V1, V2])
def test_a_container_that_is_told_a_path_of_its_host(cgroups: Cgroups, version: str) -> None:
    cgroups.own.write_text(version.format(path="/docker/0123abcd"))
    cgroups.write("memory.max" if version == V2 else "memory/memory.limit_in_bytes", "2000000000")
    cgroups.write(
        "cpu.max" if version == V2 else "cpu/cpu.cfs_quota_us", "200000 100000" if version == V2 else "200000"
    )
    if version == V1:
        cgroups.write("cpu/cpu.cfs_period_us", "100000")
    assert (cgroups.cpus(), cgroups.memory()) == (2, 2.0)


def test_a_path_cannot_lead_elsewhere(cgroups: Cgroups) -> None:
    (cgroups.root.parent / "memory.max").write_text("1000000000\n")
    cgroups.own.write_text(V2.format(path="/../elsewhere"))  # a cgroup outside of our namespace is shown so
    cgroups.write("memory.max", "2000000000")
    assert cgroups.memory() == 2.0


def test_where_there_are_no_cgroups(tmp_path: Path) -> None:
    nowhere = tmp_path / "nowhere"
    assert usable_cpus(Settings(), nowhere, nowhere) >= 1
    assert memory_gb(Settings(), nowhere, nowhere) > 0


def test_this_machine() -> None:
    assert 1 <= usable_cpus(Settings()) <= (os.cpu_count() or 1)
    assert 0 < memory_gb(Settings()) <= PHYSICAL / 1e9
