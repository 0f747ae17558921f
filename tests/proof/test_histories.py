"""Whatever people, programs, clocks and crashes do in whatever order: every history that can be reached is legal."""

from __future__ import annotations

import tempfile
from pathlib import Path

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from metta_jobs.daemon.house import House
from metta_jobs.daemon.tick import tick
from metta_jobs.errors import InvalidInput
from metta_jobs.job import Dependency, JobConfig
from metta_jobs.policy import GroupConfig, Hook, RetryPolicy
from metta_jobs.states import DependencyKind
from metta_jobs.store import edit, wishes
from metta_jobs.store.audit import audit
from metta_jobs.testing import FakeExecutor, ManualClock, add, make_house

GROUPS = ("g", "h", "k")
kinds = st.sampled_from(DependencyKind)
a_group = st.sampled_from(GROUPS)
some_ids = st.lists(st.integers(1, 40), min_size=1, max_size=4)


class Histories(RuleBasedStateMachine):
    """A house of two GPUs and three CPU slots, with people in it."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.house = make_house(Path(self.folder.name), cpus=3, gpus=("0", "1"), reserve_after_s=100)
        self.names = 0
        self.paused: set[str] = set()

    @property
    def executor(self) -> FakeExecutor:
        executor = self.house.executors["local"]
        assert isinstance(executor, FakeExecutor)
        return executor

    @property
    def clock(self) -> ManualClock:
        assert isinstance(self.house.clock, ManualClock)
        return self.house.clock

    def _ids(self, wanted: list[int]) -> list[int]:
        with self.house.store.read() as connection:
            return [row["id"] for row in connection.execute("SELECT id FROM jobs") if row["id"] in wanted]

    # ---------------------------------------------------------------------------------------------- people

    @rule(
        group=a_group,
        parents=st.lists(st.tuples(st.integers(1, 40), kinds), max_size=3),
        whole=st.none() | st.tuples(a_group, kinds),
        gpus=st.sampled_from([0, 0, 0.5, 1, 2]),
        cpus=st.sampled_from([0, 1, 1, 2, 3]),
        priority=st.integers(-2, 2),
        tries=st.integers(1, 3),
        queue_timeout_s=st.sampled_from([None, None, 50.0]),
        hook=st.booleans(),
    )
    def submit(
        self,
        group: str,
        parents: list[tuple[int, DependencyKind]],
        whole: tuple[str, DependencyKind] | None,
        gpus: float,
        cpus: float,
        priority: int,
        tries: int,
        queue_timeout_s: float | None,
        hook: bool,
    ) -> None:
        known = set(self._ids([job_id for job_id, _ in parents]))
        chosen = {job_id: kind for job_id, kind in parents if job_id in known}
        depends = [Dependency(job=job_id, kind=kind) for job_id, kind in chosen.items()]
        if whole is not None:
            depends.append(Dependency(group=whole[0], kind=whole[1]))
        self.names += 1
        config = JobConfig(
            name=f"j{self.names}",
            command=("x",),
            gpus=gpus,
            cpus=cpus,
            priority=priority,
            depends_on=tuple(depends),
            queue_timeout_s=queue_timeout_s,
            retry=RetryPolicy(max_attempts=tries, backoff_s=7) if tries > 1 else None,
            on_end=(Hook(command=("true",)),) if hook else (),
        )
        try:
            add(self.house, config, group=group)
        except InvalidInput:
            return  # its own group, one that does not exist, or the same job twice

    @rule(wanted=some_ids, force=st.booleans())
    def kill(self, wanted: list[int], force: bool) -> None:
        ids = self._ids(wanted)
        with self.house.store.write() as connection:
            wishes.wish_kill(connection, self.clock.now(), ids, force=force)

    @rule(wanted=some_ids)
    def retry(self, wanted: list[int]) -> None:
        ids = self._ids(wanted)
        with self.house.store.write() as connection:
            wishes.wish_retry(connection, self.clock.now(), ids)

    @rule(wanted=some_ids, before=st.none() | st.integers(1, 40))
    def move(self, wanted: list[int], before: int | None) -> None:
        ids = [job_id for job_id in self._ids(wanted) if job_id != before]
        there = before is None or self._ids([before])
        with self.house.store.write() as connection:
            if ids and there:
                edit.place_jobs(connection, self.clock.now(), ids, before=before)

    @rule(wanted=st.integers(1, 40), gpus=st.sampled_from([0, 1]), priority=st.integers(-3, 3))
    def edit_job(self, wanted: int, gpus: float, priority: int) -> None:
        ids = self._ids([wanted])
        with self.house.store.write() as connection:
            for job_id in ids:
                config = edit.config_of(connection, job_id).model_copy(update={"gpus": gpus, "priority": priority})
                edit.edit_job(connection, self.clock.now(), job_id, config, "gpus", pending_only=True)

    @rule(group=a_group, paused=st.booleans())
    def pause(self, group: str, paused: bool) -> None:
        with self.house.store.write() as connection:
            row = connection.execute("SELECT id FROM groups WHERE name = ?", (group,)).fetchone()
            if row is not None:
                edit.pause_group(connection, self.clock.now(), row["id"], paused=paused)
                (self.paused.add if paused else self.paused.discard)(group)

    @rule(
        group=a_group,
        parallel=st.none() | st.integers(1, 2),
        failures=st.none() | st.integers(1, 2),
        priority=st.integers(-3, 3),
    )
    def limit(self, group: str, parallel: int | None, failures: int | None, priority: int) -> None:
        with self.house.store.write() as connection:
            row = connection.execute("SELECT id FROM groups WHERE name = ?", (group,)).fetchone()
            if row is not None:
                values = {"max_parallel": parallel, "max_failures": failures, "priority": priority}
                edit.set_columns(connection, self.clock.now(), row["id"], edit.columns(values))
                edit.set_group(connection, self.clock.now(), row["id"], GroupConfig(on_end=(Hook(desktop=True),)))

    # ---------------------------------------------------------------------------------------------- the world

    @rule(number=st.integers(0, 10), code=st.sampled_from([0, 0, 1, 137, None]))
    def an_end(self, number: int, code: int | None) -> None:
        live = [key for key in self.executor.launched if key in self.executor._processes]
        if live:
            self.executor.end(live[number % len(live)], code)

    @rule(seconds=st.sampled_from([0.01, 1.0, 8.0, 60.0, 200.0]))
    def time_passes(self, seconds: float) -> None:
        self.clock.advance(seconds)

    @rule(seconds=st.sampled_from([-31_536_000.0, -3600.0, 3600.0, 31_536_000.0]))
    def the_clock_is_set(self, seconds: float) -> None:
        self.clock.jump(seconds)

    @rule(silent=st.booleans())
    def the_executor_falls_silent(self, silent: bool) -> None:
        self.executor.silent = "no answer" if silent else None

    @rule(refusing=st.booleans())
    def launches_are_refused(self, refusing: bool) -> None:
        self.executor.refusing = "cannot be launched: No space left on device" if refusing else None

    @rule(lane_is_quick=st.booleans(), rounds=st.integers(1, 3))
    def rounds(self, lane_is_quick: bool, rounds: int) -> None:
        for _ in range(rounds):
            if lane_is_quick:  # as if its jobs ended as soon as they had begun
                self.house.quick = {attempt.lane: not attempt.gpus for attempt in self.house.known.values()}
            tick(self.house)

    @rule()
    def the_daemon_is_killed(self) -> None:
        old = self.house
        self.house = House(old.store, old.state_dir, old.executors, old.clock, old.machine, old.readings)

    # ---------------------------------------------------------------------------------------------- what must hold

    @invariant()
    def every_promise_holds(self) -> None:
        with self.house.store.read() as connection:
            assert audit(connection) == []

    @invariant()
    def nothing_is_launched_twice(self) -> None:
        withdrawn = self.executor.withdrawn
        assert len(self.executor.launched) - len(withdrawn) <= len(set(self.executor.launched))

    @precondition(lambda self: self.names > 0)
    @rule()
    def the_queue_comes_to_rest(self) -> None:
        """With everything working, whatever is not paused ends: nobody is starved, no slot is leaked."""
        self.executor.silent = self.executor.refusing = None
        for _ in range(400):
            tick(self.house)
            for key in list(self.executor._processes):
                self.executor.end(key, 0)
            self.clock.advance(30)
            with self.house.store.read() as connection:
                rows = connection.execute(
                    "SELECT j.id, j.blocked_by FROM jobs AS j JOIN groups AS g ON g.id = j.group_id "
                    "WHERE j.finished_at IS NULL AND g.paused_at IS NULL AND j.blocked_by IS NULL"
                ).fetchall()
            if not rows:
                return
        raise AssertionError(f"these never end: {[row['id'] for row in rows]}")

    def teardown(self) -> None:
        self.house.store.close()
        self.folder.cleanup()


TestHistories = Histories.TestCase
TestHistories.settings = settings(
    max_examples=100,
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
