"""Which GPUs programs of others fill."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path

from metta_jobs.clock import Clock
from metta_jobs.executors import amd
from metta_jobs.executors.aside import Aside, Hangs
from metta_jobs.executors.load import Filled, filled
from metta_jobs.executors.nvidia import Nvml, Unanswered
from metta_jobs.settings import Settings

log = logging.getLogger("metta_jobs.daemon")

LOOK_S = 2.0
"""So often they are looked at, at most."""
PATIENCE_S = 5.0
REST_S = 60.0
"""The driver is let go when nobody has asked for so long."""
_MIB = 2**20


class Neighbours:
    """Which GPUs are not to be given out, and why: cheap to ask at every round of the daemon.

    `ours` tells whether a process belongs to a job of this queue. A driver that fails or hangs makes no GPU busy; the
    log says it once, until it answers again.
    """

    def __init__(
        self,
        settings: Settings,
        clock: Clock,
        ours: Callable[[int], bool],
        *,
        sys: Path = Path("/sys"),
        patience_s: float = PATIENCE_S,
    ) -> None:
        self._limit = settings.gpu_busy_mb * _MIB
        self._clock = clock
        self._ours = ours
        self._sys = sys
        self._patience_s = patience_s
        self._nvml = Nvml()
        self._aside = Aside(REST_S, self._nvml.close)
        self._looked_at = -math.inf
        self._filled: dict[str, Filled] = {}
        self._trouble = False

    def __call__(self, gpus: Sequence[str], held: Collection[str]) -> Mapping[str, str]:
        """GPU → why it is not to be given out. `held` are those that attempts of this queue have been given."""
        if self._limit <= 0 or not gpus:
            return {}
        now = self._clock.monotonic()
        if now - self._looked_at >= LOOK_S:
            self._looked_at = now
            self._filled = self._look(tuple(gpus), frozenset(held))
        return {gpu: found.reason for gpu, found in self._filled.items()}

    def _look(self, gpus: Sequence[str], held: Collection[str]) -> dict[str, Filled]:
        try:
            found = self._aside.ask(lambda: self._ask(gpus, held), self._patience_s)
        except (Hangs, Unanswered) as error:
            if not self._trouble:
                log.warning("Whether others use the GPUs is not known: their driver does not tell (%s)", error)
            self._trouble = True
            return {}
        self._trouble = False
        # The sentence stays while little has changed: what is stored anew wakes all who look at the queue.
        for gpu, new in found.items():
            was = self._filled.get(gpu)
            found[gpu] = was if was is not None and new.much_like(was) else new
        return found

    def _ask(self, gpus: Sequence[str], held: Collection[str]) -> dict[str, Filled]:
        loads = self._nvml.loads([gpu for gpu in gpus if not gpu.startswith(amd.AMD)])
        loads |= amd.loads([gpu for gpu in gpus if gpu not in loads], self._sys)
        judged = {gpu: filled(load, self._ours, held=gpu in held, limit=self._limit) for gpu, load in loads.items()}
        return {gpu: found for gpu, found in judged.items() if found is not None}
