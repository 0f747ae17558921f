"""Which pending jobs can start now, which wait for what, which can never start any more. Pure; the daemon acts on it,
and readers explain with it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from metta_jobs.daemon.decide import Capacity, Claim, Skip, Waits, decide_parents, decide_slots
from metta_jobs.store.queue import Holding, PendingJob


def plan(
    pending: Sequence[PendingJob], holdings: Sequence[Holding], capacity: Capacity
) -> Iterator[tuple[PendingJob, Claim | Waits | Skip]]:
    """Yield a verdict for each pending job, oldest first; each claim takes its slots from those that come after."""
    for holding in holdings:
        capacity.take(holding.job_id, holding.gpus, holding.cpus)
    for job in pending:
        parents = {parent.label: (parent.state, parent.kind) for parent in job.parents}
        verdict = decide_parents(parents) or decide_slots(job.gpus, job.cpus, capacity)
        if isinstance(verdict, Claim):
            capacity.take(job.job_id, verdict.gpus, job.cpus)
        yield job, verdict
