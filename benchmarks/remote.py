"""One round with many remote jobs, SkyPilot's stand-in at the seam: our own cost, beside what SkyPilot's SDK takes."""

from __future__ import annotations

import shutil
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.figures import Figure, Must
from metta_jobs import JobConfig
from metta_jobs.daemon.tick import tick
from metta_jobs.executors.sky.client import Answer
from metta_jobs.executors.sky.executor import SkyExecutor
from metta_jobs.job import RemoteConfig
from metta_jobs.testing import add, make_house

JOBS = 2_000
#: Seconds between two rounds: at each, the whole queue is asked for and has been answered.
PAUSE_S = 61.0


class Sky:
    """At the seam of SkyClient: launches are made at once, and the queue is what `records` holds."""

    def __init__(self) -> None:
        self.records: dict[int, dict[str, Any]] = {}
        self.polls = 0
        self._answers: list[Answer] = []
        self._tickets = 0

    def ask(self, do: str, **fields: Any) -> int:
        """Have it answered in the next round."""
        self._tickets += 1
        self._answers.append(Answer(self._tickets, do, getattr(self, f"_{do}")(**fields)))
        return self._tickets

    def answers(self) -> list[Answer]:
        """What was asked in the last round."""
        said, self._answers = self._answers, []
        return said

    def fileno(self) -> None:
        """No worker runs."""

    def close(self) -> None:
        """Nothing is held."""

    def _launch(self, name: str, marker: str, **rest: Any) -> dict[str, Any]:
        Path(marker).touch()
        number = len(self.records) + 1
        self.records[number] = {
            "job_id": number, "task_id": 0, "job_name": name, "status": "RUNNING", "schedule_state": "ALIVE",
            "failure_reason": None, "details": None, "submitted_at": 1.7e9, "start_at": 1.7e9, "end_at": None,
            "job_duration": 1.0, "recovery_count": 0, "last_recovered_at": None, "infra": "Kubernetes/one",
            "cloud": "Kubernetes", "region": "one", "zone": None, "resources": "1x[CPU:1+]",
            "cluster_resources": "1x(cpus=1, mem=4)", "accelerators": None, "pool": None, "priority": 500,
            "user_hash": "abcdef12", "user_name": "somebody",
        }  # fmt: skip
        return {"request_id": str(number)}

    def _requests(self, ids: list[str]) -> dict[str, Any]:
        return {one: {"status": "SUCCEEDED", "job_ids": [int(one)], "error": None} for one in ids}

    def _queue(self, job_ids: list[int] | None = None, **rest: Any) -> dict[str, Any]:
        self.polls += 1
        wanted = self.records if job_ids is None else job_ids
        return {"records": [dict(self.records[number]) for number in wanted], "complete": True}

    def _log(self, path: str, **rest: Any) -> dict[str, Any]:
        Path(path).write_text("hello\n")
        return {"bytes": 6}

    def _price(self, **rest: Any) -> dict[str, Any]:
        return {"hourly_usd": None}


def measure(quick: bool) -> list[Figure]:
    """Rounds in which all 2,000 have run on and three were recovered; rows written then, and when nothing is new."""
    turns, changed = 20 if quick else 100, 3
    with queue(JOBS) as (house, sky):
        quiet_rows = [rows_written(house, sky, 0, 0) for _ in range(5)]
        changed_rows = [rows_written(house, sky, turn, changed) for turn in range(1, 6)]
        samples = []
        for turn in range(6, 6 + turns):
            run_on(sky, turn, changed)
            polls, began = sky.polls, time.process_time()
            tick(house)  # asks
            house.clock.advance(1)
            answering = time.process_time()
            tick(house)  # takes in the answer
            ended = time.process_time()
            house.clock.advance(PAUSE_S)
            if sky.polls == polls:
                raise RuntimeError("the queue was not asked for in this round")
            samples.append(1000 * max(ended - answering, answering - began))
    what = f"one round with {JOBS:,} remote jobs"
    samples.sort()
    return [
        Figure(
            "remote.tick",
            f"{what}, {changed} of them changed: our CPU beside SkyPilot's",
            statistics.median(samples),
            "ms",
            Must("<", 100),
            f"median of {turns}; 9 of 10 within {samples[int(0.9 * len(samples))]:.0f}, at most {samples[-1]:.0f}",
            {"ms": samples},
        ),
        Figure(
            "remote.rows.quiet",
            f"{what}: rows written when nothing has changed",
            max(quiet_rows),
            "",
            Must("≤", 0),
            "though each job's running time has",
            {"rows": quiet_rows},
        ),
        Figure(
            "remote.rows.changed",
            f"{what}: rows written for each that has changed",
            max(changed_rows) / changed,
            "",
            Must("≤", 3),
            "its attempt's facts, why it is where it is, and an event that it was recovered",
            {"rows": changed_rows, "changed": changed},
        ),
    ]


@contextmanager
def queue(count: int) -> Iterator[tuple[Any, Sky]]:
    """A house with so many remote jobs that run."""
    folder = Path(tempfile.mkdtemp(prefix="house-")).resolve()
    house, sky = make_house(folder), Sky()
    executor = SkyExecutor(house.state_dir, sky, house.clock)  # type: ignore[arg-type]
    house.executors = {**house.executors, "skypilot": executor}
    remote = RemoteConfig(infra="k8s")
    try:
        add(house, *(JobConfig(name=f"j{n}", command=("train",), remote=remote) for n in range(count)), group="live")
        for _ in range(10_000):
            if not tick(house) and len(sky.records) == count:
                break
            house.clock.advance(1)
        for _ in range(10):  # until all were seen to run, and SkyPilot to have each once
            house.clock.advance(PAUSE_S)
            tick(house)
            house.clock.advance(1)
            tick(house)
        yield house, sky
    finally:
        house.store.close()
        shutil.rmtree(folder)


def run_on(sky: Sky, turn: int, changed: int) -> None:
    """All have run a minute longer; so many others than before have found new machines."""
    for record in sky.records.values():
        record["job_duration"] += 60.0
    for number in range(turn * changed, (turn + 1) * changed):
        sky.records[number % JOBS + 1] |= {"status": "RECOVERING", "recovery_count": turn}


def rows_written(house: Any, sky: Sky, turn: int, changed: int) -> int:
    """Rows that the daemon writes when it hears that so many have changed."""
    run_on(sky, turn, changed)
    with house.store.write() as connection:
        before = connection.total_changes
    tick(house)
    house.clock.advance(1)
    tick(house)
    house.clock.advance(PAUSE_S)
    with house.store.write() as connection:
        return int(connection.total_changes - before)
