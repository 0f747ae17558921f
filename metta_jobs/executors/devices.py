"""The GPUs of this machine."""

from __future__ import annotations

from metta_jobs.settings import Settings


def find_gpus(settings: Settings) -> tuple[str, ...]:
    """Return the GPUs to give out, as CUDA_VISIBLE_DEVICES names them: those of the settings, else UUIDs from NVML."""
    if settings.gpus is not None:
        return settings.gpus
    import pynvml

    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return ()  # no driver: a machine without NVIDIA GPUs
    try:
        handles = (pynvml.nvmlDeviceGetHandleByIndex(i) for i in range(pynvml.nvmlDeviceGetCount()))
        return tuple(str(pynvml.nvmlDeviceGetUUID(handle)) for handle in handles)
    finally:
        pynvml.nvmlShutdown()
