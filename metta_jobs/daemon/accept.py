"""The metrics that acceptance criteria are held against: read once, when the job has ended, and never waited for."""

from __future__ import annotations

from typing import Any

from metta_jobs.criteria import AcceptanceCriterion
from metta_jobs.daemon.decide import ReadMetrics
from metta_jobs.daemon.follow import keys_of
from metta_jobs.daemon.house import House
from metta_jobs.store.queue import LiveAttempt

#: What could not be read is read again after this pause (seconds).
AGAIN_S = 5.0


def facts(house: House, attempt: LiveAttempt) -> dict[str, Any]:
    """What decide.Live holds of the criteria and metrics of an attempt that has ended."""
    reading = house.readings.final(attempt.key)
    read = reading is not None and reading.error is None
    return {
        "acceptance": tuple(AcceptanceCriterion.model_validate(criterion) for criterion in attempt.acceptance),
        "values": reading.progress.by_name() if reading is not None and read else None,
        "unread": None if reading is None else reading.error,
    }


def read(house: House, attempt: LiveAttempt, decision: ReadMetrics) -> str:
    """Have the metrics read, unless that is under way; return what is worth saying about it."""
    reading = house.readings.final(attempt.key)
    if attempt.key not in house.judging:
        house.judging.add(attempt.key)
        house.readings.finish(attempt.key, keys_of(attempt), urgent=True)
    elif reading is not None and house.clock.monotonic() - reading.at >= AGAIN_S:
        house.readings.finish(attempt.key, keys_of(attempt), urgent=True)
    why = f": {decision.note}" if decision.note else ""
    return f"ended; its metrics are read for its acceptance criteria{why}"
