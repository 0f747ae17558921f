"""The GPUs of this machine: which there are to give out, and how a job is shown its own."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping, Sequence

from metta_jobs.environment import CUDA, HIP, ROCR, outside, tell_outside
from metta_jobs.executors import amd
from metta_jobs.executors.aside import Aside, Hangs
from metta_jobs.executors.nvidia import Card, Nvml, Unanswered
from metta_jobs.paths import STATE_DIR_VARIABLE
from metta_jobs.settings import Settings

log = logging.getLogger("metta_jobs.daemon")

DRIVER_PATIENCE_S = 5.0


def find_gpus(settings: Settings, environ: Mapping[str, str] | None = None) -> tuple[str, ...]:
    """Return the GPUs to give out: those of the settings; else NVIDIA's, as UUIDs (of the MIG instances where a card
    is divided); else AMD's, as "amd:<index>". None where a driver fails or hangs; the log says so.

    Of those found, only what the environment (`environ`, else ours) shows: in an allocation of Slurm's, or where a
    person has set CUDA_VISIBLE_DEVICES, the other GPUs are somebody else's. Takes up to seconds: not for every command.
    """
    if settings.gpus is not None:
        return settings.gpus
    if environ is None:
        environ = outside(os.environ, os.environ.get(STATE_DIR_VARIABLE, ""))
    try:
        cards = Aside().ask(_nvidia, DRIVER_PATIENCE_S)
    except Hangs as error:
        log.warning("NVIDIA's driver hangs (%s): no GPUs are given out", error)
        return ()
    if cards:
        allowed = environ.get(CUDA)
        found = tuple(name for card in cards for name in card.names)
        return found if allowed is None else _only(found, _pick(allowed, lambda name: _by_name(cards, name)), allowed)
    found = amd.find()
    return _shown_by_rocm(found, amd.uuids(), environ) if found else ()


def _nvidia() -> list[Card]:
    nvml = Nvml()
    try:
        return nvml.cards()
    except Unanswered as error:
        log.warning("NVIDIA's driver does not answer (%s): none of its GPUs are given out", error)
        return []
    finally:
        nvml.close()


# ------------------------------------------------------------------------------------------------- what confines us


def _pick(allowed: str, find: Callable[[str], Sequence[str]]) -> list[str]:
    """What a list names. A name that means nothing ends it: so the runtimes read it, and so "-1" stands for none."""
    picked: list[str] = []
    for word in allowed.split(","):
        meant = find(word.strip())
        if not meant:
            break
        picked += [gpu for gpu in meant if gpu not in picked]
    return picked


def _by_name(cards: Sequence[Card], name: str) -> Sequence[str]:
    """What an index, a UUID, the beginning of one, or a MIG instance's name means in CUDA_VISIBLE_DEVICES."""
    if name.isdigit():
        return cards[int(name)].names if int(name) < len(cards) else ()
    if not name.startswith(("GPU-", "MIG-")):
        return ()
    for card in cards:
        if name in card.names:
            return (name,)
    meant = [card for card in cards if card.uuid.startswith(name)]
    return meant[0].names if len(meant) == 1 else ()


def _shown_by_rocm(found: Sequence[str], uuids: Sequence[str], environ: Mapping[str, str]) -> tuple[str, ...]:
    """ROCR_VISIBLE_DEVICES chooses from all, and HIP_VISIBLE_DEVICES (else CUDA_VISIBLE_DEVICES) from what is left."""
    rocr, hip = environ.get(ROCR), environ.get(HIP) or environ.get(CUDA)
    left = list(found)
    if rocr is not None:
        names = {uuid.upper(): gpu for uuid, gpu in zip(uuids, found, strict=False)}
        left = _pick(rocr, lambda name: [names[name.upper()]] if name.upper() in names else _at(found, name))
    # Some versions of Slurm set all of them alike, and mean the one list by it.
    if hip and hip != rocr:
        shown = tuple(left)
        left = _pick(hip, lambda name: _at(shown, name))
    return _only(found, left, f"{ROCR}={rocr} {HIP}={hip}") if rocr is not None or hip else tuple(found)


def _at(gpus: Sequence[str], name: str) -> Sequence[str]:
    return gpus[int(name) : int(name) + 1] if name.isdigit() else ()


def _only(found: Sequence[str], shown: Sequence[str], by: str) -> tuple[str, ...]:
    if len(shown) < len(found):
        log.info("%d of %d GPUs are given out: the daemon is shown no others (%s)", len(shown), len(found), by)
    return tuple(shown)


# ------------------------------------------------------------------------------------------------- what a job is shown


def visible(gpus: Sequence[str], environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """The environment variables that show a job these GPUs and no others. `environ` is the daemon's own.

    The job's environment must hold none of them from elsewhere: ROCR_VISIBLE_DEVICES would count before ours.
    """
    names = [gpu.removeprefix(amd.AMD) for gpu in gpus]
    shown = {CUDA: ",".join(names), **tell_outside(environ)}
    if not gpus:
        shown[HIP] = "-1"  # to HIP, empty means all
    elif gpus[0].startswith(amd.AMD):
        shown[HIP] = shown[CUDA]  # PyTorch reads either, and others insist that they agree
    elif any(name.isdigit() for name in names):
        shown["CUDA_DEVICE_ORDER"] = "PCI_BUS_ID"  # the order that NVML and nvidia-smi count in
    return shown
