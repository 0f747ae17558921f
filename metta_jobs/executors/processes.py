"""The processes of an attempt, as the kernel tells of them. Standard library only: the runner uses it, too."""

from __future__ import annotations

import os
import subprocess
import sys

TOKEN = "METTA_ATTEMPT_TOKEN"  # noqa: S105 - a name
FREE = b"METTA_ATTEMPT_NONE=1"  # a daemon that a job has started belongs to no attempt, nor do its jobs
LINUX = sys.platform == "linux"


def boot_id() -> str:
    """A name of this boot of the machine; process ids mean nothing in another."""
    try:
        with open("/proc/sys/kernel/random/boot_id") as file:
            return file.read().strip()
    except OSError:
        done = subprocess.run(["sysctl", "-n", "kern.boottime"], capture_output=True, text=True, check=False)
        return done.stdout.strip() or "unknown"


def start_mark(pid: int) -> str | None:
    """When the process started, in the kernel's own words; None when it is gone or a zombie. Tells reused ids apart."""
    if LINUX:
        fields = _stat(pid)
        return None if fields is None or fields[0] in "ZX" else fields[19]
    done = subprocess.run(["ps", "-o", "stat=,lstart=", "-p", str(pid)], capture_output=True, text=True, check=False)
    stat, _, started = done.stdout.strip().partition(" ")
    return started.strip() if started and not stat.startswith("Z") else None


def members(leader: int, start: str | None, token: str) -> list[int]:
    """The live processes of an attempt whose runner or first process is, or was, `leader` with mark `start`.

    They are the leader and its descendants (a runner adopts orphans), the leader's session, and whatever carries the
    token. Where the kernel has given the leader's id to somebody else, session and descendants are somebody else's,
    too. A leader of -1 is not known: only the token counts.
    """
    if not LINUX:
        done = subprocess.run(["ps", "-axo", "pid=,pgid=,stat="], capture_output=True, text=True, check=False)
        rows = [line.split() for line in done.stdout.splitlines()]
        return [int(row[0]) for row in rows if int(row[1]) == leader and not row[2].startswith("Z")]
    mark = f"{TOKEN}={token}".encode()
    processes = {int(e.name): f for e in os.scandir("/proc") if e.name.isdigit() and (f := _stat(int(e.name)))}
    ours = leader in processes and processes[leader][19] == start
    family = leader > 0 and (ours or leader not in processes)
    born = int(start) if start and start.isdigit() else 0
    found = {
        other
        for other, fields in processes.items()
        if (family and int(fields[3]) == leader and int(fields[19]) >= born) or _carries(other, mark)
    }
    if ours:
        found.add(leader)
        free: set[int] = set()
        while grown := {child for child, fields in processes.items() if int(fields[1]) in found} - found - free:
            free |= {child for child in grown if _carries(child, FREE)}
            found |= grown - free
    return sorted(process for process in found if processes[process][0] not in "ZX")


def belongs_to(pid: int, state_dir: str) -> bool:
    """True when the process is part of an attempt of the queue in this state folder.

    A process that has overwritten its environment (by setting its title, say) is what its parent is.
    """
    token = f"{TOKEN}={state_dir}:".encode()
    while pid > 1 and (fields := _stat(pid)) is not None:
        words = _environment(pid)
        if any(word.startswith(token) for word in words):
            return True
        if FREE in words:
            return False
        pid = int(fields[1])
    return False


def _carries(pid: int, mark: bytes) -> bool:
    return mark in _environment(pid)


def _environment(pid: int) -> list[bytes]:
    try:
        with open(f"/proc/{pid}/environ", "rb") as file:
            return file.read().split(b"\0")
    except OSError:
        return []  # another user's, or gone meanwhile: not ours


def send(pids: list[int], number: int) -> None:
    """Signal these processes; those that are gone meanwhile do not matter."""
    for pid in pids:
        try:
            os.kill(pid, number)
        except (ProcessLookupError, PermissionError):
            continue


def _stat(pid: int) -> list[str] | None:
    """Fields of /proc/<pid>/stat after the command's name: state first, session 4th, start time 20th."""
    try:
        with open(f"/proc/{pid}/stat", errors="replace") as file:
            return file.read().rpartition(")")[2].split()
    except OSError:
        return None
