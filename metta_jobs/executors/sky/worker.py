"""SkyPilot's SDK in a process of its own: JSON lines in on stdin, JSON lines out on stdout.

Run as a script, `python -I -X utf8 worker.py PARENT_PID`, by whichever interpreter has `sky` (3.9 or newer): only the
standard library and sky are imported. `import sky` takes 4-6 s and leaves 175 MB.

In:   {"ticket": 7, "do": "launch" | "requests" | "launches" | "queue" | "cancel" | "log" | "follow" | "check" |
      "price", ...}
Out:  {"ready": "0.14.1"} when sky is imported, {"failed": why} when it cannot be
      {"began": 7} before anything is done for a ticket
      {"ticket": 7, "value": {...}}   {"ticket": 7, "error": why, "kind": kind}

It ends when stdin closes or its parent dies. It never starts an API server (SKYPILOT_DISABLE_LOCAL_API_SERVER), and
asks `/api/health` before each request, since the SDK itself would try a server that answers 503 for ten minutes.
"""

from __future__ import annotations

import contextvars
import ctypes
import json
import os
import queue
import signal
import sys
import threading
import traceback
from typing import Any

if __package__:
    from metta_jobs.executors.sky.sdk.asking import Sky
    from metta_jobs.executors.sky.sdk.failing import Failed, kind_of, words_of
else:  # as a script, isolated from whatever Python settings there are
    sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "sdk"))
    from asking import Sky  # type: ignore[import-not-found, no-redef]
    from failing import Failed, kind_of, words_of  # type: ignore[import-not-found, no-redef]

Fields = dict[str, Any]

#: Threads by what is asked: polls, launches, cancels and logs never wait for each other.
_THREADS = {
    "launch": 4,
    "cancel": 1,
    "queue": 1,
    "requests": 1,
    "launches": 1,
    "log": 2,
    "follow": 1,
    "check": 1,
    "price": 1,
}


class Voice:
    """What we say: one JSON line after the other, from all threads. It may be that nobody listens any more."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._lock = threading.Lock()

    def say(self, line: Fields) -> None:
        """Say a line, whole. Ends the process when nobody listens."""
        data = (json.dumps(line) + "\n").encode()
        with self._lock:
            while data:
                try:
                    data = data[os.write(self._fd, data) :]
                except BrokenPipeError:
                    os._exit(0)


def answer(sky: Sky, asked: Fields, voice: Voice) -> None:
    """Do what is asked and say what came of it, whatever is raised."""
    ticket = asked["ticket"]
    voice.say({"began": ticket})
    try:
        if asked["do"] not in ("check", "price"):
            sky.healthy()
        value = getattr(sky, asked["do"])(asked)
        voice.say({"ticket": ticket, "value": plain_answer(value)})
    except BaseException as error:  # noqa: BLE001 - it becomes the answer
        print(hide(traceback.format_exc(), asked), file=sys.stderr, flush=True)
        voice.say({"ticket": ticket, "error": hide(words_of(error), asked), "kind": kind_of(error, acting=False)})


def hide(text: str, asked: Fields) -> str:
    """The text without the secrets of the request: SkyPilot may quote the task that it does not like."""
    task = asked.get("task")
    secrets = task.get("secrets") if isinstance(task, dict) else None
    for secret in secrets.values() if isinstance(secrets, dict) else ():
        if secret:
            text = text.replace(str(secret), "***")
    return text


def plain_answer(value: Fields) -> Fields:
    """The value if JSON can hold it. Raises Failed where it cannot."""
    try:
        json.dumps(value)
    except (TypeError, ValueError) as error:
        raise Failed("error", f"the answer cannot be written as JSON: {error}") from error
    return value


def listen(fd: int, lanes: dict[str, queue.SimpleQueue[Fields]], voice: Voice) -> None:
    """Read requests and hand them to their lanes, until nobody asks any more: then all ends at once."""
    with os.fdopen(fd, "rb") as lines:
        for line in lines:
            ticket = None
            try:
                asked = json.loads(line)
                ticket = asked["ticket"]
                lanes[asked["do"]].put(asked)
            except (ValueError, KeyError, TypeError) as error:
                print(f"A line that cannot be understood: {error!r}", file=sys.stderr)
                if isinstance(ticket, int):
                    voice.say({"ticket": ticket, "error": f"it cannot be understood: {error!r}", "kind": "error"})
    os._exit(0)


def work(sky: Sky, lane: queue.SimpleQueue[Fields], voice: Voice) -> None:
    """Answer what comes in a lane. Each request has a context of its own: SkyPilot keeps in it what it knows."""
    while True:
        contextvars.Context().run(answer, sky, lane.get(), voice)


def end_with(parent: int) -> None:
    """Die when the parent dies (Linux; elsewhere the end of stdin tells us)."""
    if sys.platform == "linux":
        pr_set_pdeathsig = 1
        ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(0)


def main(parent: int) -> None:
    """Import sky, answer, and end with the parent."""
    end_with(parent)
    # What sky and its children print and read must not touch our pipes.
    voice, asked = Voice(os.dup(1)), os.dup(0)
    os.dup2(2, 1)
    with open(os.devnull, "rb") as nothing:
        os.dup2(nothing.fileno(), 0)
    os.environ.update(SKYPILOT_DISABLE_LOCAL_API_SERVER="1", NO_COLOR="1", TERM="dumb", PYTHONIOENCODING="utf-8")
    # A poll is nobody's use of SkyPilot, its report would be sent before each answer, and it knows no threads.
    os.environ.setdefault("SKYPILOT_DISABLE_USAGE_COLLECTION", "1")
    lanes: dict[str, queue.SimpleQueue[Fields]] = {do: queue.SimpleQueue() for do in _THREADS}
    threading.Thread(target=listen, args=(asked, lanes, voice), daemon=True).start()
    try:
        sky = Sky()
    except BaseException as error:  # noqa: BLE001 - whatever is wrong with this installation
        traceback.print_exc()
        voice.say({"failed": words_of(error)})
        os._exit(1)
    voice.say({"ready": str(sky.sky.__version__)})
    for do, count in _THREADS.items():
        for _ in range(count):
            threading.Thread(target=work, args=(sky, lanes[do], voice), daemon=True, name=do).start()
    threading.Event().wait()


if __name__ == "__main__":
    main(int(sys.argv[1]))
