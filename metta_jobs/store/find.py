"""Finding jobs by what is known of them."""

from __future__ import annotations

import sqlite3
from collections.abc import Collection
from dataclasses import dataclass, field
from datetime import datetime

from metta_jobs.states import JobState
from metta_jobs.store.words import to_json, to_text

_ORDERS = {"created_at": "j.created_at", "name": "j.name", "state": "j.state"}
ORDERS = tuple(_ORDERS)


@dataclass(frozen=True)
class Wanted:
    """Conditions that all must hold; None, or empty, asks for nothing. Of `tags` one is enough."""

    author: str | None = None
    tags: Collection[str] = field(default=())
    state: JobState | None = None
    group: str | None = None
    created_after: datetime | None = None
    created_before: datetime | None = None


#: What a job's own settings say, else the environment of the shell that submitted it.
_AUTHOR = """coalesce(json_extract(j.config, '$.env.WANDB_USERNAME'), json_extract(e.variables, '$.WANDB_USERNAME'),
    json_extract(e.variables, '$.USER'), json_extract(e.variables, '$.LOGNAME'))"""
_TAGS = """coalesce(json_extract(j.config, '$.env.WANDB_TAGS'), json_extract(e.variables, '$.WANDB_TAGS'), '')"""


def runs(connection: sqlite3.Connection, wanted: Wanted, order: str, limit: int) -> list[int]:
    """The ids of the jobs that are runs and meet every condition, ordered by one of ORDERS ("-name": backwards)."""
    direction = "DESC" if order.startswith("-") else "ASC"
    rows = connection.execute(
        "SELECT j.id FROM jobs AS j JOIN groups AS g ON g.id = j.group_id "
        "JOIN environments AS e ON e.hash = j.environment "
        "WHERE json_extract(j.config, '$.kind') = 'run' "
        f"AND (:author IS NULL OR {_AUTHOR} = :author) "
        "AND (:state IS NULL OR j.state = :state) AND (:grp IS NULL OR g.name = :grp) "
        "AND (:after IS NULL OR j.created_at >= :after) AND (:before IS NULL OR j.created_at <= :before) "
        f"AND (:tags = '[]' OR EXISTS (SELECT 1 FROM json_each(:tags) AS t "
        f"WHERE instr(',' || {_TAGS} || ',', ',' || t.value || ',') > 0)) "
        f"ORDER BY {_ORDERS[order.lstrip('+-')]} {direction}, j.id {direction} LIMIT :limit",
        {
            "author": wanted.author,
            "state": wanted.state,
            "grp": wanted.group,
            "after": to_text(wanted.created_after) if wanted.created_after else None,
            "before": to_text(wanted.created_before) if wanted.created_before else None,
            "tags": to_json(sorted(wanted.tags)),
            "limit": limit,
        },
    )
    return [row["id"] for row in rows]
