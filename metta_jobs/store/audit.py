"""The database held against what must always be true of it. Pure reading, in a few statements however many jobs.

Each check below selects what is broken and says it in a sentence. `audit` runs them all; `slots` asks only whether more
is given out than there is, which may also mean that somebody lowered a setting while jobs were running.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator

from metta_jobs.states import ARROWS, LIVE, TERMINAL, DependencyKind, JobState
from metta_jobs.store.words import FORCE_KILL, KILL, DeliveryState

#: Sentences a check gives at most; how many more there are is said in another one.
MOST = 20
#: The kind of event by which a repair says that a job's earlier history is not whole.
REPAIRED = "repaired"
#: Slots are sums of floats.
_ROUNDING = 1e-6


def _words(states: frozenset[JobState]) -> str:
    return ", ".join(sorted(repr(state.value) for state in states))


_LIVE, _ENDED = _words(LIVE), _words(TERMINAL)
_ARROWS = ", ".join(sorted(repr(f"{here.value}>{there.value}") for here, found in ARROWS.items() for there in found))
_SUCCEEDED, _AFTEROK, _AFTERNOTOK = (
    JobState.SUCCEEDED.value,
    DependencyKind.AFTEROK.value,
    DependencyKind.AFTERNOTOK.value,
)

#: (job_id, parent_id) of each dependency that keeps a pending job from starting. Of a whole group that must not
#: succeed, the parents that have not ended; all of them, when all have ended well.
UNMET = f"""
SELECT d.job_id, d.parent_id
FROM jobs AS j JOIN dependencies AS d ON d.job_id = j.id JOIN jobs AS p ON p.id = d.parent_id
WHERE j.finished_at IS NULL AND j.state = 'pending' AND (d.of_group IS NULL OR d.kind <> '{_AFTERNOTOK}')
  AND (p.state NOT IN ({_ENDED}) OR (d.kind = '{_AFTEROK}' AND p.state <> '{_SUCCEEDED}')
       OR (d.kind = '{_AFTERNOTOK}' AND p.state = '{_SUCCEEDED}'))
UNION ALL
SELECT d.job_id, d.parent_id
FROM (
    SELECT d.job_id, d.of_group, max(p.state NOT IN ({_ENDED})) AS waits, min(p.state = '{_SUCCEEDED}') AS all_well
    FROM jobs AS j JOIN dependencies AS d ON d.job_id = j.id JOIN jobs AS p ON p.id = d.parent_id
    WHERE j.finished_at IS NULL AND j.state = 'pending' AND d.of_group IS NOT NULL AND d.kind = '{_AFTERNOTOK}'
    GROUP BY d.job_id, d.of_group
) AS g
JOIN dependencies AS d ON d.job_id = g.job_id AND d.of_group = g.of_group AND d.kind = '{_AFTERNOTOK}'
JOIN jobs AS p ON p.id = d.parent_id
WHERE CASE WHEN g.waits THEN p.state NOT IN ({_ENDED}) ELSE g.all_well END
"""

#: The jobs j of groups g whose rank is not what priorities make it, though nobody has moved them, and what it must be.
#: Of a configuration that cannot be read nothing is known.
RANKS = """
SELECT j.id, j.rank, g.priority + ifnull(json_extract(j.config, '$.priority'), 0) AS wanted
FROM jobs AS j JOIN groups AS g ON g.id = j.group_id
WHERE j.finished_at IS NULL AND CASE WHEN json_valid(j.config)
    THEN j.rank <> g.priority + ifnull(json_extract(j.config, '$.priority'), 0) END
    AND NOT EXISTS (SELECT 1 FROM events WHERE job_id = j.id AND kind = 'edit' AND reason LIKE 'moved %')
"""
_ELSEWHERE = "json_extract(config, '$.remote') IS NOT NULL"
#: Columns of a job that follow from its configuration, and how; what runs elsewhere holds no slots here.
FROM_CONFIG = {
    "executor": f"CASE WHEN {_ELSEWHERE} THEN 'skypilot' ELSE 'local' END",
    **{
        name: f"CASE WHEN {_ELSEWHERE} THEN 0 ELSE ifnull(json_extract(config, '$.{name}'), {default}) END"
        for name, default in (("gpus", 0), ("cpus", 1), ("memory_gb", 0))
    },
    "queue_timeout_s": "json_extract(config, '$.queue_timeout_s')",
}
#: The unfinished jobs whose slots are not those of their configuration.
SLOTS = f"""
SELECT id, gpus, cpus, memory_gb FROM jobs WHERE finished_at IS NULL AND CASE WHEN json_valid(config)
    THEN ({", ".join(FROM_CONFIG)}) IS NOT ({", ".join(FROM_CONFIG.values())}) END
"""

_STEPS = f"kind IN ('submitted', 'state', '{REPAIRED}')"

_HISTORY = f"""
SELECT job_id, id, ifnull(from_state, 'nothing'), ifnull(to_state, 'nothing'), ifnull(before, 'nothing')
FROM (
    SELECT id, job_id, kind, from_state, to_state, lag(to_state) OVER (PARTITION BY job_id ORDER BY id) AS before
    FROM events WHERE job_id IS NOT NULL AND {_STEPS}
) AS e
WHERE CASE kind WHEN '{REPAIRED}' THEN 0
    WHEN 'submitted' THEN before IS NOT NULL OR from_state IS NOT NULL OR to_state IS NOT 'pending'
    ELSE before IS NULL OR before IS NOT from_state OR from_state || '>' || to_state NOT IN ({_ARROWS})
END AND NOT EXISTS (SELECT 1 FROM events AS r WHERE r.job_id = e.job_id AND r.kind = '{REPAIRED}' AND r.id >= e.id)
"""
_LAST = f"""
SELECT j.id, j.state, ifnull(e.to_state, 'nothing') FROM jobs AS j
LEFT JOIN (SELECT job_id, to_state, max(id) FROM events WHERE {_STEPS} GROUP BY job_id) AS e ON e.job_id = j.id
WHERE e.to_state IS NOT j.state
"""
# What was taken back before it started has never been, so its number is given again.
_LAUNCHES = f"""
SELECT job_id, attempt, times FROM (
    SELECT job_id, attempt, sum(CASE to_state WHEN 'launching' THEN 1 ELSE -1 END) AS times, max(id) AS newest
    FROM events WHERE kind = 'state' AND (to_state = 'launching' OR (from_state = 'launching' AND to_state = 'pending'))
    GROUP BY job_id, attempt HAVING times > 1
) AS e
WHERE NOT EXISTS (SELECT 1 FROM events AS r WHERE r.job_id = e.job_id AND r.kind = '{REPAIRED}' AND r.id >= newest)
"""

#: Each selects the words of a sentence, for its braces, from the rows that are wrong.
_CHECKS: tuple[tuple[str, str], ...] = (
    (
        "Job {} is {}, but its end is {}.",
        f"""SELECT id, state, ifnull(finished_at, 'not recorded') FROM jobs
        WHERE (finished_at IS NOT NULL) <> (state IN ({_ENDED}))""",
    ),
    (
        "Attempt {}.{} is {}, but its end is {}.",
        f"""SELECT job_id, number, state, ifnull(finished_at, 'not recorded') FROM attempts
        WHERE (finished_at IS NOT NULL) <> (state IN ({_ENDED})) OR state IN ('pending', 'skipped')""",
    ),
    (
        "Job {} has {} live attempts.",
        "SELECT job_id, count(*) FROM attempts WHERE finished_at IS NULL GROUP BY job_id HAVING count(*) > 1",
    ),
    (
        "Job {} is {}, but its newest attempt, {}, is {}.",
        f"""SELECT j.id, j.state, j.attempt, ifnull(a.state, 'not recorded')
        FROM jobs AS j LEFT JOIN attempts AS a ON a.job_id = j.id AND a.number = j.attempt
        WHERE j.state IN ({_LIVE}, '{_SUCCEEDED}') AND a.state IS NOT j.state""",
    ),
    (
        "Attempt {}.{} has not ended, but its job is {}.",
        f"""SELECT a.job_id, a.number, j.state FROM attempts AS a JOIN jobs AS j ON j.id = a.job_id
        WHERE a.finished_at IS NULL AND (j.state NOT IN ({_LIVE}) OR a.number <> j.attempt)""",
    ),
    (
        "Job {} counts {} attempts, but {} are recorded, up to number {}.",
        """SELECT j.id, j.attempt, ifnull(a.n, 0), ifnull(a.newest, 0)
        FROM jobs AS j
        LEFT JOIN (SELECT job_id, count(*) AS n, max(number) AS newest FROM attempts GROUP BY job_id) AS a
               ON a.job_id = j.id
        WHERE j.attempt <> ifnull(a.newest, 0) OR j.attempt <> ifnull(a.n, 0)""",
    ),
    (
        "Job {} is to wait for job {}, but nothing that it depends on is unmet.",
        f"""SELECT id, blocked_by FROM jobs
        WHERE blocked_by IS NOT NULL AND id NOT IN (SELECT job_id FROM ({UNMET}))""",
    ),
    (
        "Job {} waits for job {}, but is free to start.",
        f"""SELECT job_id, min(parent_id) FROM ({UNMET})
        WHERE job_id IN (SELECT id FROM jobs WHERE finished_at IS NULL AND blocked_by IS NULL) GROUP BY job_id""",
    ),
    (
        "Job {} is to wait for job {}, but what it waits for is job {}.",
        f"""SELECT j.id, j.blocked_by, min(u.parent_id) FROM jobs AS j JOIN ({UNMET}) AS u ON u.job_id = j.id
        WHERE j.blocked_by IS NOT NULL GROUP BY j.id HAVING max(u.parent_id = j.blocked_by) = 0""",
    ),
    (
        "Job {} is {}, but somebody's wish to end it is still open.",
        f"""SELECT id, state FROM jobs
        WHERE wish IS NOT NULL AND wish IN ('{KILL}', '{FORCE_KILL}') AND state IN ({_ENDED})""",
    ),
    (
        "Job {} has rank {}, but its priority and its group's are {} together.",
        RANKS,
    ),
    (
        "Job {} is queued for {} GPUs, {} CPU slots and {} GB, which is not what it is configured for.",
        SLOTS,
    ),
    (
        "Job {} is free to start, but since when is not recorded.",
        "SELECT id FROM jobs WHERE state = 'pending' AND blocked_by IS NULL AND ready_at IS NULL",
    ),
    ("The history of job {} is broken at event {}: {} → {} after {}.", _HISTORY),
    ("Job {} is {}, but its history ends with {}.", _LAST),
    ("Job {} launched its attempt {} {} times.", _LAUNCHES),
    (
        "The table {} would give id {} out again.",
        " UNION ALL ".join(
            f"""SELECT '{table}', newest FROM (SELECT max(id) AS newest FROM {table})
            WHERE newest > ifnull((SELECT seq FROM sqlite_sequence WHERE name = '{table}'), 0)"""
            for table in ("groups", "jobs", "events", "deliveries")
        ),
    ),
    (
        "Message {} of a hook is {}, but its end is {}.",
        f"""SELECT id, state, ifnull(finished_at, 'not recorded') FROM deliveries
        WHERE (finished_at IS NULL) <> (state = '{DeliveryState.WAITING}')""",
    ),
    (
        "{} of {} {} cannot be read: it is no JSON.",
        " UNION ALL ".join(
            f"SELECT '{column}', '{table.removesuffix('s')}', {key} FROM {table} "
            f"WHERE {column} IS NOT NULL AND NOT json_valid({column})"
            for table, key, columns in (
                ("jobs", "id", ("config",)),
                ("groups", "id", ("on_end", "health")),
                ("environments", "hash", ("variables", "secrets")),
                ("attempts", "job_id || '.' || number", ("gpus", "remote")),
                ("deliveries", "id", ("hook", "facts")),
                ("progress", "job_id || '.' || attempt", ("metrics",)),
            )
            for column in columns
        ),
    ),
)

_LOCAL = """
SELECT job_id, lane, cpus, memory_gb, gpus, gpu_share, ifnull(nullif(lane, ''), job_id || '.' || number) AS seat
FROM attempts WHERE finished_at IS NULL AND executor = 'local'
"""

#: Attempts of one lane follow one another, so that together they hold what the largest of them does.
_SLOTS: tuple[tuple[str, str], ...] = (
    *(
        (
            f"Running jobs hold {{}} {what}, but there are {{}}.",
            f"""SELECT round(held, 6), c.{column} FROM capacity AS c, (
                SELECT sum(held) AS held FROM (SELECT max({column}) AS held FROM ({_LOCAL}) GROUP BY seat)
            ) WHERE held > c.{column} + {_ROUNDING}""",
        )
        for column, what in (("cpus", "CPU slots"), ("memory_gb", "GB of memory"))
    ),
    (
        "GPU {} is given out {} times over, to jobs {}.",
        f"""WITH held AS (
            SELECT g.value AS gpu, a.seat, a.job_id, a.gpu_share
            FROM ({_LOCAL}) AS a, json_each(CASE WHEN json_valid(a.gpus) THEN a.gpus ELSE '[]' END) AS g
        )
        SELECT gpu, round(sum(share), 6), (
            SELECT group_concat(job_id, ', ') FROM (SELECT job_id FROM held WHERE gpu = h.gpu ORDER BY job_id)
        ) FROM (SELECT gpu, max(gpu_share) AS share FROM held GROUP BY gpu, seat) AS h
        GROUP BY gpu HAVING sum(share) > 1 + {_ROUNDING}""",
    ),
)


def audit(connection: sqlite3.Connection) -> list[str]:
    """Return a sentence for each thing that is wrong in the database; none when all is well.

    Call it inside `Store.read()`. Raises sqlite3.DatabaseError where the file itself is damaged.
    """
    return [*_dangling(connection), *_broken(connection, _CHECKS), *slots(connection)]


def slots(connection: sqlite3.Connection) -> list[str]:
    """The part of `audit` that asks whether live attempts hold more than this machine has."""
    return list(_broken(connection, _SLOTS))


def rows_and_history(connection: sqlite3.Connection) -> list[str]:
    """The part of `audit` that only a defect or a damaged file can break."""
    return [*_dangling(connection), *_broken(connection, _CHECKS)]


def broken_histories(connection: sqlite3.Connection) -> list[int]:
    """The jobs whose events do not lead from their submission to their state."""
    return sorted({row[0] for statement in (_HISTORY, _LAST, _LAUNCHES) for row in connection.execute(statement)})


def _broken(connection: sqlite3.Connection, checks: tuple[tuple[str, str], ...]) -> Iterator[str]:
    for sentence, statement in checks:
        rows = connection.execute(statement).fetchmany(MOST + 1)
        yield from (sentence.format(*(_short(value) for value in row)) for row in rows[:MOST])
        if len(rows) > MOST:
            more = connection.execute(f"SELECT count(*) FROM ({statement})").fetchone()[0] - MOST
            yield f"… and {more} more like: {sentence.format(*(_short(value) for value in rows[0]))}"


def _dangling(connection: sqlite3.Connection) -> Iterator[str]:
    found: dict[tuple[str, str], list[int]] = {}
    for table, rowid, parent, _ in connection.execute("PRAGMA foreign_key_check"):
        found.setdefault((table, parent), []).append(rowid)
    for (table, parent), rows in sorted(found.items()):
        shown = ", ".join(str(row) for row in rows[:5]) + (", …" if len(rows) > 5 else "")
        yield f"In {table}, {len(rows)} rows ({shown}) refer to something that is not in {parent}."


def _short(value: object) -> object:
    return f"{value:g}" if isinstance(value, float) else value
