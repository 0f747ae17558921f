"""What every executor promises, asked of real processes, of SkyPilot's stand-in and of the public fake alike."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from metta_jobs.executors.base import Absent, Alive, Cause, Exited, Queued, Unknown
from tests.executors.contract.bench import BENCHES, KEY, NEXT, Bench
from tests.processes import until


@pytest.fixture(params=list(BENCHES))
def bench(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Bench]:
    made = BENCHES[request.param](tmp_path / "s")
    yield made
    made.clean_up()


@pytest.fixture
def laned(bench: Bench) -> Bench:
    if not bench.lanes:
        pytest.skip("its attempts stand in no line")
    return bench


@pytest.fixture
def gentle(bench: Bench) -> Bench:
    if not bench.gentle:
        pytest.skip("it knows one way to end an attempt, which is thorough")
    return bench


# ------------------------------------------------------------------------------------------------------- launching


def test_what_was_never_launched_is_absent(bench: Bench) -> None:
    assert bench.look(KEY, NEXT) == {KEY: Absent(launched=False), NEXT: Absent(launched=False)}
    assert bench.executor.observe([]) == {}


def test_what_is_launched_is_seen_at_once_and_then_alive(bench: Bench) -> None:
    bench.start("sleep")
    assert isinstance(bench.executor.observe([KEY])[KEY], Queued | Alive)
    seen = bench.see(Alive)
    assert seen.running_s is not None and 0 <= seen.running_s < 60
    assert seen.stopping is None


def test_launched_twice_it_starts_once(bench: Bench) -> None:
    bench.start("sleep")
    bench.start("sleep")
    bench.see(Alive)
    bench.start("sleep")
    bench.see(Alive)
    assert (bench.started(), bench.running()) == (1, 1)


def test_launching_what_has_ended_starts_nothing_new(bench: Bench) -> None:
    bench.start("ok")
    first = bench.see(Exited)
    bench.start("fail")
    assert bench.see(Exited) == first
    bench.restart()
    bench.start("fail")
    assert bench.see(Exited) == first
    assert bench.started() == 1


def test_another_launches_nothing_that_was_launched_even_unasked(bench: Bench) -> None:
    bench.start("sleep")
    bench.see(Alive)
    bench.restart()
    bench.start("sleep")
    bench.see(Alive)
    assert (bench.started(), bench.running()) == (1, 1)


# --------------------------------------------------------------------------------------------------------- ends


@pytest.mark.parametrize(("what", "code"), [("ok", 0), ("fail", 3)])
def test_an_end_is_seen_with_its_exit_code(bench: Bench, what: str, code: int) -> None:
    bench.start(what)
    seen = bench.see(Exited)
    assert (seen.exit_code, seen.stopped) == (code, None)


def test_an_end_stays_as_it_is(bench: Bench) -> None:
    bench.start("fail")
    first = bench.see(Exited)
    bench.executor.stop(KEY, Cause.KILL, force=True)
    assert not bench.executor.abandon(KEY)
    assert [bench.look()[KEY] for _ in range(3)] == [first] * 3


def test_attempts_are_told_apart(bench: Bench) -> None:
    bench.start("fail")
    bench.start("sleep", NEXT)

    def both() -> bool:
        seen = bench.look(KEY, NEXT)
        return isinstance(seen[KEY], Exited) and isinstance(seen[NEXT], Alive)

    until(both, "one to end and one to run")
    bench.executor.stop(NEXT, Cause.KILL, force=True)


# ------------------------------------------------------------------------------------ another daemon, another executor


def test_another_sees_what_runs(bench: Bench) -> None:
    bench.start("sleep")
    bench.see(Alive)
    bench.restart()
    bench.see(Alive)
    assert (bench.started(), bench.running()) == (1, 1)
    bench.executor.stop(KEY, Cause.KILL, force=True)
    assert bench.end().stopped is Cause.KILL


def test_another_sees_what_has_ended_meanwhile(bench: Bench) -> None:
    bench.start("fail")
    if bench.started() == 0:
        bench.look()  # it is handed over with the next question
    bench.restart()
    seen = bench.see(Exited)
    assert (seen.exit_code, seen.stopped) == (3, None)
    assert bench.started() == 1


def test_another_knows_why_it_was_ended(bench: Bench) -> None:
    bench.start("sleep")
    bench.see(Alive)
    bench.executor.stop(KEY, Cause.TIMEOUT, force=False)
    bench.restart()
    ended = bench.end()
    if ended.stopped is None:  # it was not told yet, and is asked again
        bench.executor.stop(KEY, Cause.TIMEOUT, force=False)
    assert bench.end().stopped is Cause.TIMEOUT


def test_closing_leaves_what_runs_alone(bench: Bench) -> None:
    bench.start("sleep")
    bench.see(Alive)
    bench.executor.close()
    assert bench.running() == 1
    bench.restart()
    bench.see(Alive)


# --------------------------------------------------------------------------------------------------------- stopping


@pytest.mark.parametrize("cause", list(Cause))
@pytest.mark.parametrize("force", [False, True])
def test_stop_ends_it_and_says_why(bench: Bench, cause: Cause, force: bool) -> None:
    bench.start("sleep")
    bench.see(Alive)
    bench.executor.stop(KEY, cause, force=force)
    seen = bench.end()
    assert seen.stopped is cause
    if bench.gentle:
        assert seen.exit_code == (137 if force else 143)
    assert bench.running() == 0


def test_stop_is_seen_under_way(bench: Bench) -> None:
    bench.start("stubborn")
    bench.see(Alive)
    bench.executor.stop(KEY, Cause.TIMEOUT, force=False)
    seen = bench.executor.observe([KEY])[KEY]
    assert isinstance(seen, Alive | Queued) and seen.stopping is not None
    assert seen.stopping.cause is Cause.TIMEOUT
    assert seen.stopping.since_s is None or seen.stopping.since_s >= 0


def test_the_first_cause_of_two_stops_counts(bench: Bench) -> None:
    bench.start("stubborn")
    bench.see(Alive)
    bench.executor.stop(KEY, Cause.TIMEOUT, force=False)
    bench.executor.stop(KEY, Cause.KILL, force=True)
    bench.executor.stop(KEY, Cause.KILL, force=True)
    assert bench.end().stopped is Cause.TIMEOUT
    assert bench.running() == 0


def test_stopping_what_is_not_there_is_no_error(bench: Bench) -> None:
    bench.executor.stop(KEY, Cause.KILL, force=True)
    seen = bench.look()[KEY]
    assert isinstance(seen, Absent) and not seen.launched


def test_what_is_stopped_as_soon_as_it_was_handed_over_leaves_nothing(bench: Bench) -> None:
    bench.start("sleep")
    if isinstance(bench.look()[KEY], Absent | Unknown):
        bench.look()
    if not bench.executor.abandon(KEY):
        bench.executor.stop(KEY, Cause.KILL, force=True)
        assert bench.end().stopped is Cause.KILL
    assert bench.running() == 0


def test_what_ignores_term_is_seen_ending_and_ended_by_force(gentle: Bench) -> None:
    gentle.start("stubborn")
    gentle.see(Alive)
    gentle.executor.stop(KEY, Cause.KILL, force=False)
    seen = gentle.see(Alive)
    assert seen.stopping is not None
    assert (seen.stopping.cause, seen.stopping.forced) == (Cause.KILL, False)
    gentle.executor.stop(KEY, Cause.KILL, force=True)
    ended = gentle.see(Exited)
    assert (ended.exit_code, ended.stopped) == (137, Cause.KILL)


# --------------------------------------------------------------------------------------------------------- giving up


def test_what_was_never_handed_over_can_be_given_up(bench: Bench) -> None:
    assert bench.executor.abandon(KEY)
    assert bench.look()[KEY] == Absent(launched=False)


def test_what_has_started_cannot_be_abandoned(bench: Bench) -> None:
    bench.start("sleep")
    bench.see(Alive)
    assert not bench.executor.abandon(KEY)
    bench.restart()
    assert not bench.executor.abandon(KEY)  # though this one has not been asked about it yet
    bench.see(Alive)


def test_attempts_of_a_lane_run_one_after_another(laned: Bench) -> None:
    laned.start("sleep")
    laned.behind(NEXT)
    assert laned.look(KEY, NEXT)[NEXT] == Queued(behind=True)
    laned.executor.stop(KEY, Cause.KILL, force=True)
    until(lambda: isinstance(laned.look(KEY, NEXT)[NEXT], Alive), "the next attempt")
    laned.executor.stop(NEXT, Cause.KILL, force=True)


def test_what_stands_in_line_can_be_taken_back_and_never_starts(laned: Bench) -> None:
    laned.start("sleep")
    laned.behind(NEXT)
    laned.restart()
    assert laned.look(KEY, NEXT)[NEXT] == Queued(behind=True)
    assert laned.executor.abandon(NEXT)
    laned.executor.stop(KEY, Cause.KILL, force=True)
    until(lambda: isinstance(laned.look(KEY, NEXT)[KEY], Exited), "the first one's end")
    assert laned.look(KEY, NEXT)[NEXT] == Absent(launched=False)


# --------------------------------------------------------------------------------------------------------- housekeeping


def test_what_nobody_asks_about_any_more_is_forgotten(bench: Bench) -> None:
    if not bench.forgets:
        pytest.skip("it keeps everything for tests to look at")
    bench.start("ok")
    bench.see(Exited)
    assert bench.kept() == 1
    until(lambda: bench.look(NEXT) and bench.kept() == 0, "it to be forgotten")
    assert KEY not in bench.executor.facts()
    bench.executor.stop(KEY, Cause.KILL, force=True)
    bench.executor.rest()


def test_a_wish_to_be_woken_and_to_rest_is_always_heard(bench: Bench) -> None:
    bench.executor.rest()
    assert all(descriptor >= 0 for descriptor in bench.executor.wake_fds())
    bench.start("sleep")
    bench.executor.rest()
    bench.see(Alive)
    assert all(descriptor >= 0 for descriptor in bench.executor.wake_fds())
    bench.executor.rest()
    bench.see(Alive)
