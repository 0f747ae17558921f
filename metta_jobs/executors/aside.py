"""Asking what may never answer: a driver that hangs must not hang the daemon."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class Hangs(Exception):
    """No answer came in time; the message says for how long it was waited."""


class _Question(Generic[T]):
    def __init__(self, ask: Callable[[], T]) -> None:
        self._ask = ask
        self.answered = threading.Event()
        self.answer: T | None = None
        self.error: BaseException | None = None

    def put(self) -> None:
        try:
            self.answer = self._ask()
        except BaseException as error:  # noqa: BLE001 - raised again where the question came from
            self.error = error
        self.answered.set()


class Aside:
    """A thread on which calls are made that may hang; it ends after `rest_s` seconds without any, by `at_rest`.

    A call that hangs is never made beside itself: until it has returned, every other one fails at once.
    """

    def __init__(self, rest_s: float = 0.0, at_rest: Callable[[], object] = lambda: None) -> None:
        self._rest_s = rest_s
        self._at_rest = at_rest
        self._questions: queue.SimpleQueue[_Question[object]] = queue.SimpleQueue()
        self._last: _Question[object] | None = None
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    def ask(self, call: Callable[[], T], patience_s: float) -> T:
        """Return what `call()` returns, or raise what it raises. Raises Hangs when that takes too long."""
        if self._last is not None and not self._last.answered.is_set():
            raise Hangs("an earlier question has not been answered yet")
        question = _Question(call)
        self._last = question  # type: ignore[assignment]
        with self._lock:
            self._questions.put(question)  # type: ignore[arg-type]
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, daemon=True, name="aside")
                self._thread.start()
        if not question.answered.wait(patience_s):
            raise Hangs(f"no answer in {patience_s:g} s")
        if question.error is not None:
            raise question.error
        return question.answer  # type: ignore[return-value]

    def _work(self) -> None:
        while True:
            try:
                self._questions.get(timeout=self._rest_s).put()
            except queue.Empty:
                self._at_rest()
                with self._lock:
                    if self._questions.empty():
                        self._thread = None
                        return
