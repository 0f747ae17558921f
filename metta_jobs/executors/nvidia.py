"""NVIDIA's GPUs, by NVML."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from metta_jobs.executors.load import Load

log = logging.getLogger("metta_jobs.daemon")


class Unanswered(Exception):
    """The driver is there and does not answer; the message says what it said."""


@dataclass(frozen=True)
class Card:
    """One GPU: its UUID, and the names under which it is given out (those of its MIG instances where it is divided).

    A card that cannot be used keeps its place with no names, as the others are counted around it.
    """

    uuid: str
    names: tuple[str, ...]


@dataclass(frozen=True)
class _Device:
    card: Card
    handle: Any
    parts: Mapping[str, Any] = field(default_factory=dict)  # handles of its MIG instances
    lost: str | None = None


class Nvml:
    """NVML, held open between questions: opening it may take a second where no other program holds the driver."""

    def __init__(self) -> None:
        self._devices: list[_Device] | None = None

    def cards(self) -> list[Card]:
        """All GPUs in the order of their PCI addresses, as nvidia-smi counts; none without a driver.

        Those that we may not use (an allocation holds them back) are not counted. Raises Unanswered.
        """
        with _fitting():
            return [device.card for device in self._opened()]

    def loads(self, gpus: Sequence[str]) -> dict[str, Load]:
        """What each of these GPUs (UUIDs, indices) is filled with; those it does not know are left out.

        Raises Unanswered.
        """
        try:
            with _fitting():
                devices = self._opened()
                return {gpu: load for gpu in gpus if (load := _load(_find(devices, gpu))) is not None}
        except Unanswered:
            self.close()  # the driver was changed, or its GPUs divided anew: begin again next time
            raise

    def close(self) -> None:
        """Let go of the driver: while somebody holds it, no GPU can be reset or divided."""
        if self._devices is None:
            return
        import pynvml

        self._devices = None
        try:
            pynvml.nvmlShutdown()
        except pynvml.NVMLError as error:
            log.debug("NVML could not be closed: %s", error)

    def _opened(self) -> list[_Device]:
        import pynvml

        if self._devices is not None:
            return self._devices
        try:
            pynvml.nvmlInit()
        except pynvml.NVMLError_LibraryNotFound:
            return []  # a machine without NVIDIA GPUs
        except pynvml.NVMLError as error:
            raise Unanswered(str(error)) from error
        self._devices = []
        try:
            self._devices = list(_devices())
        except pynvml.NVMLError as error:
            self.close()
            raise Unanswered(str(error)) from error
        return self._devices


@contextmanager
def _fitting() -> Iterator[None]:
    try:
        yield
    except (ImportError, AttributeError, TypeError) as error:
        raise Unanswered(
            f"the module pynvml is not the one of nvidia-ml-py: {error}. `pip uninstall pynvml`, then `pip install "
            "--force-reinstall nvidia-ml-py`"
        ) from error


def _devices() -> Iterator[_Device]:
    import pynvml

    for index in range(pynvml.nvmlDeviceGetCount()):
        try:
            handle = pynvml.nvmlDeviceGetHandleByIndex(index)
            uuid = str(pynvml.nvmlDeviceGetUUID(handle))
            parts = _parts(handle)
        except pynvml.NVMLError_NoPermission:
            continue
        except pynvml.NVMLError as error:
            log.warning("GPU %d is not given out, for its driver says: %s", index, error)
            yield _Device(Card("", ()), None, lost=str(error))
            continue
        if parts is None:
            yield _Device(Card(uuid, (uuid,)), handle)
            continue
        if not parts:
            log.warning("GPU %d (%s) is in MIG mode and has no instances: there is nothing to give out", index, uuid)
        yield _Device(Card(uuid, tuple(parts)), handle, parts)


def _parts(handle: Any) -> dict[str, Any] | None:
    """The MIG instances of a card by their UUIDs; None where it is not divided."""
    import pynvml

    try:
        if pynvml.nvmlDeviceGetMigMode(handle)[0] != pynvml.NVML_DEVICE_MIG_ENABLE:
            return None
        places = pynvml.nvmlDeviceGetMaxMigDeviceCount(handle)
    except (pynvml.NVMLError_NotSupported, pynvml.NVMLError_FunctionNotFound):
        return None
    parts = {}
    for index in range(places):
        try:
            part = pynvml.nvmlDeviceGetMigDeviceHandleByIndex(handle, index)
        except pynvml.NVMLError_NotFound:
            continue  # no instance was made there
        parts[str(pynvml.nvmlDeviceGetUUID(part))] = part
    return parts


def _find(devices: Sequence[_Device], gpu: str) -> _Device | None:
    """The device of this name, which may be cut short as CUDA allows it; a MIG instance as a device of its own."""
    if gpu.isdigit():
        return devices[int(gpu)] if int(gpu) < len(devices) else None
    for device in devices:
        if gpu in device.parts:
            return _Device(device.card, device.parts[gpu])
    found = [device for device in devices if device.card.uuid and device.card.uuid.startswith(gpu)]
    return found[0] if len(found) == 1 else None


def _load(device: _Device | None) -> Load | None:
    import pynvml

    if device is None:
        return None
    if device.lost is not None:
        return Load(lost=f"its driver says: {device.lost}")
    try:
        used, total = _memory(device.handle)
        return Load(used, total, _processes(device.handle))
    except (pynvml.NVMLError_GpuIsLost, pynvml.NVMLError_ResetRequired) as error:
        return Load(lost=f"its driver says: {error}")
    except pynvml.NVMLError as error:
        raise Unanswered(str(error)) from error


def _memory(handle: Any) -> tuple[int | None, int | None]:
    """Bytes in use, without what the driver keeps for itself, and in all; None where that tells nothing."""
    import pynvml

    try:
        memory = pynvml.nvmlDeviceGetMemoryInfo(handle, version=pynvml.nvmlMemory_v2)
        reserved = int(memory.reserved)
    except _unknown():
        reserved = 0  # an older driver
        try:
            memory = pynvml.nvmlDeviceGetMemoryInfo(handle)
        except pynvml.NVMLError_NotSupported:
            return None, None  # it has no memory of its own
    if _is_numa_node(handle):
        return None, int(memory.total)  # the kernel's caches count as used
    # Some drivers count what is reserved as used, others do not.
    return max(0, int(memory.total) - int(memory.free) - reserved), int(memory.total)


def _is_numa_node(handle: Any) -> bool:
    import pynvml

    ask: Callable[[Any], int] | None = getattr(pynvml, "nvmlDeviceGetNumaNodeId", None)
    try:
        return ask is not None and ask(handle) >= 0
    except _unknown():
        return False


def _processes(handle: Any) -> dict[int, int | None]:
    """Bytes by process; those that compute and those that draw: what does both stands in both lists."""
    import pynvml

    found: dict[int, int | None] = {}
    for ask in (pynvml.nvmlDeviceGetComputeRunningProcesses, pynvml.nvmlDeviceGetGraphicsRunningProcesses):
        try:
            listed = ask(handle)
        except (*_unknown(), pynvml.NVMLError_NoPermission):
            continue
        for process in listed:
            used = [amount for amount in (found.get(process.pid), process.usedGpuMemory) if amount is not None]
            found[process.pid] = max(used, default=None)
    return found


def _unknown() -> tuple[type[Exception], ...]:
    """How NVML says that it does not know a question, or not of this GPU."""
    import pynvml

    names = ("NotSupported", "FunctionNotFound", "InvalidArgument", "ArgumentVersionMismatch")
    return tuple(getattr(pynvml, f"NVMLError_{name}") for name in names if hasattr(pynvml, f"NVMLError_{name}"))
