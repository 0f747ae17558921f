"""Rows put straight into a database of the newest schema, as a correct daemon would have left them."""

from __future__ import annotations

import atexit
import functools
import itertools
import json
import shutil
import sqlite3
import tempfile
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

from metta_jobs.job import JobConfig
from metta_jobs.states import LIVE, JobState
from metta_jobs.store.engine import Store
from metta_jobs.store.words import to_json, to_text

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
S = JobState


@functools.cache
def _template() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="metta-template-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    path = folder / "jobs.sqlite"
    Store(path).close()
    return path


def fresh_store(path: Path) -> Store:
    """An empty database at `path`; the migrations are run once for all tests."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    shutil.copy(_template(), path)
    return Store(path)


def ago(**span: float) -> datetime:
    """A moment before NOW."""
    return NOW - timedelta(**span)


class Rows:
    """Puts rows in. Each method commits; times are those of `at`."""

    def __init__(self, store: Store) -> None:
        self.store = store

    def run(self, statement: str, *values: object) -> int:
        """Run one statement and return the id of its row. Constraints between tables are not asked."""
        connection = sqlite3.connect(self.store.path)
        connection.execute("PRAGMA synchronous = OFF")
        try:
            with connection:
                return connection.execute(statement, values).lastrowid or 0
        finally:
            connection.close()

    def insert(self, table: str, **values: object) -> int:
        """Insert one row and return its id."""
        places = ", ".join("?" for _ in values)
        return self.run(f"INSERT INTO {table} ({', '.join(values)}) VALUES ({places})", *values.values())

    def capacity(self, cpus: float = 4, gpus: Sequence[str] = (), memory_gb: float = 16) -> None:
        """What the machine has."""
        self.insert(
            "capacity", id=1, cpus=cpus, memory_gb=memory_gb, gpus=to_json(list(gpus)), busy_gpus="{}",
            reserve_after_s=600, found_at=to_text(NOW),
        )  # fmt: skip

    def group(self, name: str, *, at: datetime = NOW, priority: int = 0) -> int:
        """A group without jobs."""
        return self.insert("groups", name=name, created_at=to_text(at), priority=priority)

    def job(
        self,
        group: int,
        name: str,
        *states: JobState,
        at: datetime = NOW,
        environment: str = "h",
        blocked_by: int | None = None,
        gpus: Sequence[str] = (),
        lane: str = "",
        share: float = 1,
        config: JobConfig | None = None,
    ) -> int:
        """A job that went through these states after it was submitted, with its attempts and events."""
        config = config or JobConfig(name=name, command=("true",))
        moment, path = to_text(at), (S.PENDING, *states)
        self.run("INSERT OR IGNORE INTO environments VALUES (?, '{}', '[]')", environment)
        steps = list(itertools.pairwise(path))
        attempt = path.count(S.LAUNCHING) - steps.count((S.LAUNCHING, S.PENDING))
        job = self.insert(
            "jobs", group_id=group, name=name, state=path[-1], config=json.dumps(config.model_dump(mode="json")),
            environment=environment, attempt=attempt, place=0, blocked_by=blocked_by, created_at=moment,
            gpus=config.slots[0], cpus=config.slots[1], memory_gb=config.slots[2], executor=config.executor,
            queue_timeout_s=config.queue_timeout_s,
            ready_at=None if blocked_by else moment,
            finished_at=moment if path[-1].terminal else None,
        )  # fmt: skip
        self.run(
            "UPDATE jobs SET place = id, rank = ? + (SELECT priority FROM groups WHERE id = group_id) WHERE id = ?",
            config.priority, job,
        )  # fmt: skip
        self.insert("events", at=moment, group_id=group, job_id=job, kind="submitted", to_state=S.PENDING)
        number = 0
        for here, there in steps:
            number += there is S.LAUNCHING
            self.insert(
                "events", at=moment, group_id=group, job_id=job, kind="state", from_state=here, to_state=there,
                attempt=number or None,
            )  # fmt: skip
            if there is S.LAUNCHING:
                self.insert(
                    "attempts", job_id=job, number=number, state=there, executor=config.executor,
                    gpus=to_json(list(gpus)), gpu_share=share, lane=lane, cpus=config.cpus,
                    memory_gb=config.memory_gb, claimed_at=moment,
                )  # fmt: skip
            elif (here, there) == (S.LAUNCHING, S.PENDING):  # taken back before it started
                self.run("DELETE FROM attempts WHERE job_id = ? AND number = ?", job, number)
                number -= 1
            elif here in LIVE:
                end = moment if there.terminal else None
                self.run(
                    "UPDATE attempts SET state = ?, finished_at = ? WHERE job_id = ? AND number = ?",
                    there, end, job, number,
                )  # fmt: skip
        return job

    def depends(self, job: int, parent: int, kind: str = "afterok", of_group: int | None = None) -> None:
        """Let a job wait for another."""
        self.insert("dependencies", job_id=job, parent_id=parent, kind=kind, of_group=of_group)


ENDED_WELL = (S.LAUNCHING, S.RUNNING, S.SUCCEEDED)
ENDED_BADLY = (S.LAUNCHING, S.RUNNING, S.FAILED)
RUNNING = (S.LAUNCHING, S.RUNNING)
