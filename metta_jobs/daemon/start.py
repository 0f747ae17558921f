"""Claiming what can start: the plan, made and committed in one transaction."""

from __future__ import annotations

import sqlite3
from collections import Counter
from dataclasses import replace

from metta_jobs.daemon.house import House
from metta_jobs.daemon.plan import Claim, GivesUp, may_start, plan
from metta_jobs.daemon.slots import Slots
from metta_jobs.store import capacity, queue, transitions

#: Every job that is ready is looked at this often (seconds), though the first of them fill the machine.
LOOK_AT_ALL_S = 1.0


def is_due(house: House) -> bool:
    """The plan follows from what is stored and from time: while neither has changed, there is nothing to plan."""
    return house.store.version() != house.planned or house.clock.monotonic() >= house.plan_at


def claim(house: House, connection: sqlite3.Connection) -> tuple[dict[int, int], bool]:
    """Claim what can start, in the order of the queue; return job → attempt of the claims, and if anything changed."""
    moment = house.clock.monotonic()
    look_at_all = moment - house.all_seen_at >= LOOK_AT_ALL_S
    until: list[float] = []
    starts: list[transitions.Start] = []
    given_up: dict[int, str] = {}
    house.patience.begin(whole=look_at_all)
    house.planned = house.store.version()  # nobody else writes now
    held = queue.holdings(connection)
    slots = Slots(house.machine, held)
    standing = Counter(holding.lane for holding in held)
    lines = {lane: count - 1 for lane, count in standing.items() if house.quick.get(lane)}
    cut_off = False
    groups = queue.group_limits(connection)
    for job, verdict in plan(queue.ready_jobs(connection), slots, groups, house.patience, lines):
        if isinstance(verdict, Claim):
            if (executor := house.executors.get(job.executor)) is None:
                continue
            need = job.need
            starts.append(
                transitions.Start(
                    job.job_id,
                    executor.name,
                    verdict.lane or executor.lane(),
                    verdict.gpus,
                    verdict.gpu_share,
                    need.cpus,
                    need.memory_gb,
                )
            )
            if verdict.lane:
                lines[verdict.lane] += 1
        elif isinstance(verdict, GivesUp):
            given_up[job.job_id] = verdict.reason
        elif verdict.until_s is not None:
            until.append(verdict.until_s)
        if not look_at_all and not may_start(slots, lines):
            cut_off = True
            break
    claimed = transitions.claim(connection, house.clock.now(), starts, house.boot) if starts else {}
    gone = transitions.give_up_waiting(connection, house.clock.now(), given_up) if given_up else []
    if not cut_off:
        house.patience.end()
        house.all_seen_at = moment
    if house.machine.busy:
        until.append(2.0)
    house.plan_at = moment + (LOOK_AT_ALL_S if cut_off else min(until, default=float("inf")))
    return claimed, bool(claimed or gone)


def look_at_neighbours(house: House) -> None:
    """Ask which GPUs somebody else's program fills; for readers, the answer is stored."""
    if not house.machine.gpus:
        return
    held = {gpu for attempt in house.known.values() for gpu in attempt.gpus}
    busy = dict(house.neighbours(house.machine.gpus, held))
    if busy != house.machine.busy:
        house.machine = replace(house.machine, busy=busy)
        with house.store.write() as connection:
            capacity.save(connection, house.clock.now(), house.machine)
