from __future__ import annotations

import sqlite3
import time
from itertools import product
from pathlib import Path

import pytest

from metta_jobs.job import JobConfig
from metta_jobs.states import ARROWS, JobState
from metta_jobs.store import audit as store_audit
from metta_jobs.store.audit import MOST, audit, rows_and_history, slots
from tests.store.rows import ENDED_BADLY, ENDED_WELL, RUNNING, Rows, S, fresh_store


@pytest.fixture
def rows(tmp_path: Path) -> Rows:
    return Rows(fresh_store(tmp_path / "jobs.sqlite"))


def broken(rows: Rows) -> list[str]:
    with rows.store.read() as connection:
        return audit(connection)


def spoil(rows: Rows, statement: str) -> None:
    """Break something past the constraints, as a defect or a damaged page would."""
    connection = sqlite3.connect(rows.store.path, isolation_level=None)
    connection.execute("PRAGMA ignore_check_constraints = ON")
    connection.execute("DROP INDEX uq_attempts_live")
    assert connection.execute(statement).rowcount > 0, statement
    connection.close()


def fill(rows: Rows) -> None:
    """A queue with something of everything, and all of it right: 1 train, 2 failed twice, 3 waits for 1, 4 free, …"""
    rows.capacity(cpus=4, gpus=["GPU-a", "GPU-b"])
    one, two = rows.group("one", priority=3), rows.group("two")
    rows.job(one, "train", *RUNNING, gpus=["GPU-a"])
    rows.job(one, "fails", *ENDED_BADLY, S.PENDING, *ENDED_BADLY)
    rows.job(one, "eval", blocked_by=1)
    rows.job(one, "free", config=JobConfig(name="free", command=("true",), priority=2))
    rows.job(two, "skipped", S.SKIPPED)
    rows.job(two, "cancelled", S.KILLED)
    rows.job(two, "starts", S.LAUNCHING, gpus=["GPU-b"], share=0.5)
    rows.job(two, "shares", *RUNNING, gpus=["GPU-b"], share=0.5)
    rows.job(two, "cancelled-after-a-failure", *ENDED_BADLY, S.PENDING, S.KILLED)
    rows.job(two, "taken-back", S.LAUNCHING, S.PENDING, *ENDED_BADLY, S.PENDING, S.LAUNCHING, S.PENDING)
    rows.job(two, "waited-too-long", S.TIMED_OUT)
    rows.job(two, "moved")
    rows.depends(3, 1)
    rows.depends(5, 2)
    rows.run("UPDATE jobs SET rank = 3 WHERE name = 'moved'")
    rows.insert("events", at="x", group_id=two, job_id=12, kind="edit", reason="moved before 4")


#: What breaks a promise in the queue of `fill`, and what is told of it.
BREAKS = [
    ("UPDATE jobs SET finished_at = NULL WHERE id = 2", "Job 2 is failed, but its end is not recorded."),
    ("UPDATE attempts SET finished_at = 'x' WHERE job_id = 1", "Attempt 1.1 is running, but its end is x."),
    ("UPDATE attempts SET state = 'skipped' WHERE job_id = 2 AND number = 1", "Attempt 2.1 is skipped, but"),
    ("UPDATE attempts SET state = 'running', finished_at = NULL WHERE job_id = 2", "Job 2 has 2 live attempts."),
    ("UPDATE attempts SET state = 'launching' WHERE job_id = 1", "Job 1 is running, but its newest attempt, 1, is"),
    ("DELETE FROM attempts WHERE job_id = 1", "Job 1 is running, but its newest attempt, 1, is not recorded."),
    (
        "UPDATE attempts SET state = 'running', finished_at = NULL WHERE job_id = 2 AND number = 2",
        "Attempt 2.2 has not ended, but its job is failed.",
    ),
    ("UPDATE jobs SET attempt = 3 WHERE id = 2", "Job 2 counts 3 attempts, but 2 are recorded, up to number 2."),
    ("UPDATE attempts SET number = 4 WHERE job_id = 2 AND number = 2", "but 2 are recorded, up to number 4."),
    ("UPDATE jobs SET blocked_by = NULL WHERE id = 3", "Job 3 waits for job 1, but is free to start."),
    ("UPDATE jobs SET blocked_by = 1 WHERE id = 4", "Job 4 is to wait for job 1, but nothing that it depends on"),
    ("UPDATE jobs SET blocked_by = 2 WHERE id = 3", "Job 3 is to wait for job 2, but what it waits for is job 1."),
    ("UPDATE jobs SET wish = 'kill' WHERE id = 6", "Job 6 is killed, but somebody's wish to end it is still open."),
    ("UPDATE jobs SET rank = 4 WHERE id = 4", "Job 4 has rank 4, but its priority and its group's are 5 together."),
    ("UPDATE groups SET priority = 0 WHERE id = 1", "Job 4 has rank 5, but its priority and its group's are 2"),
    (
        "UPDATE jobs SET cpus = 2 WHERE id = 4",
        "Job 4 is queued for 0 GPUs, 2 CPU slots and 0 GB, which is not what",
    ),
    ("UPDATE jobs SET queue_timeout_s = 2 WHERE id = 4", "Job 4 is queued for"),
    ("UPDATE jobs SET ready_at = NULL WHERE id = 4", "Job 4 is free to start, but since when is not recorded."),
    ("UPDATE events SET to_state = 'lost' WHERE job_id = 1 AND to_state = 'launching'", "The history of job 1 is"),
    ("DELETE FROM events WHERE job_id = 2 AND to_state = 'pending'", "The history of job 2 is broken at event"),
    ("DELETE FROM events WHERE job_id = 1 AND to_state = 'running'", "Job 1 is running, but its history ends with"),
    ("DELETE FROM events WHERE job_id = 4", "Job 4 is pending, but its history ends with nothing."),
    ("UPDATE events SET attempt = 1 WHERE job_id = 2", "Job 2 launched its attempt 1 2 times."),
    ("DELETE FROM sqlite_sequence WHERE name = 'jobs'", "The table jobs would give id 12 out again."),
    ("UPDATE jobs SET config = substr(config, 9) WHERE id = 2", "config of job 2 cannot be read: it is no JSON."),
    ("UPDATE attempts SET gpus = '[' WHERE job_id = 1", "gpus of attempt 1.1 cannot be read: it is no JSON."),
    ("DELETE FROM jobs WHERE id = 2", "In events, 8 rows"),
    ("DELETE FROM groups WHERE id = 2", "In jobs, 8 rows"),
    ("UPDATE capacity SET cpus = 2", "Running jobs hold 3 CPU slots, but there are 2."),
    (
        "UPDATE attempts SET memory_gb = 12 WHERE job_id IN (1, 7)",
        "Running jobs hold 24 GB of memory, but there are",
    ),
    (
        "UPDATE attempts SET gpu_share = 0.6 WHERE job_id = 8",
        "GPU GPU-b is given out 1.1 times over, to jobs 7, 8.",
    ),
    ("INSERT INTO deliveries VALUES (1, 1, 1, '{}', '{}', 'waiting', 0, NULL, 'x', NULL, 'y')", "Message 1 of a"),
]


def test_a_queue_with_something_of_everything_is_sound(rows: Rows) -> None:
    fill(rows)
    assert broken(rows) == []


@pytest.mark.parametrize(("statement", "sentence"), BREAKS)
def test_each_broken_promise_is_told(rows: Rows, statement: str, sentence: str) -> None:
    fill(rows)
    spoil(rows, statement)
    assert any(sentence in told for told in broken(rows)), broken(rows)


def test_only_arrows_of_the_state_machine_are_legal_histories(rows: Rows, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_audit, "MOST", 1000)
    group, names = rows.group("g"), {}
    for here, there in product(JobState, JobState):
        path = {S.PENDING: (), S.LAUNCHING: (S.LAUNCHING,), S.RUNNING: RUNNING, S.SKIPPED: (S.SKIPPED,)}
        job = rows.job(group, f"{here}-{there}", *path.get(here, (S.LAUNCHING, here)))
        rows.insert("events", at="x", group_id=group, job_id=job, kind="state", from_state=here, to_state=there)
        names[job] = (here, there)
    told = broken(rows)
    legal = {job for job in names if not any(f"history of job {job} is broken" in line for line in told)}
    assert {names[job] for job in legal} == {(here, there) for here, found in ARROWS.items() for there in found}


def test_a_history_may_begin_anew_where_a_repair_says_so(rows: Rows) -> None:
    fill(rows)
    spoil(rows, "DELETE FROM events WHERE job_id IN (1, 2) AND to_state <> 'launching'")
    assert broken(rows)
    rows.insert("events", at="x", group_id=1, job_id=1, kind="repaired", to_state="running")
    assert any("history of job 2 is broken" in line for line in broken(rows))
    rows.insert("events", at="x", group_id=1, job_id=2, kind="repaired", to_state="failed")
    assert broken(rows) == []
    rows.insert("events", at="x", group_id=1, job_id=2, kind="state", from_state="running", to_state="failed")
    assert any("history of job 2 is broken" in line for line in broken(rows))


@pytest.mark.parametrize(
    ("ends", "blocker", "sound"),
    [
        (((), ()), 1, True),
        (((), ()), 2, True),
        (((), ()), None, False),
        ((ENDED_BADLY, ()), 2, True),
        ((ENDED_BADLY, ()), 1, False),  # that one will not end again, so nobody would look at the other's end
        ((ENDED_BADLY, ()), None, False),  # one has not ended, so it waits, although one has failed already
        ((ENDED_BADLY, ENDED_WELL), None, True),
        ((ENDED_BADLY, ENDED_WELL), 1, False),
        ((ENDED_WELL, ENDED_WELL), 1, True),  # can no longer be met: to be skipped
        ((ENDED_WELL, ENDED_WELL), None, False),
        (((S.SKIPPED,), ENDED_WELL), None, True),
    ],
)
def test_a_whole_group_that_must_not_succeed_is_judged_when_all_of_it_has_ended(
    rows: Rows, ends: tuple[tuple[JobState, ...], ...], blocker: int | None, sound: bool
) -> None:
    group, other = rows.group("g"), rows.group("other")
    for number, path in enumerate(ends):
        rows.job(group, f"parent{number}", *path)
    child = rows.job(other, "child", blocked_by=blocker)
    for parent in (1, 2):
        rows.depends(child, parent, "afternotok", of_group=group)
    assert (broken(rows) == []) == sound


@pytest.mark.parametrize(
    ("kind", "path", "waits"),
    [
        ("afterok", (), True),
        ("afterok", RUNNING, True),
        ("afterok", ENDED_WELL, False),
        ("afterok", ENDED_BADLY, True),
        ("afterany", RUNNING, True),
        ("afterany", ENDED_BADLY, False),
        ("afternotok", RUNNING, True),
        ("afternotok", ENDED_BADLY, False),
        ("afternotok", ENDED_WELL, True),
    ],
)
@pytest.mark.parametrize("of_group", [None, 1])
def test_what_a_job_waits_for(
    rows: Rows, kind: str, path: tuple[JobState, ...], waits: bool, of_group: int | None
) -> None:
    group = rows.group("g")
    parent = rows.job(group, "parent", *path)
    child = rows.job(group, "child", blocked_by=parent)
    rows.depends(child, parent, kind, of_group)
    assert (broken(rows) == []) == waits
    rows.run("UPDATE jobs SET blocked_by = NULL, ready_at = 'x' WHERE id = ?", child)
    assert (broken(rows) == []) != waits


def test_attempts_of_one_lane_count_once_as_the_largest_of_them(rows: Rows) -> None:
    group = rows.group("g")
    rows.capacity(cpus=3, gpus=["GPU-a"])
    for name, cpus in (("a", 2), ("b", 1), ("c", 2)):
        config = JobConfig(name=name, command=("true",), cpus=cpus)
        rows.job(group, name, *RUNNING, lane="lane-1", gpus=["GPU-a"], config=config)
    alone = rows.job(group, "alone", *RUNNING)
    assert broken(rows) == []
    rows.run("UPDATE attempts SET cpus = 2, gpus = '[\"GPU-a\"]', gpu_share = 0.25 WHERE job_id = ?", alone)
    assert broken(rows) == [
        "Running jobs hold 4 CPU slots, but there are 3.",
        "GPU GPU-a is given out 1.25 times over, to jobs 1, 2, 3, 4.",
    ]
    with rows.store.read() as connection:
        assert len(slots(connection)) == 2
        assert rows_and_history(connection) == []


def test_what_runs_elsewhere_holds_nothing_here(rows: Rows) -> None:
    rows.capacity(cpus=1)
    group = rows.group("g")
    for name in "abc":
        rows.job(group, name, *RUNNING)
    rows.run("UPDATE attempts SET executor = 'skypilot' WHERE job_id > 1")
    assert broken(rows) == []


def test_many_of_a_kind_are_counted_not_listed(rows: Rows) -> None:
    group = rows.group("g")
    for number in range(MOST + 5):
        rows.job(group, f"j{number}")
    rows.run("UPDATE jobs SET rank = 7")
    told = broken(rows)
    assert len(told) == MOST + 1
    assert told[-1].startswith("… and 5 more like: Job 1 has rank 7")


def test_ten_thousand_jobs_are_audited_in_a_moment(rows: Rows) -> None:
    jobs = 10_000
    rows.job(rows.group("g"), "first", *ENDED_WELL)
    connection = sqlite3.connect(rows.store.path)
    connection.executescript(
        f"""
        CREATE TEMP TABLE n AS WITH RECURSIVE n(i) AS (SELECT 2 UNION ALL SELECT i + 1 FROM n WHERE i < {jobs})
        SELECT i FROM n;
        INSERT INTO jobs (id, group_id, name, state, config, environment, attempt, place, created_at, finished_at)
        SELECT i, 1, 'j' || i, state, config, environment, attempt, i, created_at, finished_at FROM jobs, n;
        INSERT INTO attempts (job_id, number, state, executor, gpus, cpus, claimed_at, finished_at)
        SELECT i, number, state, executor, gpus, cpus, claimed_at, finished_at FROM attempts, n;
        INSERT INTO events (at, group_id, job_id, attempt, kind, from_state, to_state)
        SELECT at, 1, i, attempt, kind, from_state, to_state FROM events, n;
        INSERT INTO dependencies SELECT i, i - 1, 'afterok', NULL FROM n;
        """
    )
    connection.close()
    begin = time.process_time()
    assert broken(rows) == []
    assert (
        time.process_time() - begin < 20
    )  # 0.1 s of our own CPU; an audit row by row takes minutes, whatever the load
