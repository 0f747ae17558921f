"""The courier: carries the messages of hooks to whom they are for, beside the daemon's rounds and never in their way.

Each try has a thread of its own, which touches neither the database nor the house; what it leaves is recorded by the
daemon's own thread. One message at a time goes to each receiver, in order, so that a slow one holds up no other. A
daemon that is killed leaves its messages waiting, and the next one finds them: they come at least once.
"""

from __future__ import annotations

import json
import logging
import socket
import sqlite3
import threading
import time
import traceback
from contextlib import suppress
from dataclasses import dataclass, field, replace
from queue import Empty, SimpleQueue

from pydantic import ValidationError

from metta_jobs.clock import Clock
from metta_jobs.daemon import deliver
from metta_jobs.daemon.deliver import Means, Undelivered
from metta_jobs.daemon.secrets import Secrets
from metta_jobs.errors import MettaError
from metta_jobs.policy import Hook
from metta_jobs.store import outbox, queue
from metta_jobs.store.engine import Store
from metta_jobs.store.outbox import Delivery, Tried
from metta_jobs.store.words import DeliveryState

log = logging.getLogger("metta_jobs.daemon")

#: At most so many tries at a time.
THREADS = 8
#: A try that has not come back by then is counted as failed (seconds); its thread is forgotten.
OVERDUE_S = 90.0
#: Pause after something that should never happen (seconds).
_TROUBLE_S = 30.0
#: So long an ending daemon waits for the tries under way (seconds).
_LAST_WAIT_S = 2.0


@dataclass(eq=False)
class _Errand:
    """A try under way."""

    delivery: Delivery
    address: str | None
    overdue_at: float
    thread: threading.Thread = field(init=False)


class Courier:
    """Delivers what waits in the outbox. All methods belong to the daemon's thread."""

    def __init__(self, means: Means, secrets: Secrets) -> None:
        self._means = means
        self._secrets = secrets
        self._errands: dict[str, _Errand] = {}  # by hook
        self._back: SimpleQueue[tuple[_Errand, Tried]] = SimpleQueue()
        self._tried: dict[str, Tried] = {}  # by hook; kept until they are recorded
        self._waiting = 0
        self._seen: tuple[int, int] | None = None
        self._rests_until = 0.0
        self._bell, self._ringer = socket.socketpair()
        self._bell.setblocking(False)
        self._ringer.setblocking(False)

    def fileno(self) -> int:
        """To wait on: readable when a try has ended."""
        return self._bell.fileno()

    @property
    def busy(self) -> bool:
        """True while messages wait: a daemon that ended itself now would leave them undelivered."""
        return bool(self._waiting or self._errands)

    def tend(self, store: Store, clock: Clock) -> bool:
        """Record tries that have ended and begin those that are due; True when something was recorded.

        Once a round; next to nothing while nothing waits and nothing stored has changed. Raises StoreError; a defect
        is logged and holds up the messages, not the daemon.
        """
        with suppress(BlockingIOError):
            while self._bell.recv(4096):
                pass
        if clock.monotonic() < self._rests_until:
            return False
        try:
            self._collect(clock)
            recorded = self._record(store, clock)
            version = store.version()
            if self.busy or version != self._seen:
                self._begin(store, clock)
                self._seen = version
            return recorded
        except MettaError:
            raise
        except Exception:
            log.exception("hooks cannot be tended now (next try in %.0f s)", _TROUBLE_S)
            self._rests_until = clock.monotonic() + _TROUBLE_S
            return False

    def close(self, store: Store, clock: Clock) -> None:
        """End what is under way, after a moment's patience; what was not delivered waits for the next daemon."""
        self._join(_LAST_WAIT_S)
        self._collect(clock)
        self._means.stopping.set()
        self._join(_LAST_WAIT_S)  # what they say now is that they were ended
        try:
            self._record(store, clock)
        except MettaError as error:
            log.error("what hooks have delivered last is not recorded, and comes again: %s", error)
        self._bell.close()
        self._ringer.close()

    def _join(self, patience_s: float) -> None:
        until = time.monotonic() + patience_s
        for errand in self._errands.values():
            errand.thread.join(max(0.0, until - time.monotonic()))

    # ------------------------------------------------------------------------------------------------ recording

    def _collect(self, clock: Clock) -> None:
        with suppress(Empty):
            while True:
                errand, tried = self._back.get_nowait()
                if self._errands.get(errand.delivery.hook) is errand:
                    self._tried[errand.delivery.hook] = tried
        for hook, errand in self._errands.items():
            if hook not in self._tried and clock.monotonic() > errand.overdue_at:
                self._tried[hook] = Tried(errand.delivery.delivery_id, f"did not come back within {OVERDUE_S:.0f} s")

    def _record(self, store: Store, clock: Clock) -> bool:
        if not self._tried:
            return False
        with store.write() as connection:
            states = outbox.record(connection, clock.now(), list(self._tried.values()))
        for hook, tried in self._tried.items():
            state = states.get(tried.delivery_id)
            if state is DeliveryState.DELIVERED:
                log.info("%s was told (message %d)", outbox.describe(hook), tried.delivery_id)
            elif state is not None:
                what = "given up" if state is DeliveryState.GIVEN_UP else "tried again later"
                log.warning("%s: %s (message %d, %s)", outbox.describe(hook), tried.error, tried.delivery_id, what)
            self._errands.pop(hook, None)
        self._tried.clear()
        return True

    # ------------------------------------------------------------------------------------------------ beginning

    def _begin(self, store: Store, clock: Clock) -> None:
        with store.read() as connection:
            self._waiting = outbox.count_waiting(connection)
            if not self._waiting:
                return
            due = [
                (delivery, self._submitted_address(connection, delivery))
                for delivery in outbox.waiting(connection, clock.now(), 2 * THREADS)
                if delivery.hook not in self._errands
            ]
        for delivery, address in due[: THREADS - len(self._errands)]:
            errand = _Errand(delivery, address, clock.monotonic() + OVERDUE_S)
            errand.thread = threading.Thread(target=self._carry, args=(errand,), name="hook", daemon=True)
            try:
                errand.thread.start()
            except RuntimeError as error:  # the machine has no thread to spare, which is no fault of the message's
                log.warning("%s cannot be told now: %s", outbox.describe(delivery.hook), error)
                return
            self._errands[delivery.hook] = errand

    def _submitted_address(self, connection: sqlite3.Connection, delivery: Delivery) -> str | None:
        """What the name of a webhook meant in the shell that submitted."""
        name = json.loads(delivery.hook).get("webhook")
        if name is None or not delivery.environment:
            return None
        known = self._secrets.of(delivery.environment, [name])
        return known.get(name) or queue.variables(connection, delivery.environment).get(name)

    def _carry(self, errand: _Errand) -> None:
        """In a thread of its own."""
        delivery, means = errand.delivery, self._means
        tried = Tried(delivery.delivery_id)
        try:
            deliver.deliver(Hook.model_validate_json(delivery.hook), delivery.facts, errand.address, means)
        except Undelivered as failure:
            tried = replace(tried, error=str(failure), wait_s=failure.wait_s)
        except MettaError as failure:
            tried = replace(tried, error=str(failure))
        except ValidationError:
            tried = replace(tried, error="this version of metta-jobs cannot read the hook", final=True)
        except Exception as defect:  # noqa: BLE001
            # Without its message, which may hold an address.
            where = "".join(traceback.format_tb(defect.__traceback__))
            log.error("a hook could not be tried: %s\n%s", type(defect).__name__, where)
            tried = replace(tried, error=f"could not be tried ({type(defect).__name__}; see daemon.log)")
        self._back.put((errand, tried))
        with suppress(OSError):  # the daemon ends, or is rung for already
            self._ringer.send(b"\0")
