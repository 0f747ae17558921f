"""Logs of managed jobs brought home: the tail of what runs, now and then; all of what has ended, for its evidence."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from pathlib import Path

from metta_jobs.executors.base import Key
from metta_jobs.executors.sky import statuses
from metta_jobs.executors.sky.attempt import Attempt
from metta_jobs.executors.sky.client import Answer
from metta_jobs.executors.sky.outcome import read_outcome, unpack_files, without_marks

log = logging.getLogger("metta_jobs.daemon")

#: The tail of one running job is fetched this often (seconds), and so long it is.
TAIL_S, TAIL_LINES = 15.0, 200
#: The whole log of one that has ended is tried so often, with these pauses (seconds); so many are under way at once.
TRIES, PAUSE_S, AT_ONCE = 6, 10.0, 4


class Logs:
    """`ask` sends a question of the seam and `folder` is an attempt's."""

    def __init__(self, ask: Callable[..., None], folder: Callable[[Key], Path]) -> None:
        self._ask = ask
        self._folder = folder
        self._under_way = 0
        self._tail_due = 0.0
        self._tailed: Key | None = None
        self._tailing = False

    def ask_what_is_due(self, attempts: Sequence[Attempt], now: float, *, quiet: bool) -> None:
        """Ask for the logs of attempts that have ended, and for the tail of one that runs; for that not while quiet."""
        for attempt in attempts:
            if attempt.collects and not attempt.log_asked and now >= attempt.log_due and self._under_way < AT_ONCE:
                attempt.log_asked = True
                self._send(attempt, None)
        if quiet or self._tailing or now < self._tail_due or self._under_way >= AT_ONCE:
            return
        running = sorted((a for a in attempts if a.seen and a.seen.status in statuses.RUNNING), key=lambda a: a.key)
        if running:
            self._tail_due = now + TAIL_S
            chosen = next((a for a in running if self._tailed is None or a.key > self._tailed), running[0])
            self._tailed, self._tailing = chosen.key, True
            self._send(chosen, TAIL_LINES)

    def forget(self) -> None:
        """No answer is waited for any more."""
        self._under_way, self._tailing = 0, False

    def _send(self, attempt: Attempt, tail: int | None) -> None:
        self._under_way += 1
        path = self._folder(attempt.key) / (".log" if tail is None else ".tail")
        what = ("log" if tail is None else "tail", attempt.key)
        self._ask(what, "log", job_id=attempt.ledger.managed_id, path=str(path), tail=tail)

    def take(self, attempt: Attempt | None, answer: Answer, now: float, *, whole: bool) -> None:
        """Keep what has come; of an attempt that has ended, find out how."""
        self._under_way -= 1
        self._tailing = self._tailing and whole
        if attempt is None or (not whole and (answer.value is None or attempt.collects)):
            return
        text = None if answer.value is None else self._keep(attempt, whole=whole)
        if not whole:
            return
        attempt.log_asked = False
        attempt.log_due = now + PAUSE_S
        if answer.kind in ("unreachable", "missing"):
            return  # nobody was asked: that says nothing of the log
        attempt.log_tries += 1
        outcome = None if text is None else read_outcome(text, attempt.ledger.token)
        if outcome is None and attempt.log_tries < TRIES:
            return  # a log may come whole a little later than the end
        if text is not None:
            try:
                unpack_files(text, attempt.ledger.token, self._folder(attempt.key))
            except OSError as error:
                log.warning("job %d.%d: the files in its log cannot be kept (%s)", *attempt.key, error)
        attempt.collected(outcome)

    def _keep(self, attempt: Attempt, *, whole: bool) -> str | None:
        """Make the fetched log the attempt's output.log; return it as it came, None where that cannot be done."""
        folder = self._folder(attempt.key)
        path, aside = folder / (".log" if whole else ".tail"), folder / ".output"
        if not path.exists():  # SkyPilot has no log of it (yet)
            return None
        try:
            text = path.read_text(errors="replace")
            aside.write_text(without_marks(text, attempt.ledger.token))
            aside.rename(folder / "output.log")
            path.unlink()
        except OSError as error:
            log.warning("job %d.%d: its log cannot be kept (%s)", *attempt.key, error)
            return None
        return text
