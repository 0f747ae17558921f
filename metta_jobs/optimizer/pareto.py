"""The front of score against cost."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from metta_jobs.optimizer.observations import Array


def front(score: Array, cost: Array) -> Array:
    """Rows (k,) that no other row dominates, by rising cost; score and cost are (n,).

    Strict dominance: a row is dominated by one that is no worse in both and better in one. Of equal rows the
    first stays.
    """
    order = np.lexsort((np.arange(len(score)), -score, cost))
    kept: list[int] = []
    best = -np.inf
    for row in order:
        if score[row] > best:
            kept.append(int(row))
            best = float(score[row])
    return np.array(kept, dtype=int)


def area(score: Array, log_cost: Array, low: float, high: float, floor: float, ceiling: float) -> float:
    """The area under the front between two log costs, as a part of the box up to the ceiling; 0 at the floor."""
    rows = front(score, log_cost)
    total = 0.0
    for place, row in enumerate(rows):
        start = max(float(log_cost[row]), low)
        end = float(log_cost[rows[place + 1]]) if place + 1 < len(rows) else high
        if min(end, high) > start:
            total += (min(end, high) - start) * float(np.clip(score[row] - floor, 0.0, ceiling - floor))
    return total / ((high - low) * (ceiling - floor))
