"""Managed jobs of one name: SkyPilot's names are not unique, and a request that is sent twice makes two. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

from metta_jobs.executors.base import Key
from metta_jobs.executors.sky import statuses
from metta_jobs.executors.sky.attempt import Attempt
from metta_jobs.executors.sky.ledger import key_of
from metta_jobs.executors.sky.statuses import Seen


def by_attempt(
    project: str, records: Iterable[Mapping[str, Any]], attempts: Mapping[Key, Attempt]
) -> dict[Key, list[Seen]]:
    """The managed jobs of each attempt, best first: those with evidence, then those that run. Without dead ones."""
    found: dict[Key, list[Seen]] = defaultdict(list)
    for seen in filter(None, map(statuses.read, records)):
        key = key_of(project, seen.name)
        if key is not None and key in attempts and seen.managed_id not in attempts[key].ledger.dead:
            found[key].append(seen)
    for of_one in found.values():
        of_one.sort(key=_rank)
    return found


def _rank(seen: Seen) -> tuple[int, int]:
    order = [statuses.RAN, statuses.RUNNING, frozenset() if seen.inactive else statuses.STARTING]
    place = next((place for place, words in enumerate(order) if seen.status in words), len(order) + seen.terminal)
    return place, seen.managed_id


def besides(attempt: Attempt, found: Iterable[Seen]) -> list[int]:
    """Those of its managed jobs that still live, and that it does not own."""
    return [seen.managed_id for seen in found if seen.managed_id != attempt.ledger.managed_id and not seen.terminal]
