"""NVML without a driver: takes the place of the module pynvml, with its errors, constants and call signatures."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from types import ModuleType, SimpleNamespace
from typing import Any

import pynvml as real

GIB = 2**30


@dataclass
class Gpu:
    """A card or, with `parts`, one in MIG mode (None stands for a place without an instance). Amounts in bytes.

    `processes` and `drawing` are pid → memory, None where it is not told. `fails` is raised by whatever is asked of it
    by that function's name. `counts_reserved` is how drivers before 530 tell used memory.
    """

    uuid: str
    used: int = 0
    total: int = 24 * GIB
    reserved: int = 512 * 2**20
    counts_reserved: bool = False
    processes: dict[int, int | None] = field(default_factory=dict)
    drawing: dict[int, int | None] = field(default_factory=dict)
    parts: list[Gpu | None] | None = None
    knows_mig: bool = False
    numa_node: int | None = None
    fails: dict[str, int] = field(default_factory=dict)


class FakeNvml(ModuleType):
    """Every call fails with "Uninitialized" before nvmlInit and after nvmlShutdown, as the real ones do."""

    def __init__(self, *gpus: Gpu) -> None:
        super().__init__("pynvml")
        self.gpus = list(gpus)
        self.fails: dict[str, int] = {}
        self.opened = 0
        self.users = 0
        self.calls: list[str] = []
        self.answers = threading.Event()  # cleared: the driver hangs
        self.answers.set()

    def __getattr__(self, name: str) -> Any:
        if name.startswith(("NVMLError", "NVML_")) or name == "nvmlMemory_v2":
            return getattr(real, name)
        raise AttributeError(name)

    def _call(self, name: str, gpu: Gpu | None = None) -> None:
        self.calls.append(name)
        self.answers.wait()
        for fails in (self.fails, gpu.fails if gpu else {}):
            if name in fails:
                raise real.NVMLError(fails[name])
        if name != "nvmlInit" and not self.users:
            raise real.NVMLError(real.NVML_ERROR_UNINITIALIZED)

    def nvmlInit(self) -> None:
        self._call("nvmlInit")
        self.opened += 1
        self.users += 1

    def nvmlShutdown(self) -> None:
        self._call("nvmlShutdown")
        self.users -= 1

    def nvmlDeviceGetCount(self) -> int:
        self._call("nvmlDeviceGetCount")
        return len(self.gpus)

    def nvmlDeviceGetHandleByIndex(self, index: int) -> Gpu:
        self._call("nvmlDeviceGetHandleByIndex", self.gpus[index])
        return self.gpus[index]

    def nvmlDeviceGetUUID(self, handle: Gpu) -> str:
        self._call("nvmlDeviceGetUUID", handle)
        return handle.uuid

    def nvmlDeviceGetMigMode(self, device: Gpu) -> list[int]:
        self._call("nvmlDeviceGetMigMode", device)
        if not device.knows_mig and device.parts is None:
            raise real.NVMLError(real.NVML_ERROR_NOT_SUPPORTED)
        return [int(device.parts is not None)] * 2

    def nvmlDeviceGetMaxMigDeviceCount(self, device: Gpu) -> int:
        self._call("nvmlDeviceGetMaxMigDeviceCount", device)
        return 7

    def nvmlDeviceGetMigDeviceHandleByIndex(self, device: Gpu, index: int) -> Gpu:
        self._call("nvmlDeviceGetMigDeviceHandleByIndex", device)
        part = device.parts[index] if device.parts and index < len(device.parts) else None
        if part is None:
            raise real.NVMLError(real.NVML_ERROR_NOT_FOUND)
        return part

    def nvmlDeviceGetMemoryInfo(self, handle: Gpu, version: int | None = None) -> SimpleNamespace:
        self._call("nvmlDeviceGetMemoryInfo_v2" if version else "nvmlDeviceGetMemoryInfo", handle)
        taken = handle.used + handle.reserved
        if not version:
            return SimpleNamespace(total=handle.total, free=handle.total - taken, used=taken)
        assert version == real.nvmlMemory_v2
        return SimpleNamespace(
            version=version,
            total=handle.total,
            reserved=handle.reserved,
            free=handle.total - taken,
            used=taken if handle.counts_reserved else handle.used,
        )

    def nvmlDeviceGetNumaNodeId(self, handle: Gpu) -> int:
        self._call("nvmlDeviceGetNumaNodeId", handle)
        if handle.numa_node is None:
            raise real.NVMLError(real.NVML_ERROR_NOT_SUPPORTED)
        return handle.numa_node

    def nvmlDeviceGetComputeRunningProcesses(self, handle: Gpu) -> list[SimpleNamespace]:
        self._call("nvmlDeviceGetComputeRunningProcesses", handle)
        return [SimpleNamespace(pid=pid, usedGpuMemory=used) for pid, used in handle.processes.items()]

    def nvmlDeviceGetGraphicsRunningProcesses(self, handle: Gpu) -> list[SimpleNamespace]:
        self._call("nvmlDeviceGetGraphicsRunningProcesses", handle)
        return [SimpleNamespace(pid=pid, usedGpuMemory=used) for pid, used in handle.drawing.items()]
