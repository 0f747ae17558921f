"""The parent of one attempt's command: claims the attempt, starts it, waits, and leaves the outcome on disk.

Run as a script by `local`, in a session of its own: `python -S runner.py ATTEMPT_FOLDER`, with the job's environment.
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
from pathlib import Path
from typing import Any

TOKEN = "METTA_ATTEMPT_TOKEN"
LINUX = sys.platform == "linux"
LEFTOVER_GRACE_S = 5.0


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


def members(session: int, token: str) -> list[int]:
    """The live processes of an attempt: those of its session, and those that left it but carry its token."""
    if not LINUX:
        done = subprocess.run(["ps", "-axo", "pid=,sess=,pgid=,stat="], capture_output=True, text=True, check=False)
        rows = [line.split() for line in done.stdout.splitlines()]
        return [int(r[0]) for r in rows if int(r[2]) == session and not r[3].startswith("Z")]
    mark = f"{TOKEN}={token}".encode()
    found = []
    for entry in os.scandir("/proc"):
        if not entry.name.isdigit():
            continue
        pid = int(entry.name)
        fields = _stat(pid)
        if fields is None or fields[0] in "ZX":
            continue
        if int(fields[3]) == session:
            found.append(pid)
            continue
        try:
            if mark in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0"):
                found.append(pid)
        except OSError:
            continue  # another user's, or gone meanwhile: not ours
    return found


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
        )


def _wait_for(pid: int) -> int:
    """Reap children, adopted ones too, until `pid` has ended; return its exit code, negative for a signal."""
    while True:
        ended, status = os.waitpid(-1, 0)
        if ended == pid:
            return os.waitstatus_to_exitcode(status)


def _end_leftovers(session: int, token: str, grace_s: float) -> int:
    """End what the command left running, or it would hold the GPU that the next job is given; return how many."""
    found = [pid for pid in members(session, token) if pid != os.getpid()]
    count, deadline = len(found), time.monotonic() + grace_s
    send(found, signal.SIGTERM)
    while found:
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        found = [pid for pid in members(session, token) if pid != os.getpid()]
        if time.monotonic() > deadline:
            send(found, signal.SIGKILL)
        time.sleep(0.02)
    return count


def main(folder: Path) -> int:
    """Run the attempt in `folder`; return 0 when there is an outcome record, whoever wrote it."""
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda *_: None)  # we outlive the command; a handler, unlike SIG_IGN, is not inherited
    if LINUX:
        ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)  # PR_SET_CHILD_SUBREAPER: orphans of the command become ours
    spec = json.loads((folder / "spec.json").read_text())
    token = os.environ.get(TOKEN, "")
    me = os.getpid()
    started = time.monotonic()
    if not claim(
        folder,
        {
            "pid": me,
            "start": start_mark(me),
            "boot": boot_id(),
            "token": token,
            "monotonic": started,
            "at": time.time(),
        },
    ):
        return 0
    outcome: dict[str, Any] = {"error": None, "leftovers": 0}
    try:
        process = _start(spec, folder)
    except FileNotFoundError as error:
        missing_cwd = spec["cwd"] is not None and not Path(spec["cwd"]).is_dir()
        what = f"the folder {spec['cwd']}" if missing_cwd else f"the command {error.filename}"
        outcome |= {"exit_code": 127, "error": f"{what} does not exist"}
    except OSError as error:
        outcome |= {"exit_code": 126, "error": f"{spec['command'][0]} cannot be started: {error.strerror}"}
    else:
        outcome["exit_code"] = _wait_for(process.pid)
        process.returncode = outcome["exit_code"]
    ended = time.monotonic()
    outcome |= {"monotonic": ended, "running_s": ended - started, "at": time.time()}
    if outcome["error"] is None:
        outcome["leftovers"] = _end_leftovers(me, token, LEFTOVER_GRACE_S)
    while True:
        try:
            write_record(folder / "outcome.json", outcome)
            return 0
        except OSError:
            if not folder.is_dir():
                return 1  # nobody is left to read it
            time.sleep(1)  # a full disk: what we know must not be lost, so wait until there is room


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
