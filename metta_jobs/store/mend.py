"""What the audit finds wrong, put right where the right can be told from what is left.

Nothing is invented: what cannot be known is ended or left out, and an event of each job that was touched says so.
"""

from __future__ import annotations

import json
import sqlite3
from collections import defaultdict
from collections.abc import Iterator
from datetime import datetime
from typing import Any

from metta_jobs.job import JobConfig
from metta_jobs.states import LIVE, TERMINAL, DependencyKind
from metta_jobs.store.audit import FROM_CONFIG, RANKS, REPAIRED, SLOTS, UNMET, broken_histories
from metta_jobs.store.salvage import raise_sequence
from metta_jobs.store.words import to_json, to_text

_LOST = "lost with the damaged database"
_LIVE = ", ".join(repr(state.value) for state in LIVE)
_ENDED = ", ".join(repr(state.value) for state in TERMINAL)


class _Work:
    """The open transaction, the moment, what was done to which job, and which may not start any more."""

    def __init__(self, connection: sqlite3.Connection, now: datetime) -> None:
        self.sql = connection
        self.now = to_text(now)
        self.jobs: defaultdict[int, list[str]] = defaultdict(list)
        self.doomed: dict[int, str] = {}

    def doom(self, job: int, why: str) -> None:
        self.jobs[job].append(why)
        self.doomed.setdefault(job, why)

    def rows(self, statement: str, *values: object) -> list[Any]:
        return self.sql.execute(statement, values).fetchall()

    def change(self, statement: str, *values: object) -> int:
        return self.sql.execute(statement, values).rowcount


def mend(connection: sqlite3.Connection, now: datetime, *, dependencies_lost: bool = False) -> list[str]:
    """Mend the database in the caller's write transaction (foreign keys off); return what was done, in sentences.

    With `dependencies_lost` they are found again in the jobs' configurations. Afterwards `audit.rows_and_history` finds
    nothing.
    """
    work = _Work(connection, now)
    return [
        *_unreadable(work),
        *_parents_of_rows(work),
        *_rows_of_nothing(work),
        *_attempts(work),
        *_states(work),
        *(_dependencies(work) if dependencies_lost else ()),
        *_cancel(work),
        *_queue(work),
        *_histories(work),
    ]


def _unreadable(work: _Work) -> Iterator[str]:
    """JSON that is none: a configuration becomes one that says so, the rest becomes empty."""
    for job, name in work.rows("SELECT id, name FROM jobs WHERE NOT json_valid(config)"):
        empty = JobConfig.model_construct(name=name, command=("false",))
        work.change("UPDATE jobs SET config = ? WHERE id = ?", to_json(empty.model_dump(mode="json")), job)
        work.doom(job, "its configuration cannot be read")
    for table, column, empty_value in (
        ("groups", "on_end", "[]"),
        ("groups", "health", "[]"),
        ("progress", "metrics", "{}"),
        ("environments", "variables", "{}"),
        ("environments", "secrets", "[]"),
        ("attempts", "gpus", "[]"),
    ):
        if count := work.change(f"UPDATE {table} SET {column} = ? WHERE NOT json_valid({column})", empty_value):
            yield f"{table}: {column} could not be read in {_rows(count)} and is empty now."
    if count := work.change("UPDATE attempts SET remote = NULL WHERE remote IS NOT NULL AND NOT json_valid(remote)"):
        yield f"attempts: what was known of {_rows(count)} elsewhere could not be read and is empty now."
    if count := work.change("UPDATE trials SET suggestion = NULL WHERE NOT json_valid(suggestion)"):
        yield f"trials: why {_rows(count)} were suggested could not be read and is empty now."
    for table, where in (("trials", "NOT json_valid(params)"), ("sweeps", "NOT json_valid(definition)")):
        if count := work.change(f"DELETE FROM {table} WHERE {where}"):
            yield f"{table}: {_rows(count)} could not be read and were dropped."
    if count := work.change("DELETE FROM deliveries WHERE NOT (json_valid(hook) AND json_valid(facts))"):
        yield f"deliveries: {_rows(count)} could not be read and were dropped."


def _parents_of_rows(work: _Work) -> Iterator[str]:
    """Groups and environments that jobs refer to: made anew, as far as anything tells of them."""
    for group, since in work.rows(
        "SELECT group_id, min(created_at) FROM jobs WHERE group_id NOT IN (SELECT id FROM groups) GROUP BY group_id"
    ):
        name = f"recovered-{group}"
        while work.rows("SELECT 1 FROM groups WHERE name = ?", name):
            name += "-again"
        work.change("INSERT INTO groups (id, name, created_at) VALUES (?, ?, ?)", group, name, since)
        yield f"Group {group} was lost with its name; its jobs are in {name!r} now."
    for (environment,) in work.rows(
        "SELECT DISTINCT environment FROM jobs WHERE environment NOT IN (SELECT hash FROM environments)"
    ):
        work.change("INSERT INTO environments VALUES (?, '{}', '[]')", environment)
        for (job,) in work.rows("SELECT id FROM jobs WHERE environment = ? AND state = 'pending'", environment):
            work.doom(job, "its environment was lost")


def _rows_of_nothing(work: _Work) -> Iterator[str]:
    """What belongs to jobs and groups that are gone."""
    for job, number in work.rows(
        "SELECT job_id, number FROM attempts WHERE finished_at IS NULL AND job_id NOT IN (SELECT id FROM jobs)"
    ):
        yield f"Job {job} was lost while its attempt {number} had not ended: its processes may still run."
    lost = work.rows(
        """SELECT job_id FROM (SELECT job_id FROM attempts UNION SELECT job_id FROM events WHERE job_id IS NOT NULL
        UNION SELECT job_id FROM dependencies UNION SELECT parent_id FROM dependencies)
        WHERE job_id NOT IN (SELECT id FROM jobs) ORDER BY job_id"""
    )
    if lost:
        yield f"Lost jobs, as far as other rows tell of them: {_ids([row[0] for row in lost])}."
    for child, parent in work.rows(
        """SELECT d.job_id, d.parent_id FROM dependencies AS d JOIN jobs AS j ON j.id = d.job_id
        WHERE j.state = 'pending' AND d.parent_id NOT IN (SELECT id FROM jobs)"""
    ):
        work.doom(child, f"job {parent}, which it waits for, was lost")
    gone = "NOT IN (SELECT id FROM jobs)"
    for table, where in (
        ("attempts", f"job_id {gone}"),
        ("dependencies", f"job_id {gone} OR parent_id {gone}"),
        ("events", f"job_id {gone} OR (job_id IS NULL AND group_id NOT IN (SELECT id FROM groups))"),
        ("progress", f"job_id {gone}"),
        ("health", f"job_id {gone}"),
        ("deliveries", f"job_id {gone} OR group_id NOT IN (SELECT id FROM groups)"),
        ("trials", "sweep_id NOT IN (SELECT id FROM sweeps)"),
    ):
        if count := work.change(f"DELETE FROM {table} WHERE {where}"):
            yield f"{table}: {_rows(count)} of lost jobs, groups or sweeps were dropped."
    work.change(
        """UPDATE events SET group_id = (SELECT group_id FROM jobs WHERE id = job_id)
        WHERE job_id IS NOT NULL AND group_id NOT IN (SELECT id FROM groups)"""
    )
    work.change("UPDATE dependencies SET of_group = NULL WHERE of_group NOT IN (SELECT id FROM groups)")


def _attempts(work: _Work) -> Iterator[str]:
    """Each job has attempts 1 to its newest; of those that had ended and are gone nobody knows how."""
    needs_one = f"attempt = 0 AND state IN ({_LIVE}, 'succeeded')"
    work.change("UPDATE jobs SET attempt = 0 WHERE typeof(attempt) <> 'integer'")
    for (job,) in work.rows(f"SELECT id FROM jobs WHERE {needs_one}"):
        work.change("UPDATE jobs SET attempt = 1 WHERE id = ?", job)
        work.jobs[job].append("how many attempts it has had was lost")
    for job, newest in work.rows(
        """SELECT j.id, max(a.number) FROM jobs AS j JOIN attempts AS a ON a.job_id = j.id
        GROUP BY j.id HAVING max(a.number) > j.attempt"""
    ):
        work.change("UPDATE jobs SET attempt = ? WHERE id = ?", newest, job)
        work.jobs[job].append(f"it has had {newest} attempts")
    for job, attempt, state, ended, code, reason, config in work.rows(
        """SELECT id, attempt, state, ifnull(finished_at, created_at), exit_code, reason, config FROM jobs
        WHERE attempt <> (SELECT count(*) FROM attempts WHERE job_id = jobs.id)"""
    ):
        there = {row[0] for row in work.rows("SELECT number FROM attempts WHERE job_id = ?", job)}
        for number in sorted(set(range(1, attempt + 1)) - there):
            last = number == attempt and state not in ("pending", "skipped")
            is_live = last and state in LIVE
            work.change(
                """INSERT INTO attempts (job_id, number, state, executor, gpus, cpus, claimed_at, finished_at,
                exit_code, reason) VALUES (?, ?, ?, (SELECT executor FROM jobs WHERE id = ?1), '[]',
                ifnull(json_extract(?, '$.cpus'), 1), ?, ?, ?, ?)""",
                *(job, number, state if last else "lost", config, ended, None if is_live else ended),
                *((code, reason) if last else (None, _LOST)),
            )
            work.jobs[job].append(f"attempt {number} was lost")
    return iter(())


def _states(work: _Work) -> Iterator[str]:
    """A job and its newest attempt agree: the end of either is the end of both."""
    work.change(f"UPDATE jobs SET wish = NULL WHERE wish IN ('kill', 'force_kill') AND state IN ({_ENDED})")
    for job, number, state, ended, code, reason in work.rows(
        f"""SELECT j.id, a.number, a.state, a.finished_at, a.exit_code, a.reason
        FROM jobs AS j JOIN attempts AS a ON a.job_id = j.id AND a.number = j.attempt
        WHERE j.state IN ({_LIVE}) AND a.state <> j.state"""
    ):
        work.change(
            "UPDATE jobs SET state = ?, finished_at = ?, exit_code = ?, reason = ? WHERE id = ?",
            *(state, ended, code, reason, job),
        )
        work.jobs[job].append(f"its attempt {number} is {state}")
    for job, number, state, ended, attempt in work.rows(
        f"""SELECT j.id, a.number, j.state, j.finished_at, j.attempt
        FROM jobs AS j JOIN attempts AS a ON a.job_id = j.id
        WHERE (a.finished_at IS NULL AND (j.state NOT IN ({_LIVE}) OR a.number <> j.attempt))
           OR (j.state = 'succeeded' AND a.number = j.attempt AND a.state <> 'succeeded')"""
    ):
        same = number == attempt and state not in ("pending", "skipped", *LIVE)
        work.change(
            "UPDATE attempts SET state = ?, finished_at = ? WHERE job_id = ? AND number = ?",
            *(state if same else "lost", ended or work.now, job, number),
        )
        work.jobs[job].append(f"its attempt {number} had no end")
    return iter(())


def _dependencies(work: _Work) -> Iterator[str]:
    """What jobs wait for, as far as their configurations name it: none may start too early."""
    again = 0
    for job, group, state, config in work.rows("SELECT id, group_id, state, config FROM jobs"):
        for wanted in json.loads(config).get("depends_on", ()):
            parents = _named(work, job, group, wanted)
            if not parents and state == "pending":
                work.doom(job, f"{wanted.get('job') or wanted.get('group')}, which it waits for, was lost")
            for parent, of_group in parents:
                again += work.change(
                    "INSERT OR IGNORE INTO dependencies (job_id, parent_id, kind, of_group) VALUES (?, ?, ?, ?)",
                    *(job, parent, wanted.get("kind", DependencyKind.AFTEROK.value), of_group),
                )
    if again:
        yield f"dependencies: {_rows(again)} restored from the jobs' configurations."


def _named(work: _Work, job: int, group: int, wanted: dict[str, Any]) -> list[tuple[int, int | None]]:
    """The jobs that a dependency names, and the group that it names as a whole: what it had when `job` was stored."""
    if (whole := wanted.get("group")) is not None:
        return work.rows(
            "SELECT j.id, g.id FROM jobs AS j JOIN groups AS g ON g.id = j.group_id WHERE g.name = ? AND j.id < ?",
            *(whole, job),
        )
    name = wanted.get("job")
    if isinstance(name, int):
        return work.rows("SELECT id, NULL FROM jobs WHERE id = ?", name)
    elsewhere, slash, there = str(name).partition("/")
    if not slash:
        return work.rows("SELECT id, NULL FROM jobs WHERE group_id = ? AND name = ?", group, name)
    return work.rows(
        "SELECT j.id, NULL FROM jobs AS j JOIN groups AS g ON g.id = j.group_id WHERE g.name = ? AND j.name = ?",
        *(elsewhere, there),
    )


def _cancel(work: _Work) -> Iterator[str]:
    """End the pending jobs that cannot run as they were meant to."""
    cancelled: defaultdict[str, list[int]] = defaultdict(list)
    for job, why in sorted(work.doomed.items()):
        if work.change(
            "UPDATE jobs SET state = 'killed', finished_at = ?, wish = NULL, blocked_by = NULL, reason = ? "
            "WHERE id = ? AND state = 'pending'",
            *(work.now, f"cancelled by a repair: {why}", job),
        ):
            cancelled[why].append(job)
    for why, jobs in cancelled.items():
        yield f"Pending and cancelled, because {why}: {_ids(jobs)}."


def _queue(work: _Work) -> Iterator[str]:
    """What can be worked out anew: what blocks a job, its rank, since when it is ready, the next ids."""
    blocked = work.change(
        f"""UPDATE jobs SET blocked_by = u.parent_id FROM (
            SELECT j.id, max(u.parent_id) AS parent_id, max(u.parent_id = j.blocked_by) AS right
            FROM jobs AS j LEFT JOIN ({UNMET}) AS u ON u.job_id = j.id WHERE j.finished_at IS NULL GROUP BY j.id
        ) AS u WHERE u.id = jobs.id AND jobs.state = 'pending' AND CASE WHEN u.parent_id IS NULL
            THEN jobs.blocked_by IS NOT NULL ELSE ifnull(u.right, 0) = 0 END"""
    )
    if blocked:
        yield f"What {blocked} pending job{'s wait' if blocked > 1 else ' waits'} for was worked out anew."
    work.change(
        "UPDATE jobs SET ready_at = ? WHERE state = 'pending' AND blocked_by IS NULL AND ready_at IS NULL", work.now
    )
    ranked = work.change(
        f"UPDATE jobs SET rank = r.wanted FROM ({RANKS}) AS r WHERE r.id = jobs.id",
    )
    if ranked:
        yield f"The rank of {ranked} job{'s' if ranked > 1 else ''} was worked out anew."
    work.change(
        f"""UPDATE jobs SET {", ".join(f"{column} = {source}" for column, source in FROM_CONFIG.items())}
        WHERE id IN (SELECT id FROM ({SLOTS}))"""
    )
    work.change("UPDATE deliveries SET finished_at = NULL WHERE state = 'waiting'")
    work.change("UPDATE deliveries SET finished_at = ? WHERE state <> 'waiting' AND finished_at IS NULL", work.now)
    for table in ("groups", "jobs", "events", "deliveries"):
        (newest,) = work.rows(f"SELECT ifnull(max(id), 0) FROM {table}")[0]
        raise_sequence(work.sql, table, newest)


def _histories(work: _Work) -> Iterator[str]:
    """An event for each job that was touched, or whose history is broken: from here on it is whole again."""
    for job in broken_histories(work.sql):
        work.jobs[job].append("a part of its history is lost")
    for job, reasons in sorted(work.jobs.items()):
        work.change(
            """INSERT INTO events (at, group_id, job_id, attempt, kind, to_state, reason)
            SELECT ?, group_id, id, nullif(attempt, 0), ?, state, ? FROM jobs WHERE id = ?""",
            *(work.now, REPAIRED, "; ".join(dict.fromkeys(reasons)), job),
        )
    if work.jobs:
        yield f"An event in the history of {len(work.jobs)} jobs tells what was mended: {_ids(sorted(work.jobs))}."


def _rows(count: int) -> str:
    return f"{count} row{'' if count == 1 else 's'}"


def _ids(numbers: list[int]) -> str:
    """Ids as people write them: "1-4, 7, 9"; at most twenty stretches."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][1] + 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    shown = [f"{first}" if first == last else f"{first}-{last}" for first, last in runs[:20]]
    return ", ".join(shown) + (", …" if len(runs) > 20 else "")
