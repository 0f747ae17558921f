"""The parent of one attempt's command: claims the attempt, starts it, waits, and leaves the outcome on disk.

Run as a script by `local`, in a session of its own, with the job's environment: `python -I -S runner.py FOLDER`.
Standard library only, so that it starts in a few milliseconds and stays small beside a training.

    spec.json     read: command, cwd, grace_s
    pid.json      made by hard link, which succeeds once: who makes it may run the command, who comes later leaves
    output.log    the command's stdout and stderr, written by the command itself
    stop.json     left by `local` before it sends TERM: why, and when
    outcome.json  exit code, how it ended, running time; written aside and renamed, so it is whole or absent
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

TOKEN = "METTA_ATTEMPT_TOKEN"
FREE = b"METTA_ATTEMPT_NONE=1"  # a daemon that a job has started belongs to no attempt, nor do its jobs
LINUX = sys.platform == "linux"
LEFTOVER_GRACE_S = 5.0
_OUTLIVED = (
    signal.SIGTERM,
    signal.SIGINT,
    signal.SIGHUP,
    signal.SIGQUIT,
    signal.SIGUSR1,
    signal.SIGUSR2,
    signal.SIGALRM,
)


def boot_id() -> str:
    """A name of this boot of the machine; process ids mean nothing in another."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
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


def members(pid: int, start: str | None, token: str) -> list[int]:
    """The live processes of an attempt whose runner is, or was, `pid` with start mark `start` (-1: not known).

    They are the runner's session, its descendants (orphans become its children), and whatever carries the token. Where
    the kernel has given the runner's id to somebody else, session and descendants are somebody else's, too.
    """
    if not LINUX:
        done = subprocess.run(["ps", "-axo", "pid=,pgid=,stat="], capture_output=True, text=True, check=False)
        rows = [line.split() for line in done.stdout.splitlines()]
        return [int(row[0]) for row in rows if int(row[1]) == pid and not row[2].startswith("Z")]
    mark = f"{TOKEN}={token}".encode()
    processes = {int(e.name): f for e in os.scandir("/proc") if e.name.isdigit() and (f := _stat(int(e.name)))}
    ours = pid in processes and processes[pid][19] == start
    family = pid > 0 and (ours or pid not in processes)
    born = int(start) if start and start.isdigit() else 0
    found = {
        other
        for other, fields in processes.items()
        if (family and int(fields[3]) == pid and int(fields[19]) >= born) or _carries(other, mark)
    }
    if ours:
        found.add(pid)
        free: set[int] = set()
        while grown := {child for child, fields in processes.items() if int(fields[1]) in found} - found - free:
            free |= {child for child in grown if _carries(child, FREE)}
            found |= grown - free
    return sorted(process for process in found if processes[process][0] not in "ZX")


def _carries(pid: int, mark: bytes) -> bool:
    try:
        return mark in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:
        return False  # another user's, or gone meanwhile: not ours


def send(pids: list[int], number: int) -> None:
    """Signal these processes; those that are gone meanwhile do not matter."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, number)


def write_record(path: Path, record: dict[str, Any]) -> None:
    """Write JSON aside, force it to disk, and rename it into place."""
    aside = path.with_name(f"{path.name}.{os.getpid()}")
    with aside.open("w") as file:
        json.dump(record, file)
        file.flush()
        os.fsync(file.fileno())
    aside.rename(path)
    _sync(path.parent)


def _sync(folder: Path) -> None:
    """Force a new name in a folder to disk: evidence must survive a power cut."""
    fd = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def claim(folder: Path, record: dict[str, Any]) -> bool:
    """Make pid.json if nobody has; False when somebody was first."""
    aside = folder / f"pid.json.{os.getpid()}"
    with aside.open("w") as file:
        json.dump(record, file)
        file.flush()
        os.fsync(file.fileno())
    try:
        os.link(aside, folder / "pid.json")
    except FileExistsError:
        return False
    finally:
        aside.unlink()
    _sync(folder)
    return True


def _stat(pid: int) -> list[str] | None:
    """Fields of /proc/<pid>/stat after the command's name: state first, session 4th, start time 20th."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
    except OSError:
        return None


def _start(spec: dict[str, Any], folder: Path) -> subprocess.Popen[bytes]:
    environment = dict(os.environ)
    with (folder / "output.log").open("ab") as log:
        return subprocess.Popen(
            spec["command"],
            cwd=spec["cwd"],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            process_group=0,  # a script that signals its own group must not reach us
        )


def _wait_for(pid: int) -> int:
    """Reap children, adopted ones too, until `pid` has ended; return its exit code, negative for a signal."""
    while True:
        ended, status = os.waitpid(-1, 0)
        if ended == pid:
            return os.waitstatus_to_exitcode(status)


def _end_leftovers(start: str | None, token: str, grace_s: float) -> int:
    """End what the command left running, or it would hold the GPU that the next job is given; return how many."""
    me = os.getpid()
    found = [pid for pid in members(me, start, token) if pid != me]
    count, deadline = len(found), time.monotonic() + grace_s
    send(found, signal.SIGTERM)
    while found:
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        found = [pid for pid in members(me, start, token) if pid != me]
        if time.monotonic() > deadline:
            send(found, signal.SIGKILL)
        time.sleep(0.02)
    return count


def main(folder: Path) -> int:
    """Run the attempt in `folder`; return 0 when there is an outcome record, whoever wrote it."""
    for number in _OUTLIVED:
        signal.signal(number, lambda *_: None)  # a handler, unlike SIG_IGN, is not inherited by the command
    if LINUX:
        ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)  # PR_SET_CHILD_SUBREAPER: orphans of the command become ours
    spec = json.loads((folder / "spec.json").read_text())
    token = os.environ.get(TOKEN, "")
    me = os.getpid()
    start = start_mark(me)
    started = time.monotonic()
    record = {"pid": me, "start": start, "boot": boot_id(), "monotonic": started, "at": time.time()}
    if not _until_there_is_room(folder, lambda: claim(folder, record)):
        return 0
    outcome: dict[str, Any] = {"error": None, "leftovers": 0}
    try:
        process = _start(spec, folder)
    except FileNotFoundError as error:
        missing_cwd = spec["cwd"] is not None and not Path(spec["cwd"]).is_dir()
        what = f"the folder {spec['cwd']} does not exist" if missing_cwd else _missing(str(error.filename))
        outcome |= {"exit_code": 127, "error": what}
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else error
        outcome |= {"exit_code": 126, "error": f"{spec['command'][0]} cannot be started: {why}"}
    else:
        outcome["exit_code"] = _wait_for(process.pid)
        process.returncode = outcome["exit_code"]
    ended = time.monotonic()
    outcome |= {"monotonic": ended, "running_s": ended - started, "at": time.time()}
    if outcome["error"] is None:
        outcome["leftovers"] = _end_leftovers(start, token, LEFTOVER_GRACE_S)

    def leave_outcome() -> bool:
        write_record(folder / "outcome.json", outcome)
        return True

    return 0 if _until_there_is_room(folder, leave_outcome) else 1


def _until_there_is_room(folder: Path, write: Callable[[], bool]) -> bool:
    """Write what must not be lost: while the disk is full, wait; return False when the folder is gone."""
    while True:
        try:
            return write()
        except OSError:
            if not folder.is_dir():
                return False
            time.sleep(1)


def _missing(program: str) -> str:
    if Path(program).exists():
        return f"the interpreter that {program} names in its first line does not exist"
    return f"the command {program} does not exist"


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
