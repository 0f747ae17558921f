"""Reading the metrics of running jobs, in a thread beside the daemon's rounds, for a bounded share of a core.

The thread touches neither the database nor the house. Reading is paid for by rest: after so much time on the processor
it pauses for so long that its share is never above SHARE, however many jobs run and however long their logs are; with
more jobs each is looked at more rarely.
"""

from __future__ import annotations

import logging
import socket
import threading
import time
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from metta_jobs.executors.base import Key
from metta_jobs.metrics.progress import ProgressReader
from metta_jobs.views import Progress

log = logging.getLogger("metta_jobs.daemon")

#: At most this share of a core goes into reading.
SHARE = 0.005
#: No running job is looked at more often (seconds).
LOOK_S = 3.0
#: So much time on the processor (seconds) is spent at a stretch; a log that is read for longer is read to its end.
STRETCH_S = 0.005
#: No rest is longer (seconds): one huge log must not keep all others waiting.
LONGEST_REST_S = 20.0

Keys = tuple[str, ...]


@dataclass(frozen=True)
class Reading:
    """What was read of an attempt; after its end, when `final`. `error` says why it could not be read. `at` is on the
    daemon's monotonic clock."""

    key: Key
    progress: Progress
    final: bool
    at: float
    error: str | None = None


class Readings(Protocol):
    """Where the daemon gets metrics from. No call waits."""

    def follow(self, wanted: Mapping[Key, Keys], live: Collection[Key]) -> None:
        """Look at these attempts again and again, each for its metrics; forget the ends of those not `live`."""

    def finish(self, key: Key, metrics: Keys, *, urgent: bool) -> None:
        """Read an attempt that has ended once more; `urgent`: somebody waits for `final`."""

    def final(self, key: Key) -> Reading | None:
        """The urgent reading of an attempt that has ended, None while there is none."""

    def take(self) -> list[Reading]:
        """What was read since this was last asked."""

    @property
    def busy(self) -> bool:
        """True while attempts that have ended are still to be read."""

    def fileno(self) -> int:
        """To wait on: readable when an urgent reading is there."""

    def hear(self) -> None:
        """The bell was heard."""

    def close(self) -> None:
        """End the thread."""


class MetricsThread:
    """Readings by a thread that is started when there is something to read. `folder_of` finds an attempt's folder."""

    def __init__(self, folder_of: Callable[[Key], Path], share: float = SHARE) -> None:
        self._folder_of = folder_of
        self.share = share
        self._changed = threading.Condition()
        self._wanted: dict[Key, tuple[Keys, float]] = {}  # attempt → metrics, when next; the first is the next
        self._ended: dict[Key, Keys] = {}
        self._urgent: dict[Key, Keys] = {}
        self._found: dict[Key, Reading] = {}
        self._finals: dict[Key, Reading] = {}
        self._closed = False
        self._thread: threading.Thread | None = None
        self._readers: dict[Key, tuple[Keys, ProgressReader]] = {}  # the thread's own, as all below
        self._rests_until = 0.0
        self._bell, self._ringer = socket.socketpair()
        self._bell.setblocking(False)
        self._ringer.setblocking(False)

    # ------------------------------------------------------------------------------------------ the daemon's side

    def follow(self, wanted: Mapping[Key, Keys], live: Collection[Key]) -> None:
        with self._changed:
            for key in [key for key in self._finals if key not in live]:
                del self._finals[key]
            running = {key: wanted[key] for key in wanted if key not in self._urgent and key not in self._finals}
            kept = {key: (running[key], due) for key, (_, due) in self._wanted.items() if key in running}
            self._wanted = {**{key: (running[key], 0.0) for key in running if key not in kept}, **kept}
            if len(kept) < len(running):
                self._go()

    def finish(self, key: Key, metrics: Keys, *, urgent: bool) -> None:
        with self._changed:
            self._wanted.pop(key, None)
            self._finals.pop(key, None)
            (self._urgent if urgent else self._ended)[key] = metrics
            self._go()

    def final(self, key: Key) -> Reading | None:
        with self._changed:
            return self._finals.get(key)

    def take(self) -> list[Reading]:
        with self._changed:
            found, self._found = self._found, {}
        return list(found.values())

    @property
    def busy(self) -> bool:
        with self._changed:
            return bool(self._ended or self._urgent)

    def fileno(self) -> int:
        return self._bell.fileno()

    def hear(self) -> None:
        with suppress(BlockingIOError):
            while self._bell.recv(4096):
                pass

    def close(self) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify()
        if self._thread is not None:
            self._thread.join(2.0)
        self._bell.close()
        self._ringer.close()

    def _go(self) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="metrics", daemon=True)
            self._thread.start()
        self._changed.notify()

    # ------------------------------------------------------------------------------------------ the thread's side

    def _run(self) -> None:
        mark = time.thread_time()
        while (task := self._next()) is not None:
            key, metrics, final = task
            self._hand_over(self._read(key, metrics, final=final))
            if (spent_s := time.thread_time() - mark) >= STRETCH_S:
                rest_s = min(spent_s * (1 / self.share - 1), LONGEST_REST_S)
                self._forget()
                self._rests_until, mark = time.monotonic() + rest_s, time.thread_time()

    def _next(self) -> tuple[Key, Keys, bool] | None:
        """Wait for what is to be read next: attempt, metrics, whether it has ended. None: no more."""
        with self._changed:
            while not self._closed:
                now = time.monotonic()
                for key, metrics in self._urgent.items():
                    return key, metrics, True
                wait_s: float | None = None
                if self._ended or self._wanted:
                    first, (metrics, due) = next(iter(self._wanted.items()), ((0, 0), ((), 0.0)))
                    wait_s = max(self._rests_until, 0.0 if self._ended else due) - now
                    if wait_s <= 0:
                        for key, known in self._ended.items():
                            return key, known, True
                        del self._wanted[first]
                        self._wanted[first] = metrics, now + LOOK_S
                        return first, metrics, False
                self._changed.wait(wait_s)
        return None

    def _hand_over(self, reading: Reading) -> None:
        with self._changed:
            self._found[reading.key] = reading
            if not reading.final:
                return
            if self._urgent.pop(reading.key, None) is not None:
                self._finals[reading.key] = reading
                with suppress(OSError):  # it has rung already, or the daemon ends
                    self._ringer.send(b"\0")
            self._ended.pop(reading.key, None)

    def _forget(self) -> None:
        """Close what is followed no more."""
        with self._changed:
            for key in [key for key in self._readers if key not in self._wanted and key not in self._ended]:
                del self._readers[key]

    def _read(self, key: Key, metrics: Keys, *, final: bool) -> Reading:
        progress, error = Progress(), None
        try:
            folder = self._folder_of(key)
            known, reader = self._readers.get(key, (None, None))
            if reader is not None or folder.is_dir():  # a job that leaves nothing has none
                if reader is None or known != metrics:
                    reader = ProgressReader(folder, keys=metrics)
                    self._readers[key] = metrics, reader
                progress = reader.poll()
        except OSError as failure:
            error = f"{failure.filename or 'its metrics'} cannot be read: {failure.strerror or failure}"
        except Exception as defect:
            # One log that we do not understand must not end the reading of all others.
            log.exception("the metrics of job %d.%d cannot be read", *key)
            error = f"its metrics cannot be read ({type(defect).__name__}; see daemon.log)"
        return Reading(key, progress, final, time.monotonic(), error)
