"""What every executor promises, asked of the real one and of the fake alike."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from metta_jobs.executors.base import Absent, Alive, Cause, Executor, Exited, Key, LaunchSpec, Observation, Queued
from metta_jobs.executors.local import LocalExecutor
from metta_jobs.paths import StateDir
from metta_jobs.testing import FakeExecutor, ManualClock
from tests.conftest import clean_up
from tests.processes import until

KEY: Key = (1, 1)
NEXT: Key = (2, 1)


@dataclass
class Bench:
    """An executor and how to make it do things."""

    executor: Executor
    reopen: Callable[[], Executor]
    start: Callable[[str], None]  # "sleep", "ok", "fail", "stubborn"
    launch_behind: Callable[[Key], None]  # in the same lane, something that sleeps

    def see(self, kind: type[Observation]) -> Observation:
        return until(lambda: isinstance(seen := self.executor.observe([KEY])[KEY], kind) and seen, kind.__name__)


def _fake() -> Bench:
    executor = FakeExecutor(ManualClock())
    lane = executor.lane()

    def start(what: str) -> None:
        executor.launch(LaunchSpec(KEY, lane, ("x",), None, {}))
        if what == "stubborn":
            executor.stubborn.add(KEY)
        if what in ("ok", "fail"):
            executor.end(KEY, 0 if what == "ok" else 3)

    def launch_behind(key: Key) -> None:
        executor.launch(LaunchSpec(key, lane, ("x",), None, {}))

    return Bench(executor, lambda: executor, start, launch_behind)


_PROGRAMS = {
    "sleep": "import time; print('up', flush=True); time.sleep(600)",
    "ok": "pass",
    "fail": "raise SystemExit(3)",
    "stubborn": "import signal, time; signal.signal(15, signal.SIG_IGN); print('up', flush=True); time.sleep(600)",
}


def _local(root: Path) -> Bench:
    state_dir = StateDir(root)
    state_dir.create()
    executor = LocalExecutor(state_dir)
    lane = executor.lane()

    def start(what: str) -> None:
        environment = {"METTA_ATTEMPT_TOKEN": state_dir.token(*KEY), "PATH": os.environ["PATH"]}
        executor.launch(LaunchSpec(KEY, lane, (sys.executable, "-c", _PROGRAMS[what]), None, environment))
        log = state_dir.attempt(*KEY) / "output.log"
        if what in ("sleep", "stubborn"):
            until(lambda: log.exists() and "up" in log.read_text(), "the program's first line")

    def launch_behind(key: Key) -> None:
        environment = {"METTA_ATTEMPT_TOKEN": state_dir.token(*key), "PATH": os.environ["PATH"]}
        executor.launch(LaunchSpec(key, lane, ("sleep", "600"), None, environment))

    return Bench(executor, lambda: LocalExecutor(state_dir), start, launch_behind)


@pytest.fixture(params=["local", "fake"])
def bench(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Bench]:
    yield _local(tmp_path / "s") if request.param == "local" else _fake()
    if request.param == "local":
        clean_up(tmp_path / "s")


def test_what_was_never_launched_is_absent(bench: Bench) -> None:
    assert bench.executor.observe([KEY]) == {KEY: Absent(launched=False)}
    assert bench.executor.observe([]) == {}


@pytest.mark.parametrize(("what", "code"), [("ok", 0), ("fail", 3)])
def test_an_end_is_seen_with_its_exit_code(bench: Bench, what: str, code: int) -> None:
    bench.start(what)
    seen = bench.see(Exited)
    assert isinstance(seen, Exited)
    assert (seen.exit_code, seen.stopped) == (code, None)


def test_running_time_is_told(bench: Bench) -> None:
    bench.start("sleep")
    seen = bench.see(Alive)
    assert isinstance(seen, Alive)
    assert seen.running_s is not None and 0 <= seen.running_s < 60
    assert seen.stopping is None


def test_another_executor_after_a_crash_sees_the_same(bench: Bench) -> None:
    bench.start("sleep")
    bench.see(Alive)
    assert isinstance(bench.reopen().observe([KEY])[KEY], Alive)


def test_launching_again_starts_nothing_new(bench: Bench) -> None:
    bench.start("ok")
    first = bench.see(Exited)
    bench.start("fail")
    bench.executor = bench.reopen()
    assert bench.see(Exited) == first


def test_stop_ends_it_and_says_why(bench: Bench) -> None:
    bench.start("sleep")
    bench.see(Alive)
    bench.executor.stop(KEY, Cause.TIMEOUT, force=False)
    seen = bench.see(Exited)
    assert isinstance(seen, Exited)
    assert (seen.exit_code, seen.stopped) == (143, Cause.TIMEOUT)


def test_what_ignores_term_is_seen_ending_and_ended_by_force(bench: Bench) -> None:
    bench.start("stubborn")
    bench.see(Alive)
    bench.executor.stop(KEY, Cause.KILL, force=False)
    seen = bench.see(Alive)
    assert isinstance(seen, Alive) and seen.stopping is not None
    assert (seen.stopping.cause, seen.stopping.forced) == (Cause.KILL, False)
    bench.executor.stop(KEY, Cause.KILL, force=True)
    ended = bench.see(Exited)
    assert isinstance(ended, Exited)
    assert (ended.exit_code, ended.stopped) == (137, Cause.KILL)


def test_stopping_what_is_not_there_is_no_error(bench: Bench) -> None:
    bench.executor.stop(KEY, Cause.KILL, force=True)
    seen = bench.executor.observe([KEY])[KEY]
    assert isinstance(seen, Absent) and not seen.launched


def test_attempts_of_a_lane_run_one_after_another(bench: Bench) -> None:
    bench.start("sleep")
    bench.launch_behind(NEXT)
    assert bench.executor.observe([KEY, NEXT])[NEXT] == Queued(behind=True)
    bench.executor.stop(KEY, Cause.KILL, force=True)
    until(lambda: isinstance(bench.executor.observe([KEY, NEXT])[NEXT], Alive), "the next attempt")
    bench.executor.stop(NEXT, Cause.KILL, force=True)


def test_what_stands_in_line_can_be_taken_back_and_never_starts(bench: Bench) -> None:
    bench.start("sleep")
    bench.launch_behind(NEXT)
    bench.executor = bench.reopen()
    assert bench.executor.observe([KEY, NEXT])[NEXT] == Queued(behind=True)
    assert bench.executor.abandon(NEXT)
    bench.executor.stop(KEY, Cause.KILL, force=True)
    until(lambda: isinstance(bench.executor.observe([KEY, NEXT])[KEY], Exited), "the first one's end")
    assert bench.executor.observe([KEY, NEXT])[NEXT] == Absent(launched=False)


def test_what_was_never_handed_over_can_be_given_up(bench: Bench) -> None:
    assert bench.executor.abandon(KEY)
    assert bench.executor.observe([KEY])[KEY] == Absent(launched=False)


def test_what_has_started_cannot_be_abandoned(bench: Bench) -> None:
    bench.start("sleep")
    bench.see(Alive)
    assert not bench.executor.abandon(KEY)
