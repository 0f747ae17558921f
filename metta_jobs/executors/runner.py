"""The parent of attempts' commands, one at a time: starts each, waits, leaves on disk how it ended, tells the daemon.

Run as a script by `local`, in a session of its own: `python -I -S -X utf8 runner.py LISTENING_FD JOURNAL`. It outlives
the daemon; the next one connects to the same socket and is told everything that is not recorded yet. Only the standard
library, so that it starts in a few milliseconds and stays small beside a training.

From the daemon, JSON lines, each with "seen", the keys of ends that are recorded:
    {"do": "run", "key", "command", "cwd", "env", "folder"}   {"do": "stop", "key", "cause", "force"}
    {"do": "drop", "key"}
To the daemon, beside the journal's lines "running", "ended", "dropped" as they are written:
    {"is": "here", "pid", "start", "boot", "queue", "current", "ended"}, first of all   {"is": "refused", "key", "why"}
"""

from __future__ import annotations

import ctypes
import json
import os
import select
import signal
import socket
import sys
import time

if __package__:
    from metta_jobs.executors import folders, journal, processes, spawn
else:  # as a script, isolated from whatever Python settings there are
    sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
    import folders  # type: ignore[import-not-found, no-redef]
    import journal  # type: ignore[import-not-found, no-redef]
    import processes  # type: ignore[import-not-found, no-redef]
    import spawn  # type: ignore[import-not-found, no-redef]

Line = dict[str, object]
LEFTOVER_GRACE_S = 5.0
LEFTOVER_LOOK_S = 0.02
#: Commands that end sooner are told of once, at their end.
RUNNING_AFTER_S = 0.005
#: A runner that no daemon has ever spoken to leaves after so long.
LONELY_S = 60.0
#: Evidence of what took longer is forced to disk.
WORTH_A_SYNC_S = 1.0
_OUTLIVED = (
    signal.SIGTERM,
    signal.SIGINT,
    signal.SIGHUP,
    signal.SIGQUIT,
    signal.SIGUSR1,
    signal.SIGUSR2,
    signal.SIGALRM,
    signal.SIGCHLD,
)


class Current:
    """The attempt that runs."""

    def __init__(self, spec: Line, pid: int, at: float) -> None:
        self.key = spec["key"]
        self.folder = str(spec["folder"])
        self.token = str(spec["env"].get(processes.TOKEN, ""))  # type: ignore[attr-defined]
        self.pid = pid
        self.at = at
        self.told = False
        self.stopping: Line | None = None
        self.ended: Line | None = None  # how the command ended, while what it left running is being ended
        self.leftovers_until = 0.0

    def process(self) -> Line:
        """Its first process, as it is found again when its id may have been given to another."""
        return {"pid": self.pid, "start": processes.start_mark(self.pid)}


class Runner:
    """Everything a runner knows."""

    def __init__(self, listener: socket.socket, path: str) -> None:
        me = os.getpid()
        self.listener = listener
        self.connection: socket.socket | None = None
        self.received = b""
        self.start = processes.start_mark(me)
        self.born: Line = {"is": "born", "pid": me, "start": self.start, "boot": processes.boot_id()}
        self.path = path
        self.folders = folders.Folders(path.replace(".journal", ".spare"))
        self.journal = journal.Journal(path, self.born)
        self.queue: list[Line] = []
        self.current: Current | None = None
        self.ended: dict[tuple[int, ...], Line] = {}  # not recorded by the daemon yet
        self.unwritten: list[Line] = []  # evidence for which there was no room
        self.leaving = False
        self.childless = True
        self.wakeup = _signals()
        self.poll = select.poll()
        self.poll.register(self.wakeup, select.POLLIN)
        self.poll.register(listener, select.POLLIN)

    def live(self) -> None:
        """Serve until the daemon is gone, or wants us gone, and nothing is left to do."""
        while not (self.leaving and self.current is None and not self.queue):
            ready = {fd for fd, _ in self.poll.poll(self._timeout_ms())}
            if not ready and self.connection is None and self.current is None:
                self.leaving = True  # who started us died over it
            if self.wakeup in ready:
                os.read(self.wakeup, 4096)
            self._reap()
            if self.listener.fileno() in ready:
                self._accept()
            if self.connection is not None:
                self._receive()
            self._look_at_current()
            self._keep_evidence()
            while self.current is None and self.queue:
                self._start(self.queue.pop(0))
            if self.current is None:
                os.chdir("/")  # stand in nobody's way
        while self.unwritten:
            time.sleep(1)
            self._keep_evidence()
        self.folders.leave()
        if self.ended:
            self.journal.sync()
        elif os.path.exists(self.path):
            os.unlink(self.path)

    # -------------------------------------------------------------------------------------------------- waiting

    def _timeout_ms(self) -> float | None:
        if self.current is not None and self.current.ended is not None:
            return 1000 * LEFTOVER_LOOK_S
        if self.current is not None and not self.current.told:
            return 1000 * max(0.0, self.current.at + RUNNING_AFTER_S - time.monotonic()) + 1
        if self.unwritten:
            return 1000.0
        return 1000 * LONELY_S if self.connection is None and self.current is None else None

    def _reap(self) -> None:
        """Take note of children that have ended, adopted ones too."""
        try:
            while (ended := os.waitpid(-1, os.WNOHANG))[0]:
                if self.current is not None and self.current.pid == ended[0] and self.current.ended is None:
                    self._command_ended(self.current, os.waitstatus_to_exitcode(ended[1]))
            self.childless = False
        except ChildProcessError:
            self.childless = True

    # -------------------------------------------------------------------------------------------------- the daemon

    def _accept(self) -> None:
        try:
            newcomer, _ = self.listener.accept()
        except BlockingIOError:
            return
        self._receive()  # what the last daemon has sent comes first
        self._hang_up()
        newcomer.setblocking(False)
        self.connection, self.leaving = newcomer, False
        self.poll.register(newcomer, select.POLLIN)
        now = self.current
        self._tell(
            {
                **self.born,
                "is": "here",
                "queue": [spec["key"] for spec in self.queue],
                "current": now and {"key": now.key, "at": now.at, "stopping": now.stopping, **now.process()},
                "ended": list(self.ended.values()),
            }
        )

    def _hang_up(self) -> None:
        if self.connection is not None:
            self.poll.unregister(self.connection)
            self.connection.close()
        self.connection, self.received, self.leaving = None, b"", True

    def _receive(self) -> None:
        while self.connection is not None:
            try:
                data = self.connection.recv(1 << 18)
            except BlockingIOError:
                return
            except OSError:
                data = b""
            if not data:
                self._hang_up()  # half a line, cut off by the daemon's end, is none
                return
            *lines, self.received = (self.received + data).split(b"\n")
            for text in lines:
                self._obey(json.loads(text))

    def _obey(self, order: Line) -> None:
        what = order["do"]
        for key in order.get("seen", ()):  # type: ignore[attr-defined]
            self.ended.pop(tuple(key), None)
        if what == "run":
            self.queue.append(order)
        elif what == "stop" and self.current is not None and self.current.key == order["key"]:
            self._stop(self.current, order)
        elif what == "drop":
            kept = [spec for spec in self.queue if spec["key"] != order["key"]]
            self._tell({"is": "dropped", "key": order["key"], "dropped": len(kept) < len(self.queue)})
            self.queue = kept

    def _tell(self, line: Line) -> None:
        if self.connection is None:
            return
        try:
            self.connection.sendall(json.dumps(line).encode() + b"\n")
        except OSError:
            self._hang_up()  # it will ask again

    # -------------------------------------------------------------------------------------------------- attempts

    def _start(self, spec: Line) -> None:
        if self.journal.crowded():
            self.journal.renew(list(self.ended.values()))
        at = time.monotonic()
        try:
            self.journal.write({"is": "taken", "key": spec["key"], "at": at})
        except OSError as error:
            self._tell({"is": "refused", "key": spec["key"], "why": f"{error.strerror}"})
            return
        try:
            pid = spawn.spawn(spec, self.folders)
        except spawn.Unready as why:
            self._write_soon({"is": "dropped", "key": spec["key"]})
            self._tell({"is": "refused", "key": spec["key"], "why": str(why)})
            return
        except (OSError, ValueError) as error:
            code, reason = spawn.explain(spec, error)
            self._end({"is": "ended", "key": spec["key"], "code": code, "error": reason, "ran": 0.0, "at": at})
            return
        self.current = Current(spec, pid, at)

    def _look_at_current(self) -> None:
        now = self.current
        if now is None:
            return
        if now.ended is not None:
            if not self.childless and self._leftovers(now):
                return
            self._end(now.ended)
            self.current = None
        elif not now.told and time.monotonic() - now.at >= RUNNING_AFTER_S:
            now.told = True
            running: Line = {"is": "running", "key": now.key, **now.process()}
            self._write_soon(running)
            self._tell({**running, "at": now.at})

    def _command_ended(self, now: Current, code: int) -> None:
        at = time.monotonic()
        now.leftovers_until = at + LEFTOVER_GRACE_S
        now.ended = {"is": "ended", "key": now.key, "code": code, "error": None, "ran": at - now.at, "at": at}
        # It ended by itself when it was over before we asked.
        now.ended["stopped"] = now.stopping and now.stopping["cause"]

    def _leftovers(self, now: Current) -> bool:
        """End what the command left running, or it would hold the GPU that the next is given; True if some lives."""
        me = os.getpid()
        found = [pid for pid in processes.members(me, self.start, now.token) if pid != me]
        if not found:
            return False
        overdue = time.monotonic() > now.leftovers_until or (now.stopping is not None and bool(now.stopping["forced"]))
        first = not now.ended.get("leftovers") if now.ended else False
        if now.ended is not None:
            now.ended.setdefault("leftovers", len(found))
        if first or overdue:
            processes.send(found, signal.SIGKILL if overdue else signal.SIGTERM)
        return True

    def _stop(self, now: Current, order: Line) -> None:
        self._reap()  # what is over already has ended by itself
        force = bool(order["force"])
        if now.stopping is None and now.ended is None:
            now.stopping = {"is": "stopping", "key": now.key, "cause": order["cause"], "at": time.monotonic()}
            now.stopping["forced"] = force
            self._write_soon(now.stopping)
        elif now.stopping is not None and force and not now.stopping["forced"]:
            now.stopping["forced"] = True
            self._write_soon(now.stopping)
        me = os.getpid()
        found = [pid for pid in processes.members(me, self.start, now.token) if pid != me]
        processes.send(found, signal.SIGKILL if force else signal.SIGTERM)

    # -------------------------------------------------------------------------------------------------- evidence

    def _end(self, line: Line) -> None:
        self.ended[tuple(line["key"])] = line  # type: ignore[arg-type]
        self._write_soon(line)
        if float(line["ran"]) >= WORTH_A_SYNC_S and not self.unwritten:  # type: ignore[arg-type]
            self.journal.sync()
        if self.current is not None:
            self.folders.close(self.current.folder, alone=self.childless)
        self._tell(line)

    def _write_soon(self, line: Line) -> None:
        """Write, or keep until there is room again."""
        self.unwritten.append(line)
        self._keep_evidence()

    def _keep_evidence(self) -> None:
        while self.unwritten:
            try:
                self.journal.write(self.unwritten[0])
            except OSError:
                return
            self.unwritten.pop(0)


def _signals() -> int:
    """Outlive what ends others, and make the ends of children readable."""
    reader, writer = os.pipe()
    os.set_blocking(reader, False)
    os.set_blocking(writer, False)
    for number in _OUTLIVED:
        signal.signal(number, lambda *_: None)  # a handler, unlike SIG_IGN, is not inherited by the command
    signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    return reader


def main(listening_fd: int, path: str) -> None:
    """Be a runner."""
    if processes.LINUX:
        ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)  # PR_SET_CHILD_SUBREAPER: orphans of the command become ours
    os.set_inheritable(listening_fd, False)  # or the command would keep it open when we are gone
    listener = socket.socket(fileno=listening_fd)
    listener.setblocking(False)
    Runner(listener, path).live()


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2])
