"""The processes of a bed: those that carry its mark in their environment, and their descendants (Linux)."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

MARK = "METTA_BED_MEMBER"


def members(folder: Path, named: str = "") -> list[int]:
    """Live processes of the bed in `folder` whose command line has `named` in it, and all their descendants."""
    mark, host_key = f"{MARK}={folder}".encode(), f"{folder}/host_key"
    children: dict[int, list[int]] = {}
    found: list[int] = []
    for pid in [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]:
        try:
            state, parent, *_ = _stat(pid)
            command = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            marked = mark in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
        except OSError:  # it has just ended
            continue
        if state == "Z":
            continue
        children.setdefault(int(parent), []).append(pid)
        # sshd writes its title over its environment.
        if (marked or (command.startswith("sshd") and host_key in command)) and named in command:
            found.append(pid)
    # So do those that sshd and slurmd start, which are known by where they come from.
    for pid in found:
        found.extend(child for child in children.get(pid, []) if child not in found)
    return [pid for pid in found if pid != os.getpid()]


def end(find: Callable[[], list[int]], grace_s: float = 5.0) -> None:
    """SIGTERM, and after the grace SIGKILL, to all that `find` has ever found, until nothing is left.

    Raises RuntimeError where something stays.
    """
    begun = time.monotonic()
    known: dict[int, str] = {}
    while True:
        new = {pid: _born(pid) for pid in find() if pid not in known}
        known |= new
        left = [pid for pid, born in known.items() if born and _born(pid) == born]
        if not left:
            return
        waited = time.monotonic() - begun
        if waited > grace_s + 60:
            raise RuntimeError(f"these processes do not end: {left}")
        late = waited >= grace_s
        for pid in left if late else new:
            send(pid, signal.SIGKILL if late else signal.SIGTERM)
        time.sleep(0.2)


def _stat(pid: int) -> list[str]:
    """State, parent, … of a process, as the kernel tells them behind its name."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()


def _born(pid: int) -> str:
    """What tells a process from later ones of the same number; "" when it has ended."""
    try:
        stat = _stat(pid)
    except OSError:
        return ""
    return "" if stat[0] == "Z" else stat[19]


def send(pid: int, number: int) -> None:
    """Send a signal; a process that is gone already is well."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)
