"""The slots of this machine and who holds them. Pure; derived anew each time from the stored live attempts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from metta_jobs.store.capacity import Machine
from metta_jobs.store.queue import Holding, Need

_NAMED = 6
"""So many holders of slots are named; the others are counted."""
_TINY = 1e-9


class Slots:
    """What is free. Those that hold the same lane hold its slots together, as they run one after another."""

    def __init__(self, machine: Machine, holdings: Iterable[Holding] = ()) -> None:
        self.machine = machine
        self.lanes: dict[str, Holding] = {}
        self.in_groups: Counter[int] = Counter()
        self._gpus: dict[str, dict[int, float]] = {gpu: {} for gpu in machine.gpus}
        self._cpus = 0.0
        self._memory = 0.0
        self._refused: dict[Need, str] = {}  # thousands of jobs of one size get the same answer
        self.kept: dict[str, str] = {}
        self._aside: dict[str, float] = {}  # shares of free GPUs that are kept, too
        self._memory_aside = 0.0
        self._kept_for = ""
        for holding in holdings:
            self.take(holding)

    def take(self, holding: Holding) -> None:
        """Note that an attempt holds these slots."""
        if holding.elsewhere:
            self.in_groups[holding.group_id] += 1
            return
        if holding.lane in self.lanes:
            return
        self._refused = {}
        self.lanes[holding.lane] = holding
        self.in_groups[holding.group_id] += 1
        self._cpus += holding.cpus
        self._memory += holding.memory_gb
        for gpu in holding.gpus:
            self._gpus.setdefault(gpu, {})[holding.job_id] = holding.gpu_share

    def full(self) -> bool:
        """True when no job that wants a CPU slot can start."""
        limit = self.machine.max_parallel
        return self._cpus >= self.machine.cpus - _TINY or (limit is not None and len(self.lanes) >= limit)

    def lacks(self, need: Need) -> str | None:
        """Why a job of this size cannot start now; None when it can."""
        if need not in self._refused and (reason := self._lack(need)) is not None:
            self._refused[need] = reason
        return self._refused.get(need)

    def _lack(self, need: Need) -> str | None:
        machine, running = self.machine, len(self.lanes)
        if machine.max_parallel is not None and running >= machine.max_parallel:
            return f"no free place ({running} of {machine.max_parallel} parallel jobs running: {self._holders()})"
        if need.cpus and self._cpus + need.cpus > machine.cpus + _TINY:
            return f"no free CPU slot ({self._cpus:g} of {machine.cpus:g} in use by {self._holders(of_cpus=True)})"
        left = machine.memory_gb - self._memory - self._memory_aside
        if need.memory_gb and need.memory_gb > left + _TINY:
            kept = f"; {self._memory_aside:g} GB are {self._kept_for}" if self._memory_aside else ""
            return f"not enough memory (wants {need.memory_gb:g} GB, {left:g} of {machine.memory_gb:g} GB free{kept})"
        if need.gpus and not self.choose(need.gpus):
            return self._no_gpu(need.gpus)
        return self._kept_from(need)

    def keep_for(self, job_id: int, need: Need, why: str) -> None:
        """Leave to this job what it lacks now, whatever comes after it.

        What of its needs is free is kept, too, or others would take it while the rest comes free, for ever: GPUs at
        once; memory as soon as it lacks no GPU. CPU slots need not be: hardly anything starts without one.
        """
        if self.kept:
            return
        machine = self.machine
        gpus = self.choose(need.gpus) if need.gpus else ()
        lacking = {
            "place": machine.max_parallel is not None and len(self.lanes) >= machine.max_parallel,
            "CPU slot": need.cpus and self._cpus + need.cpus > machine.cpus + _TINY,
            "memory": need.memory_gb and self._memory + need.memory_gb > machine.memory_gb + _TINY,
            "GPU": need.gpus and not gpus,
        }
        self._refused = {}
        self._kept_for = f"kept for job {job_id}, which {why}"
        self.kept = {what: f"the next free {what} is {self._kept_for}" for what, lacks in lacking.items() if lacks}
        self._aside = dict.fromkeys(gpus, min(need.gpus, 1))
        if not lacking["GPU"] and not lacking["memory"]:
            self._memory_aside = need.memory_gb

    def _kept_from(self, need: Need) -> str | None:
        wants = {"place": True, "CPU slot": need.cpus, "memory": need.memory_gb, "GPU": need.gpus}
        return next((why for what, why in self.kept.items() if wants[what]), None)

    def choose(self, gpus: float) -> tuple[str, ...]:
        """The GPUs to give to a job that wants so many; empty when there are not enough.

        A fraction goes where it still fits and least is left, so that whole GPUs stay free for who wants whole ones.
        """
        free = {
            gpu: 1 - sum(self._gpus.get(gpu, {}).values()) - self._aside.get(gpu, 0)
            for gpu in self.machine.gpus
            if gpu not in self.machine.busy
        }
        if gpus >= 1:
            whole = [gpu for gpu, left in free.items() if left >= 1 - _TINY]
            return tuple(whole[: int(gpus)]) if len(whole) >= gpus else ()
        fitting = [(left, gpu) for gpu, left in free.items() if left >= gpus - _TINY]
        return (min(fitting, key=lambda pair: pair[0])[1],) if fitting else ()

    def _no_gpu(self, gpus: float) -> str:
        total = len(self.machine.gpus)
        users = sorted({job for jobs in self._gpus.values() for job in jobs})
        used = sum(1 for gpu in self.machine.gpus if self._gpus.get(gpu))
        parts = [f"{used} of {total} in use by {_some(users)}"] if users else []
        parts += [f"{gpu}: {why}" for gpu, why in self.machine.busy.items() if gpu in self.machine.gpus]
        parts += [f"{gpu}: {self._kept_for}" for gpu in self._aside]
        if gpus > 1:
            return f"not enough free GPUs (wants {gpus:g}; {'; '.join(parts)})"
        share = f" with {gpus:g} of it free" if gpus < 1 else ""
        return f"no free GPU{share} ({'; '.join(parts)})"

    def _holders(self, *, of_cpus: bool = False) -> str:
        return _some(sorted(holding.job_id for holding in self.lanes.values() if holding.cpus or not of_cpus))

    def never_fits(self, need: Need) -> str | None:
        """Why a job of this size can never start on this machine; None when it can."""
        machine = self.machine
        if need.gpus > len(machine.gpus):
            have = f"has {len(machine.gpus)}" if machine.gpus else "has none"
            return f"it asks for {need.gpus:g} GPU{'s' if need.gpus > 1 else ''} and this machine {have}"
        if need.cpus > machine.cpus:
            return f"it asks for {need.cpus:g} CPU slots and this machine has {machine.cpus:g}"
        if need.memory_gb > machine.memory_gb:
            return f"it asks for {need.memory_gb:g} GB of memory and this machine has {machine.memory_gb:g}"
        return None


def _some(job_ids: list[int]) -> str:
    more = f" and {len(job_ids) - _NAMED} more" if len(job_ids) > _NAMED else ""
    return f"{', '.join(map(str, job_ids[:_NAMED]))}{more}"
