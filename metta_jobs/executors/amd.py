"""AMD's GPUs: which there are by AMD's own tools, what fills them by the files of the kernel's driver."""

from __future__ import annotations

import json
import logging
import os
import shutil
import signal
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from metta_jobs.executors.load import Load

log = logging.getLogger("metta_jobs.daemon")

AMD = "amd:"
"""How a GPU of AMD is named here; the rest is its index as HIP_VISIBLE_DEVICES counts."""
TOOL_PATIENCE_S = 5.0


def find(sys: Path = Path("/sys")) -> tuple[str, ...]:
    """The GPUs that amd-smi or rocm-smi tells of, numbered as the runtime (HIP) does.

    The runtime counts from 0 without gaps, in the order of the kernel's nodes; the tools number in other orders and
    with gaps, so only how many they know is taken from them.
    """
    cards = _by_amd_smi(_ask("amd-smi", "list", "--json"))
    if cards is None:
        cards = _by_rocm_smi(_ask("rocm-smi", "--showuniqueid", "--json"))
    usable = len(_nodes(sys))
    return tuple(f"{AMD}{index}" for index in range(min(cards or 0, usable) if usable else cards or 0))


def _by_amd_smi(answer: Any) -> int | None:
    """How many cards it lists that can compute; those that cannot have no node."""
    cards = answer.get("gpu_data") if isinstance(answer, dict) else answer
    if not isinstance(cards, list):
        return None
    return sum(isinstance(card, dict) and "gpu" in card and isinstance(card.get("node_id", 0), int) for card in cards)


def _by_rocm_smi(answer: Any) -> int | None:
    """How many cards it lists, beside what it says of the system."""
    return sum(name.startswith("card") for name in answer) if isinstance(answer, dict) else None


def _ask(tool: str, *arguments: str) -> Any:
    """What a tool answers in JSON; None when it is not there or does not."""
    path = shutil.which(tool)
    if path is None:
        return None
    try:
        asked = subprocess.Popen(
            [path, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        try:
            answer, _ = asked.communicate(timeout=TOOL_PATIENCE_S)
        except subprocess.TimeoutExpired:
            _end(asked)
            raise
        if asked.returncode != 0:
            raise subprocess.CalledProcessError(asked.returncode, tool)
        return _json(answer.decode(errors="replace"))
    except (OSError, ValueError, subprocess.SubprocessError) as error:
        log.warning("%s does not tell of GPUs: %s", tool, error)
        return None


def _end(asked: subprocess.Popen[bytes]) -> None:
    """End the tool with what it has started, and do not wait for one that the kernel holds fast."""
    os.killpg(asked.pid, signal.SIGKILL)
    assert asked.stdout is not None
    asked.stdout.close()
    try:
        asked.wait(1.0)
    except subprocess.TimeoutExpired:
        log.debug("pid %d cannot be ended now", asked.pid)


def _json(text: str) -> Any:
    """The JSON in a tool's answer, which may begin with warnings. Raises ValueError."""
    lines = text.splitlines(keepends=True)
    for number, line in enumerate(lines):
        if line.startswith(("{", "[")):
            return json.loads("".join(lines[number:]))
    raise ValueError("its answer holds no JSON")


@dataclass(frozen=True)
class _Node:
    """A GPU as the kernel's compute driver tells of it."""

    gpu_id: str
    bdf: str
    uuid: str


def uuids(sys: Path = Path("/sys")) -> list[str]:
    """The GPUs' UUIDs, as ROCR_VISIBLE_DEVICES takes them, in the order in which the runtime counts them."""
    return [node.uuid for node in _nodes(sys)]


def loads(gpus: Sequence[str], sys: Path = Path("/sys")) -> dict[str, Load]:
    """What each of these GPUs (indices) is filled with; those that the kernel does not tell of are left out."""
    nodes = _nodes(sys)
    found = {}
    for gpu in gpus:
        index = gpu.removeprefix(AMD)
        if index.isdigit() and int(index) < len(nodes):
            found[gpu] = _load(nodes[int(index)], nodes, sys)
    return found


def _nodes(sys: Path) -> list[_Node]:
    """The GPUs that we may use: the runtime leaves out what it cannot read, and so do we."""
    nodes = []
    folder = sys / "class" / "kfd" / "kfd" / "topology" / "nodes"
    try:
        names = sorted((path.name for path in folder.iterdir() if path.name.isdigit()), key=int)
    except OSError:
        return []
    for name in names:
        try:
            lines = (folder / name / "properties").read_text().splitlines()
            properties = {words[0]: int(words[1]) for line in lines if len(words := line.split()) == 2}
            gpu_id = (folder / name / "gpu_id").read_text().strip()
        except (OSError, ValueError):
            continue
        if not properties.get("simd_count"):
            continue  # a CPU
        at = properties.get("location_id", 0)
        bdf = f"{properties.get('domain', 0):04x}:{at >> 8 & 0xFF:02x}:{at >> 3 & 0x1F:02x}.{at & 7}"
        nodes.append(_Node(gpu_id, bdf, f"GPU-{properties.get('unique_id', 0):016x}"))
    return nodes


def _load(node: _Node, nodes: Sequence[_Node], sys: Path) -> Load:
    card = sys / "bus" / "pci" / "devices" / node.bdf
    processes = {}
    for path in (sys / "class" / "kfd" / "kfd" / "proc").glob(f"[0-9]*/vram_{node.gpu_id}"):
        if held := _number(path):
            processes[int(path.parent.name)] = held
    used = _number(card / "mem_info_vram_used")
    if sum(other.bdf == node.bdf for other in nodes) > 1:
        used = None  # several parts of a card share its memory: the sum is not this part's
    return Load(used, _number(card / "mem_info_vram_total"), processes)


def _number(path: Path) -> int | None:
    try:
        return int(path.read_text())
    except (OSError, ValueError):
        return None  # not told here, or the process has ended meanwhile
