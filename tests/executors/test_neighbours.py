"""GPUs that somebody else's programs fill."""

from __future__ import annotations

import getpass
import logging
import os
import subprocess
import sys
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pynvml as real
import pytest

from metta_jobs.executors import neighbours, processes
from metta_jobs.executors.neighbours import Neighbours
from metta_jobs.settings import Settings
from metta_jobs.testing import ManualClock
from tests.executors.fake_nvml import GIB, FakeNvml, Gpu
from tests.executors.test_devices import MIG, NODES, A, B, kfd
from tests.processes import until

NOBODY = 2**22 + 1  # greater than any process id


@pytest.fixture
def nvml(monkeypatch: pytest.MonkeyPatch) -> FakeNvml:
    """Two cards of 24 GiB."""
    fake = FakeNvml(Gpu(A), Gpu(B))
    monkeypatch.setitem(sys.modules, "pynvml", fake)
    return fake


@contextmanager
def sleeper(name: str | None = None) -> Iterator[int]:
    """The id of a process that does nothing, perhaps under a name of its own choice."""
    call = "" if name is None else f"open('/proc/self/comm', 'w').write({name!r})"
    code = f"{call}\nprint(flush=True)\nimport time; time.sleep(600)"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        try:
            yield process.pid
        finally:
            process.kill()


@pytest.fixture
def stranger() -> Iterator[int]:
    """A program of somebody else's."""
    with sleeper("train") as pid:
        yield pid


@pytest.fixture
def own() -> Iterator[int]:
    """A process of one of our jobs."""
    with sleeper("ours") as pid:
        yield pid


class Watch:
    """Neighbours, and a clock that passes enough time before each look."""

    def __init__(
        self, *ours: int, mb: float = 1024, sys_folder: Path = Path("/nowhere"), patience_s: float = 5
    ) -> None:
        self.clock = ManualClock()
        self.asked = Neighbours(
            Settings(gpu_busy_mb=mb), self.clock, lambda pid: pid in ours, sys=sys_folder, patience_s=patience_s
        )

    def __call__(self, *gpus: str, held: Collection[str] = ()) -> Mapping[str, str]:
        self.clock.advance(neighbours.LOOK_S)
        return self.asked(gpus, held)


def test_another_program_is_told_with_its_numbers(nvml: FakeNvml, stranger: int) -> None:
    nvml.gpus[1].used, nvml.gpus[1].processes = int(12.3 * GIB), {stranger: int(12.3 * GIB)}
    who = f"pid {stranger}, train of {getpass.getuser()}"
    assert Watch()(A, B) == {B: f"another program uses 12.3 of its 24.0 GiB ({who})"}


def test_several_programs_are_named_by_what_they_use(nvml: FakeNvml, stranger: int, own: int) -> None:
    with sleeper("third") as third:
        nvml.gpus[0].used = 6 * GIB
        nvml.gpus[0].processes = {third: GIB, stranger: 3 * GIB, own: 2 * GIB}
        reason = Watch()(A)[A]
    me = getpass.getuser()
    assert reason == (
        f"other programs use 6.0 of its 24.0 GiB (pid {stranger}, train of {me}, pid {own}, ours of {me} and 1 more)"
    )


def test_a_name_cannot_reach_the_terminal(nvml: FakeNvml) -> None:
    with sleeper("a\x1b[31mb") as pid:
        nvml.gpus[0].used, nvml.gpus[0].processes = 2 * GIB, {pid: 2 * GIB}
        assert f"pid {pid}, a[31mb of" in Watch()(A)[A]


def test_little_is_no_hindrance_and_the_setting_says_what_is_little(nvml: FakeNvml, stranger: int) -> None:
    nvml.gpus[0].used, nvml.gpus[0].processes = GIB, {stranger: GIB}
    assert Watch()(A) == {}
    assert list(Watch(mb=1023)(A)) == [A]
    nvml.gpus[0].used = 20 * GIB
    opened = nvml.opened
    assert Watch(mb=0)(A) == {}
    assert nvml.opened == opened  # 0: not looked at


def test_our_jobs_on_their_gpu_are_no_neighbours(nvml: FakeNvml, own: int) -> None:
    nvml.gpus[0].used, nvml.gpus[0].processes = 20 * GIB, {own: 20 * GIB}
    assert Watch(own)(A, held=[A]) == {}


def test_a_job_on_a_gpu_that_it_was_not_given_is_one(nvml: FakeNvml, own: int) -> None:
    nvml.gpus[0].used, nvml.gpus[0].processes = 20 * GIB, {own: 20 * GIB}
    reason = Watch(own)(A, held=[B])[A]
    assert reason.startswith("jobs of this queue that were given other GPUs use 20.0 of its 24.0 GiB (pid ")


def test_beside_a_job_of_ours_only_what_others_use_counts(nvml: FakeNvml, own: int, stranger: int) -> None:
    nvml.gpus[0].used, nvml.gpus[0].processes = 10 * GIB, {own: 6 * GIB, stranger: 4 * GIB}
    assert Watch(own)(A, held=[A])[A].startswith("another program uses 4.0 of its 24.0 GiB")
    nvml.gpus[0].used, nvml.gpus[0].processes = 7 * GIB, {own: int(6.5 * GIB), stranger: GIB // 2}
    assert Watch(own)(A, held=[A]) == {}


def test_what_computes_and_draws_counts_once(nvml: FakeNvml, own: int, stranger: int) -> None:
    nvml.gpus[0].used = 9 * GIB
    nvml.gpus[0].processes, nvml.gpus[0].drawing = {own: 5 * GIB}, {own: 5 * GIB, stranger: 4 * GIB}
    assert Watch(own)(A, held=[A])[A].startswith("another program uses 4.0 of")


def test_a_job_of_ours_that_only_draws_is_ours(nvml: FakeNvml, own: int) -> None:
    nvml.gpus[0].used, nvml.gpus[0].drawing = 5 * GIB, {own: 5 * GIB}
    assert Watch(own)(A, held=[A]) == {}


@pytest.mark.parametrize("listed", [{}, {NOBODY: 20 * GIB}, {0: 20 * GIB}, {os.getpid(): None}])
def test_where_processes_are_not_told_the_sum_counts_while_nobody_holds_it(
    nvml: FakeNvml, listed: dict[int, int | None]
) -> None:
    """In a container: no processes, those of the host, or no amounts."""
    nvml.gpus[0].used, nvml.gpus[0].processes = 20 * GIB, listed
    watch = Watch()
    assert watch(A, held=[A]) == {}
    assert " 20.0 of its 24.0 GiB" in watch(A)[A]
    nvml.gpus[0].used = GIB // 2
    assert watch(A, held=[A]) == {}


def test_a_stranger_who_is_told_counts_though_others_are_not(nvml: FakeNvml, own: int, stranger: int) -> None:
    nvml.gpus[0].used, nvml.gpus[0].processes = 20 * GIB, {own: None, stranger: 8 * GIB}
    assert Watch(own)(A, held=[A])[A].startswith("another program uses 8.0 of")


def test_processes_that_may_not_be_listed_are_not_told(nvml: FakeNvml) -> None:
    nvml.gpus[0].used = 20 * GIB
    nvml.gpus[0].fails = {
        "nvmlDeviceGetComputeRunningProcesses": real.NVML_ERROR_NO_PERMISSION,
        "nvmlDeviceGetGraphicsRunningProcesses": real.NVML_ERROR_NOT_SUPPORTED,
    }
    assert Watch()(A) == {A: "something uses 20.0 of its 24.0 GiB, and the driver does not tell what"}


@pytest.mark.parametrize("counts_reserved", [True, False])
def test_what_the_driver_reserves_is_used_by_nobody(nvml: FakeNvml, counts_reserved: bool) -> None:
    nvml.gpus[0] = Gpu(A, used=GIB // 2, reserved=2 * GIB, counts_reserved=counts_reserved)
    assert Watch()(A) == {}


def test_an_old_driver_tells_less(nvml: FakeNvml) -> None:
    nvml.gpus[0].used = 2 * GIB
    nvml.gpus[0].fails["nvmlDeviceGetMemoryInfo_v2"] = real.NVML_ERROR_FUNCTION_NOT_FOUND
    assert "2.5 of its 24.0 GiB" in Watch()(A)[A]


def test_memory_that_is_the_kernels_counts_by_process_only(nvml: FakeNvml, stranger: int) -> None:
    nvml.gpus[0] = Gpu(A, used=20 * GIB, numa_node=1)
    assert Watch()(A) == {}
    nvml.gpus[0].processes = {stranger: 3 * GIB}
    assert "another program uses 3.0 of its 24.0 GiB" in Watch()(A)[A]


def test_a_gpu_without_memory_of_its_own_counts_by_process(nvml: FakeNvml, stranger: int) -> None:
    nvml.gpus[0].processes = {stranger: 3 * GIB}
    for name in ("nvmlDeviceGetMemoryInfo", "nvmlDeviceGetMemoryInfo_v2"):
        nvml.gpus[0].fails[name] = real.NVML_ERROR_NOT_SUPPORTED
    assert "another program uses 3.0 GiB of it" in Watch()(A)[A]


def test_parts_of_a_card_are_looked_at_each(nvml: FakeNvml) -> None:
    part = Gpu(MIG[1], used=4 * GIB, total=5 * GIB, reserved=0)
    nvml.gpus[0].parts = [Gpu(MIG[0], total=5 * GIB), part]
    assert Watch()(*MIG[:2]) == {MIG[1]: "something uses 4.0 of its 5.0 GiB, and the driver does not tell what"}


def test_names_of_settings_are_understood(nvml: FakeNvml) -> None:
    nvml.gpus[1].used = 9 * GIB
    assert list(Watch()("0", "1", "7", "GPU-b", "GPU-", "whatever")) == ["1", "GPU-b"]


def test_a_lost_gpu_is_not_given_out(nvml: FakeNvml) -> None:
    watch = Watch()
    assert watch(A, B) == {}
    nvml.gpus[0].fails["nvmlDeviceGetMemoryInfo_v2"] = real.NVML_ERROR_GPU_IS_LOST
    assert watch(A, B) == {A: "its driver says: GPU is lost"}


# ------------------------------------------------------------------------------------------------- how often, how long


def test_it_is_asked_every_two_seconds_with_the_driver_held_open(nvml: FakeNvml) -> None:
    watch = Watch()
    for _ in range(5):
        watch(A, B)
        looked = len(nvml.calls)
        nvml.gpus[0].used = 9 * GIB
        watch.clock.advance(neighbours.LOOK_S - 0.1)
        watch.asked([A, B], ())
        assert len(nvml.calls) == looked
    assert list(watch(A, B)) == [A]
    assert (nvml.opened, nvml.users) == (1, 1)


def test_the_driver_is_let_go_when_nobody_asks(nvml: FakeNvml, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(neighbours, "REST_S", 0.01)
    watch = Watch()
    nvml.gpus[0].used = 9 * GIB
    for opened in (1, 2):
        assert list(watch(A)) == [A]
        assert nvml.opened == opened
        until(lambda: nvml.users == 0, "the driver to be let go")


def warned(caplog: pytest.LogCaptureFixture) -> int:
    """How often it was warned."""
    return sum(record.levelno >= logging.WARNING for record in caplog.records)


@pytest.mark.parametrize(
    "breaks",
    [
        lambda nvml, code: nvml.fails.update(nvmlInit=code),
        lambda nvml, code: nvml.fails.update(nvmlDeviceGetCount=code),
        lambda nvml, code: nvml.gpus[0].fails.update(nvmlDeviceGetComputeRunningProcesses=code),
        lambda nvml, code: nvml.gpus[0].fails.update(nvmlDeviceGetMemoryInfo_v2=code),
    ],
)
def test_a_driver_that_fails_makes_no_gpu_busy_and_is_told_once(
    nvml: FakeNvml, caplog: pytest.LogCaptureFixture, breaks: Callable[[FakeNvml, int], None]
) -> None:
    nvml.gpus[0].used = 9 * GIB
    watch = Watch()
    for times in (1, 2):
        breaks(nvml, real.NVML_ERROR_UNKNOWN)
        for _ in range(3):
            assert watch(A) == {}
        assert warned(caplog) == times
        nvml.fails.clear()
        nvml.gpus[0].fails.clear()
        assert list(watch(A)) == [A]  # it answers again
        watch.asked._nvml.close()


def test_handles_that_have_become_stale_are_taken_anew(nvml: FakeNvml) -> None:
    watch = Watch()
    watch(A)
    nvml.users = 0  # as after a reset of the driver
    nvml.gpus = [Gpu(A, used=9 * GIB)]
    assert watch(A) == {}
    assert list(watch(A)) == [A]


def test_a_driver_that_hangs_is_waited_for_once(nvml: FakeNvml, caplog: pytest.LogCaptureFixture) -> None:
    nvml.gpus[0].used = 9 * GIB
    watch = Watch(patience_s=0.05)
    nvml.answers.clear()
    try:
        assert watch(A) == {}
        for _ in range(3):
            calls = len(nvml.calls)
            assert watch(A) == {}
            assert len(nvml.calls) == calls
        assert warned(caplog) == 1
    finally:
        nvml.answers.set()
    until(lambda: watch(A), "an answer")


def test_the_sentence_stays_while_little_has_changed(nvml: FakeNvml, stranger: int) -> None:
    watch = Watch()

    def reason(used: int) -> str:
        nvml.gpus[0].used, nvml.gpus[0].processes = used, {stranger: used}
        return watch(A)[A]

    first = reason(8 * GIB)
    assert reason(8 * GIB + GIB // 5) == first
    assert "10.0 of" in reason(10 * GIB)
    nvml.gpus[0].processes = {}
    assert "something uses" in watch(A)[A]


# ------------------------------------------------------------------------------------------------- AMD


@pytest.fixture
def amd_machine(tmp_path: Path, nvml: FakeNvml) -> Path:
    """Two GPUs of AMD's with 64 GiB each, as the kernel tells of them, and none of NVIDIA's."""
    nvml.fails["nvmlInit"] = real.NVML_ERROR_LIBRARY_NOT_FOUND
    root = kfd(tmp_path / "sys", *NODES)
    for bdf in ("0000:2f:00.0", "0001:83:00.0"):
        card = root / "bus/pci/devices" / bdf
        card.mkdir(parents=True)
        (card / "mem_info_vram_total").write_text(f"{64 * GIB}\n")
        (card / "mem_info_vram_used").write_text(f"{GIB // 100}\n")
    return root


def fills(root: Path, gpu_id: int, used: dict[int, int], bdf: str = "0001:83:00.0") -> None:
    """Let processes use memory of a GPU."""
    (root / "bus/pci/devices" / bdf / "mem_info_vram_used").write_text(str(sum(used.values())))
    for pid, amount in used.items():
        folder = root / "class/kfd/kfd/proc" / str(pid)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"vram_{gpu_id}").write_text(f"{amount}\n")
        (folder / "vram_1").write_text("0\n")


def test_neighbours_on_amd(amd_machine: Path, stranger: int, own: int) -> None:
    watch = Watch(own, sys_folder=amd_machine)
    assert watch("amd:0", "amd:1") == {}
    fills(amd_machine, 1002, {stranger: 12 * GIB, own: 4 * GIB})
    assert list(watch("amd:0", "amd:1")) == ["amd:1"]
    assert "another program uses 12.0 of its 64.0 GiB" in watch("amd:0", "amd:1", held=["amd:1"])["amd:1"]
    assert list(watch("0", "1")) == ["1"]  # named so by a setting
    assert watch("amd:2", "amd:x", "amd:") == {}


def test_parts_of_an_amd_card_share_its_memory(amd_machine: Path, stranger: int) -> None:
    root = amd_machine
    properties = root / "class/kfd/kfd/topology/nodes/1/properties"
    properties.write_text(properties.read_text().replace(str(0x2F00), str(0x8300)).replace("domain 0", "domain 1"))
    fills(root, 1002, {stranger: 12 * GIB})
    assert list(Watch(sys_folder=root)("amd:0", "amd:1")) == ["amd:1"]


# ------------------------------------------------------------------------------------------------- whose a process is


def test_a_process_belongs_to_where_its_parent_does() -> None:
    """Its own environment may be overwritten."""
    code = (
        "import subprocess, sys\n"
        "env = dict(pair.split('=') for pair in sys.argv[1:])\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'], env=env)\n"
        "print(child.pid, flush=True)\n"
        "sys.stdin.read()\n"
        "child.kill()\n"
    )
    for marks, expected in (([], True), (["METTA_ATTEMPT_NONE=1"], False)):
        with subprocess.Popen(
            [sys.executable, "-c", code, *marks],
            env={processes.TOKEN: "/q/job_state:3:1"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        ) as parent:
            assert parent.stdin is not None and parent.stdout is not None
            child = int(parent.stdout.readline())
            assert processes.belongs_to(parent.pid, "/q/job_state")
            # The kernel shows a program's environment a moment after it has begun.
            until(lambda child=child, expected=expected: processes.belongs_to(child, "/q/job_state") is expected)
            assert not processes.belongs_to(child, "/q/job")
            parent.stdin.close()
    assert not processes.belongs_to(os.getpid(), "/q/job_state")
