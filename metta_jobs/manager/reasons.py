"""What pending jobs wait for, worked out by the same plan that the daemon claims with, so never out of date."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from datetime import datetime
from functools import partial

from metta_jobs.daemon.patience import by_the_wall
from metta_jobs.daemon.plan import plan, waits_for
from metta_jobs.daemon.slots import Slots
from metta_jobs.store import capacity, queue


def reasons_of(connection: sqlite3.Connection, pending: Sequence[int], now: datetime) -> dict[int, str]:
    """Job → reason, for those of these pending jobs for which there is one."""
    machine = capacity.load(connection)
    blocked = {job_id: waits_for(parents) for job_id, parents in queue.blockers(connection, pending).items()}
    if machine is None:
        return dict.fromkeys(pending, "no daemon has looked at it yet") | blocked
    slots, groups = Slots(machine, queue.holdings(connection)), queue.group_limits(connection)
    planned = plan(queue.ready_jobs(connection), slots, groups, partial(by_the_wall, now=now))
    return {job.job_id: verdict.reason for job, verdict in planned} | blocked
