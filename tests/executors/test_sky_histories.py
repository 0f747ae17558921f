"""Whatever SkyPilot answers, forgets, repeats or keeps to itself: the daemon's promises hold for remote jobs."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from metta_jobs.daemon.house import House
from metta_jobs.daemon.tick import tick
from metta_jobs.executors.sky.client import Answer
from metta_jobs.executors.sky.executor import SkyExecutor
from metta_jobs.job import JobConfig, RemoteConfig
from metta_jobs.states import JobState
from metta_jobs.store import wishes
from metta_jobs.store.audit import audit
from metta_jobs.testing import ManualClock, add, make_house, views
from tests.executors.seam_fake import FakeSky

ENDED = ("SUCCEEDED", "FAILED", "FAILED_SETUP", "FAILED_NO_RESOURCE", "FAILED_PRECHECKS", "FAILED_CONTROLLER")
GOES_ON = ("PENDING", "SUBMITTED", "STARTING", "RUNNING", "WINDING_DOWN", "RECOVERING", "HIBERNATING", "", None)
NULLABLE = ("schedule_state", "failure_reason", "details", "job_duration", "recovery_count", "infra", "job_name")
MOODS = (None, "down", "lost", "unsent", "dying", "error")


class Weather(FakeSky):
    """A SkyPilot on a bad day: answers come late, twice sent, without some fields, or not at all."""

    def __init__(self) -> None:
        super().__init__()
        self.doubling = self.failing = False
        self.blank: set[str] = set()
        self.silent = False  # answers pile up
        self.twins: set[int] = set()

    def ask(self, do: str, **fields: Any) -> int:
        if self.mood == "error" and do != "launch":
            self._tickets += 1
            self._answers.append(Answer(self._tickets, do, None, "RuntimeError: something", "error"))
            return self._tickets
        return super().ask(do, **fields)

    def answers(self) -> list[Answer]:
        return [] if self.silent else super().answers()

    def _launch(self, name: str, task: Any, marker: str, **rest: Any) -> dict[str, Any]:
        value = super()._launch(name, task, marker, **rest)
        number = max(self.jobs)
        if self.doubling:
            self.jobs[number + 1] = {**self.jobs[number], "job_id": number + 1}
            self.twins |= {number, number + 1}
        if self.failing:
            self.jobs[number] |= {"schedule_state": "INACTIVE", "submitted_at": None}
            self.requests[value["request_id"]] = {"status": "FAILED", "job_ids": None, "error": "no luck"}
        return value

    def _queue(self, *args: Any, **fields: Any) -> dict[str, Any]:
        value = super()._queue(*args, **fields)
        for record in value["records"]:
            record |= dict.fromkeys(self.blank - ({"job_name"} if "name_match" in fields else set()))
        value["records"] += [{"job_id": None}, {}]
        return value

    def _cancel(self, job_ids: list[int]) -> dict[str, Any]:
        assert not [number for number in job_ids if "metta-" not in self.jobs[number]["job_name"]], "somebody else's"
        return super()._cancel(job_ids)

    def live(self) -> dict[str, list[int]]:
        """Managed jobs that have not ended and that nobody is ending, by name."""
        found: dict[str, list[int]] = {}
        for number, job in self.jobs.items():
            over = job["status"] in (*ENDED, "CANCELLED", "CANCELLING")
            if not over and job["job_name"].startswith("metta-"):
                found.setdefault(job["job_name"], []).append(number)
        return found


class RemoteHistories(RuleBasedStateMachine):
    """A house whose jobs are all remote, on a clock that the test turns."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.sky = Weather()
        self.house = make_house(Path(self.folder.name))
        self.names = 0
        self.wiped: list[str] = []
        self.ended: dict[tuple[int, int], tuple[Any, ...]] = {}
        self.doubled = False
        self.new_daemon()
        self.submit(2, None)
        for _ in range(3):
            self.round(1.0)

    @property
    def clock(self) -> ManualClock:
        assert isinstance(self.house.clock, ManualClock)
        return self.house.clock

    def new_daemon(self) -> None:
        self.sky._answers.clear()
        old = self.house
        executor = SkyExecutor(old.state_dir, self.sky, old.clock)  # type: ignore[arg-type]
        executors = {"local": old.executors["local"], "skypilot": executor}
        self.house = House(old.store, old.state_dir, executors, old.clock, old.machine, old.readings)

    def ids(self) -> list[int]:
        with self.house.store.read() as connection:
            return [row["id"] for row in connection.execute("SELECT id FROM jobs ORDER BY id")]

    def running(self) -> set[str]:
        """Names of managed jobs whose attempts have not ended."""
        found = views(self.house, *self.ids())
        return {view.remote.managed_name or "" for view in found if view.remote is not None and view.state.live}

    def live_jobs(self) -> list[int]:
        return sorted(number for numbers in self.sky.live().values() for number in numbers)

    # -------------------------------------------------------------------------------------------------- people

    @rule(count=st.integers(1, 3), queue_timeout_s=st.sampled_from([None, None, 120.0]))
    def submit(self, count: int, queue_timeout_s: float | None) -> None:
        for _ in range(count):
            self.names += 1
            job = JobConfig(
                name=f"j{self.names}",
                command=("train",),
                remote=RemoteConfig(infra="k8s"),
                queue_timeout_s=queue_timeout_s,
            )
            add(self.house, job, group=f"g{self.names}")
        for _ in range(2):
            self.round(1.0)

    @rule(which=st.integers(0, 20))
    def kill(self, which: int) -> None:
        if ids := self.ids():
            with self.house.store.write() as connection:
                wishes.wish_kill(connection, self.clock.now(), [ids[which % len(ids)]])

    # -------------------------------------------------------------------------------------------------- SkyPilot

    @rule(mood=st.sampled_from(MOODS))
    def falls_into(self, mood: str | None) -> None:
        before = self.observed() if mood == "down" else None
        self.sky.mood, self.sky.down = (None, True) if mood == "down" else (mood, False)
        if before is not None:
            self.outage(before)

    def outage(self, before: list[tuple[Any, ...]]) -> None:
        """What was on its way arrives; from then on no state changes, however long it takes."""
        for _ in range(2):
            self.round(1.0)
        before = self.observed()
        for seconds in (5.0, 60.0, 700.0, 3600.0):
            self.round(seconds)
        after = self.observed()
        launching = [row for row in before if row[1] is not JobState.PENDING]
        assert [row for row in after if row[0] in {r[0] for r in launching}] == launching

    @rule(which=st.integers(0, 20), status=st.sampled_from(GOES_ON), recoveries=st.sampled_from([None, 0, 1, 2]))
    def goes_on(self, which: int, status: str | None, recoveries: int | None) -> None:
        if numbers := self.live_jobs():
            fields = {"recovery_count": recoveries, "schedule_state": "ALIVE", "job_duration": 3.0}
            self.sky.set(numbers[which % len(numbers)], status, **fields)  # type: ignore[arg-type]

    @rule(which=st.integers(0, 20), status=st.sampled_from([*ENDED, "FAILED", "SUCCEEDED", "CANCELLED"]))
    def ends(self, which: int, status: str) -> None:
        if numbers := self.live_jobs():
            number = numbers[which % len(numbers)]
            if status in ("FAILED", "SUCCEEDED"):
                self.sky.end(number, 3 if status == "FAILED" else 0)
            self.sky.set(number, status)

    @rule()
    def winds_up_cancellations(self) -> None:
        for job in self.sky.jobs.values():
            if job["status"] == "CANCELLING":
                job["status"] = "CANCELLED"

    @rule(blank=st.sets(st.sampled_from(NULLABLE)))
    def leaves_out_fields(self, blank: set[str]) -> None:
        self.sky.blank = blank

    @rule(which=st.integers(0, 20), rounds=st.integers(1, 8))
    def leaves_out_a_record(self, which: int, rounds: int) -> None:
        """For less than a minute: then it is there again."""
        if numbers := self.live_jobs():
            self.sky.hidden = {numbers[which % len(numbers)]}
            for _ in range(rounds):
                self.round(5.0)
            self.sky.hidden = set()
            self.round(61.0)
            self.round(1.0)

    @rule(doubling=st.booleans(), failing=st.booleans())
    def launches_go_wrong(self, doubling: bool, failing: bool) -> None:
        self.sky.doubling, self.sky.failing = doubling, failing

    @rule(slow=st.booleans())
    def takes_its_time(self, slow: bool) -> None:
        self.sky.slow_ids = slow

    @rule(silent=st.booleans())
    def keeps_its_answers(self, silent: bool) -> None:
        self.sky.silent = silent

    @rule()
    def is_started_anew(self) -> None:
        """It knows no request any more, and what it had not begun stays where it is."""
        self.sky.requests.clear()
        for job in self.sky.jobs.values():
            if job["status"] == "PENDING" and "job_duration" not in job:
                job |= {"schedule_state": "INACTIVE", "submitted_at": None}

    @rule(which=st.integers(0, 20))
    def is_set_up_anew(self, which: int) -> None:
        """It was away, and an id is somebody else's then."""
        if numbers := self.live_jobs():
            before, self.sky.down, self.sky.silent = self.sky.down, True, False
            for _ in range(4):
                self.round(61.0)
            self.sky.down = before
            job = self.sky.jobs[numbers[which % len(numbers)]]
            self.wiped.append(job["job_name"])
            job |= {"job_name": "somebody-elses", "status": "RUNNING"}

    # -------------------------------------------------------------------------------------------------- time

    def round(self, seconds: float) -> None:
        tick(self.house)
        self.clock.advance(seconds)
        tick(self.house)

    @rule(seconds=st.sampled_from([1.0, 5.0, 20.0, 70.0, 700.0]), rounds=st.integers(1, 4))
    def rounds(self, seconds: float, rounds: int) -> None:
        for _ in range(rounds):
            self.round(seconds)

    @rule()
    def the_daemon_is_killed(self) -> None:
        self.new_daemon()

    @rule()
    def the_daemon_rests(self) -> None:
        self.house.executors["skypilot"].rest()

    # -------------------------------------------------------------------------------------------------- what must hold

    def observed(self) -> list[tuple[Any, ...]]:
        return [(view.id, view.state, view.attempt) for view in views(self.house, *self.ids())]

    @invariant()
    def every_promise_holds(self) -> None:
        with self.house.store.read() as connection:
            assert audit(connection) == []
            rows = connection.execute("SELECT job_id, number, state, exit_code, finished_at FROM attempts").fetchall()
        live = {(int(name.split("-")[2]), int(name.split("-")[3])): ids for name, ids in self.sky.live().items()}
        for row in rows:
            key, end = (row["job_id"], row["number"]), tuple(row)
            if row["finished_at"] is not None:
                known = self.ended.setdefault(key, end)
                assert known == end, "what has ended stays as it is"
                others = [number for number in live.get(key, []) if number not in self.sky.twins]
                assert not others, f"job {key} ended as {row['state']}, and managed jobs {others} live"
        assert self.ended.keys() <= {(row["job_id"], row["number"]) for row in rows}

    @invariant()
    def no_end_without_evidence(self) -> None:
        for view in views(self.house, *self.ids()):
            if view.state is JobState.SUCCEEDED:
                assert view.remote is not None and view.remote.managed_id is not None
                assert self.sky.jobs[view.remote.managed_id]["status"] == "SUCCEEDED"

    @invariant()
    def nothing_is_sent_twice(self) -> None:
        """A name is launched again only when what it had before was lost before it began, and was cancelled; or when
        SkyPilot knows neither the job nor that it was asked for it."""
        for name in set(self.sky.launches):
            lost = [job for job in self.sky.jobs.values() if job["job_name"] == name and job["status"] == "CANCELLED"]
            assert self.sky.launches.count(name) <= 1 + len(lost) + self.wiped.count(name), name

    def teardown(self) -> None:
        try:
            self.comes_to_rest()
        finally:
            self.house.store.close()
            self.folder.cleanup()

    def comes_to_rest(self) -> None:
        """With SkyPilot well again everything ends, and what was killed has left nothing."""
        sky = self.sky
        sky.mood, sky.down, sky.silent, sky.slow_ids, sky.blank = None, False, False, False, set()
        sky.doubling = sky.failing = False
        for turn in range(150):
            self.round(5.0 if turn % 5 else 61.0)
            self.winds_up_cancellations()
            for number in self.live_jobs():
                job = sky.jobs[number]
                if job.get("schedule_state") == "INACTIVE" and job.get("submitted_at") is None:
                    continue  # nobody works on it any more
                if turn == 20:
                    twice = {name: both for name, both in sky.live().items() if len(both) > 1}
                    assert self.running() & twice.keys() == set(), "two managed jobs of one attempt go on"
                if turn > 20:
                    sky.end(number, 0)
                elif not job.get("job_duration"):
                    sky.set(number, "RUNNING", job_duration=1.0)
            self.every_promise_holds()
            self.nothing_is_sent_twice()
            if turn > 25 and all(view.state.terminal for view in views(self.house, *self.ids())):
                break
        left = [
            (view.id, view.state, view.reason) for view in views(self.house, *self.ids()) if not view.state.terminal
        ]
        assert left == []
        killed = {view.id for view in views(self.house, *self.ids()) if view.state is JobState.KILLED}
        still = {name: numbers for name, numbers in sky.live().items() if int(name.split("-")[2]) in killed}
        assert still == {}


TestRemoteHistories = RemoteHistories.TestCase
TestRemoteHistories.settings = settings(
    # The same histories each time, so that a change is judged by what it changed; METTA_EXPLORE=1 looks for new ones.
    derandomize="METTA_EXPLORE" not in os.environ,
    max_examples=40,
    stateful_step_count=30,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much],
)
