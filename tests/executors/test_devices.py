"""Which GPUs are given out, and how a job is shown them."""

from __future__ import annotations

import inspect
import json
import logging
import os
import sys
from pathlib import Path
from types import ModuleType

import pynvml as real
import pytest

from metta_jobs.environment import CUDA, HIP, ROCR, outside, split
from metta_jobs.executors import amd, devices
from metta_jobs.executors.devices import find_gpus, visible
from metta_jobs.settings import Settings
from tests.executors.fake_nvml import FakeNvml, Gpu
from tests.processes import until

A, B, C = (f"GPU-{letter * 8}-0000-4000-8000-000000000000" for letter in "abc")
MIG = [f"MIG-{number}0000000-1111-5222-8333-444444444444" for number in range(3)]


@pytest.fixture
def nvml(monkeypatch: pytest.MonkeyPatch) -> FakeNvml:
    """Three cards of NVIDIA's."""
    fake = FakeNvml(Gpu(A), Gpu(B), Gpu(C))
    monkeypatch.setitem(sys.modules, "pynvml", fake)
    return fake


@pytest.fixture
def no_nvidia(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine without NVIDIA's library."""
    fake = FakeNvml()
    fake.fails["nvmlInit"] = real.NVML_ERROR_LIBRARY_NOT_FOUND
    monkeypatch.setitem(sys.modules, "pynvml", fake)


def found(**environ: str) -> tuple[str, ...]:
    """What a daemon with this environment gives out."""
    return find_gpus(Settings(), environ)


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    """What was warned of."""
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


def test_the_fake_is_called_as_the_real_one() -> None:
    for name, function in inspect.getmembers(FakeNvml, inspect.isfunction):
        if name.startswith("nvml"):
            ours = list(inspect.signature(function).parameters.values())[1:]
            theirs = inspect.signature(inspect.unwrap(getattr(real, name))).parameters.values()
            assert [(p.name, p.default) for p in ours] == [(p.name, p.default) for p in theirs], name


# ------------------------------------------------------------------------------------------------- NVIDIA


def test_the_setting_decides_and_nobody_is_asked(nvml: FakeNvml) -> None:
    assert find_gpus(Settings(gpus=("1", "0", "1")), {CUDA: "0"}) == ("1", "0")
    assert find_gpus(Settings(gpus=())) == ()
    assert nvml.calls == []


def test_cards_are_named_by_their_uuids_and_the_driver_is_let_go(nvml: FakeNvml) -> None:
    assert found() == (A, B, C)
    assert (nvml.opened, nvml.users) == (1, 0)


def test_a_divided_card_is_given_out_in_parts(nvml: FakeNvml) -> None:
    nvml.gpus = [Gpu(A, parts=[Gpu(MIG[0]), None, Gpu(MIG[1])]), Gpu(B, knows_mig=True), Gpu(C)]
    assert found() == (MIG[0], MIG[1], B, C)


def test_a_divided_card_without_parts_has_nothing_to_give(nvml: FakeNvml, caplog: pytest.LogCaptureFixture) -> None:
    nvml.gpus = [Gpu(A, parts=[]), Gpu(B)]
    assert found() == (B,)
    assert warnings(caplog) == [f"GPU 0 ({A}) is in MIG mode and has no instances: there is nothing to give out"]


def test_a_machine_without_nvidia_is_no_reason_to_warn(no_nvidia: None, caplog: pytest.LogCaptureFixture) -> None:
    assert found() == ()
    assert warnings(caplog) == []


@pytest.mark.parametrize("call", ["nvmlInit", "nvmlDeviceGetCount"])
@pytest.mark.parametrize("code", [real.NVML_ERROR_LIB_RM_VERSION_MISMATCH, real.NVML_ERROR_DRIVER_NOT_LOADED, 999])
def test_a_driver_that_fails_has_no_gpus(
    nvml: FakeNvml, caplog: pytest.LogCaptureFixture, call: str, code: int
) -> None:
    nvml.fails[call] = code
    assert found() == ()
    assert warnings(caplog) == [
        f"NVIDIA's driver does not answer ({real.NVMLError(code)}): none of its GPUs are given out"
    ]
    assert nvml.users == 0


def test_another_module_of_that_name_is_told(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """An old package hides NVIDIA's."""
    monkeypatch.setitem(sys.modules, "pynvml", ModuleType("pynvml"))
    assert found() == ()
    assert "the module pynvml is not the one of nvidia-ml-py" in warnings(caplog)[0]


def test_a_card_that_is_lost_does_not_take_the_others_along(nvml: FakeNvml, caplog: pytest.LogCaptureFixture) -> None:
    nvml.gpus[1].fails["nvmlDeviceGetHandleByIndex"] = real.NVML_ERROR_GPU_IS_LOST
    assert found() == (A, C)
    assert warnings(caplog) == ["GPU 1 is not given out, for its driver says: GPU is lost"]
    assert found(**{CUDA: "2"}) == (C,)  # it keeps its number


def test_a_driver_that_hangs_has_no_gpus(
    nvml: FakeNvml, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(devices, "DRIVER_PATIENCE_S", 0.05)
    nvml.answers.clear()
    try:
        assert found() == ()
        assert warnings(caplog) == ["NVIDIA's driver hangs (no answer in 0.05 s): no GPUs are given out"]
    finally:
        nvml.answers.set()


@pytest.mark.parametrize(
    ("shown", "given"),
    [
        ("1", (B,)),
        ("2,0", (C, A)),
        ("0,0,1", (A, B)),
        ("", ()),
        ("-1", ()),
        ("NoDevFiles", ()),
        ("0,9,1", (A,)),
        (f"{C},{A}", (C, A)),
        ("GPU-b", (B,)),
        ("GPU-", ()),
        ("GPU-d", ()),
        (" 1 , 2", (B, C)),
    ],
)
def test_an_allocation_is_not_left(nvml: FakeNvml, shown: str, given: tuple[str, ...]) -> None:
    assert found(**{CUDA: shown}) == given


def test_an_allocation_of_parts(nvml: FakeNvml) -> None:
    nvml.gpus = [Gpu(A, parts=[Gpu(MIG[0]), Gpu(MIG[1])]), Gpu(B, parts=[Gpu(MIG[2])]), Gpu(C)]
    assert found(**{CUDA: MIG[1]}) == (MIG[1],)
    assert found(**{CUDA: "0"}) == (MIG[0], MIG[1])  # the whole card
    assert found(**{CUDA: f"{MIG[2]},2"}) == (MIG[2], C)


def test_cards_that_an_allocation_holds_back_are_not_counted(nvml: FakeNvml, caplog: pytest.LogCaptureFixture) -> None:
    nvml.gpus[0].fails["nvmlDeviceGetHandleByIndex"] = real.NVML_ERROR_NO_PERMISSION
    assert found() == (B, C)
    assert found(**{CUDA: "0"}) == (B,)
    assert warnings(caplog) == []


def test_it_is_said_when_gpus_are_left_out(nvml: FakeNvml, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    found(**{CUDA: "1"})
    assert caplog.messages == ["1 of 3 GPUs are given out: the daemon is shown no others (1)"]


# ------------------------------------------------------------------------------------------------- AMD

#: As amd-smi 25 lists them; the last one is too old for the compute driver.
AMD_SMI = [
    {
        "gpu": number,
        "bdf": f"0000:{bus}:00.0",
        "uuid": "63ff74b5-0000-1000-80cc-32b4e9a3a3d6",
        "kfd_id": 51140 + number,
        "node_id": node,
        "partition_id": 0,
    }
    for number, bus, node in ((0, "05", 3), (1, "26", 2), (2, "46", "N/A"))
]
#: As rocm-smi prints it: the card of a server's console is card0, and warnings come first.
ROCM_SMI = """

WARNING: AMD GPU device(s) is/are in a low-power state. Check power control/runtime_status

{"card1": {"Unique ID": "0x719d230578348e8c"}, "card2": {"Unique ID": "0x7d5d0f0b0b2d6a33"}}
"""


@pytest.fixture
def tools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, no_nvidia: None) -> Path:
    """A folder for AMD's tools, before all others on the PATH."""
    folder = tmp_path / "tools"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    return folder


def tool(path: Path, script: str) -> None:
    """Make a tool that does what a shell script says."""
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


def prints(path: Path, arguments: str, answer: str) -> None:
    """Make a tool that answers to just these arguments."""
    path.with_suffix(".answer").write_text(answer)
    tool(path, f'[ "$*" = "{arguments}" ] && exec cat {path.with_suffix(".answer")}\nexit 2')


def test_amd_smi_tells(tools: Path) -> None:
    prints(tools / "amd-smi", "list --json", json.dumps(AMD_SMI, indent=4))
    assert found() == ("amd:0", "amd:1")
    prints(tools / "amd-smi", "list --json", json.dumps({"gpu_data": AMD_SMI[:1]}, indent=4))
    assert found() == ("amd:0",)


def test_rocm_smi_tells_where_amd_smi_is_not_or_fails(tools: Path, caplog: pytest.LogCaptureFixture) -> None:
    prints(tools / "rocm-smi", "--showuniqueid --json", ROCM_SMI)
    assert found() == ("amd:0", "amd:1")
    assert warnings(caplog) == []
    tool(tools / "amd-smi", "echo 'AMDSMI_STATUS_DRIVER_NOT_LOADED' >&2; exit 255")
    assert found() == ("amd:0", "amd:1")
    assert len(warnings(caplog)) == 1 and "amd-smi does not tell of GPUs" in warnings(caplog)[0]


@pytest.mark.parametrize("answer", ["", "No AMD GPUs", "{", "[1, 2", '"text"', "[]", "{}", "null"])
def test_nonsense_of_a_tool_is_no_gpu(tools: Path, answer: str) -> None:
    prints(tools / "amd-smi", "list --json", answer)
    assert found() == ()


def test_a_tool_that_hangs_is_ended_with_what_it_started(
    tools: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(amd, "TOOL_PATIENCE_S", 0.3)
    tool(tools / "amd-smi", f"sleep 600 & echo $! > {tmp_path}/pid.tmp; mv {tmp_path}/pid.tmp {tmp_path}/pid; wait")
    assert found() == ()
    assert "timed out" in warnings(caplog)[0]
    sleeping = Path("/proc") / (tmp_path / "pid").read_text().strip() / "cmdline"
    until(lambda: not sleeping.exists() or not sleeping.read_bytes(), "the end of what hangs")


def kfd(sys_folder: Path, *nodes: dict[str, int]) -> Path:
    """The kernel's files on a machine with a CPU and these GPUs."""
    for number, node in enumerate(({"simd_count": 0, "cpu_cores_count": 16}, *nodes)):
        folder = sys_folder / "class/kfd/kfd/topology/nodes" / str(number)
        folder.mkdir(parents=True)
        (folder / "properties").write_text("".join(f"{name} {value}\n" for name, value in node.items()))
        (folder / "gpu_id").write_text(f"{1000 + number if node['simd_count'] else 0}\n")
    return sys_folder


NODES = [
    {"simd_count": 440, "location_id": 0x2F00, "domain": 0, "unique_id": 0x719D230578348E8C},
    {"simd_count": 440, "location_id": 0x8300, "domain": 1, "unique_id": 0xDEADBEEF},
]


def test_what_the_kernel_holds_back_is_not_given_out(tools: Path, tmp_path: Path) -> None:
    prints(tools / "rocm-smi", "--showuniqueid --json", ROCM_SMI)
    assert amd.find(kfd(tmp_path / "one", NODES[0])) == ("amd:0",)
    assert amd.find(kfd(tmp_path / "two", *NODES)) == ("amd:0", "amd:1")


@pytest.mark.parametrize(
    ("shown", "given"),
    [
        ({}, ("amd:0", "amd:1")),
        ({ROCR: "1"}, ("amd:1",)),
        ({ROCR: ""}, ()),
        ({ROCR: "GPU-00000000deadbeef"}, ("amd:1",)),
        ({ROCR: "GPU-0123"}, ()),
        ({HIP: "1"}, ("amd:1",)),
        ({HIP: "-1"}, ()),
        ({CUDA: "0"}, ("amd:0",)),
        ({HIP: "", CUDA: "0"}, ("amd:0",)),
        ({HIP: "1", CUDA: "0"}, ("amd:1",)),
        ({HIP: ""}, ("amd:0", "amd:1")),  # empty is as unset to HIP
        ({ROCR: "1", HIP: "0"}, ("amd:1",)),  # the first of what is left
        ({ROCR: "1", HIP: "1"}, ("amd:1",)),  # set alike by Slurm
        ({ROCR: "1,0", HIP: "1"}, ("amd:0",)),
    ],
)
def test_an_allocation_of_amd_is_not_left(
    tools: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shown: dict[str, str], given: tuple[str, ...]
) -> None:
    prints(tools / "amd-smi", "list --json", json.dumps(AMD_SMI))
    uuids = amd.uuids(kfd(tmp_path / "sys", *NODES))
    monkeypatch.setattr(amd, "uuids", lambda: uuids)
    assert found(**shown) == given


# ------------------------------------------------------------------------------------------------- what a job sees


@pytest.mark.parametrize(
    ("gpus", "shown"),
    [
        ((), {CUDA: "", HIP: "-1"}),
        ((A,), {CUDA: A}),
        ((B, A), {CUDA: f"{B},{A}"}),
        ((MIG[0],), {CUDA: MIG[0]}),
        (("1", "0"), {CUDA: "1,0", "CUDA_DEVICE_ORDER": "PCI_BUS_ID"}),
        (("amd:2", "amd:3"), {CUDA: "2,3", HIP: "2,3"}),
    ],
)
def test_a_job_sees_its_own_gpus_and_no_others(gpus: tuple[str, ...], shown: dict[str, str]) -> None:
    told = visible(gpus, {})
    assert told.pop("METTA_JOB_OUTSIDE") == "{}"
    assert told == shown


def test_nothing_of_the_submitters_shows_a_job_others() -> None:
    plain, secret = split({CUDA: "7", HIP: "7", ROCR: "7", "METTA_JOB_OUTSIDE": "{}", "PATH": "/bin"})
    assert (plain, secret) == ({"PATH": "/bin"}, {})


def test_a_job_without_gpus_knows_those_of_its_queue(nvml: FakeNvml, monkeypatch: pytest.MonkeyPatch) -> None:
    """It may submit what wants a GPU, or start the daemon anew, and is itself shown none."""
    job = {"METTA_ATTEMPT_TOKEN": "/q/job_state:14:1", "METTA_JOB_STATE": "/q/job_state"}
    for daemon, given in (({CUDA: "0,2"}, (A, C)), ({}, (A, B, C)), ({CUDA: ""}, ())):
        for name, value in {**job, **visible((), daemon)}.items():
            monkeypatch.setenv(name, value)
        assert find_gpus(Settings()) == given
        assert outside(os.environ, "/q/job_state") == daemon


def test_a_queue_within_a_job_has_what_the_job_was_given(nvml: FakeNvml) -> None:
    job = {"METTA_ATTEMPT_TOKEN": "/q/job_state:14:1", **visible((B,), {})}
    assert outside(job, "/elsewhere/job_state") == {CUDA: B}
    assert outside(job, "/q/job") == {CUDA: B}
    assert found(**outside(job, "/elsewhere/job_state")) == (B,)
