"""The executor of remote jobs against a stand-in of SkyPilot at its seam, under the daemon's own rounds."""

from __future__ import annotations

from datetime import timedelta

import pytest

from metta_jobs.daemon.house import House
from metta_jobs.daemon.tick import tick
from metta_jobs.states import JobState
from metta_jobs.store import silences
from metta_jobs.testing import add, states, views
from tests.executors.seam_fake import FakeSky
from tests.executors.sky_rounds import kill, pass_time, remote, restart

S = JobState


def test_a_job_goes_through_skypilot_and_its_evidence_comes_home(house: House, sky: FakeSky) -> None:
    (a,) = add(house, remote("a"))
    pass_time(house, 10)
    (view,) = views(house, a)
    assert (view.state, view.reason, view.executor) == (S.LAUNCHING, "SkyPilot: pending", "skypilot")
    (number,) = sky.jobs
    sky.set(number, "STARTING", details="Launching (nodes allocated)")
    pass_time(house, 10)
    assert views(house, a)[0].reason == "SkyPilot: starting (Launching (nodes allocated))"
    sky.set(number, "RUNNING", job_duration=3.0)
    pass_time(house, 10)
    assert states(house, a) == [S.RUNNING]
    sky.end(number, 0, files={"result.txt": "42"})
    pass_time(house, 70)
    (view,) = views(house, a)
    assert (view.state, view.exit_code, view.duration_s, view.reason) == (S.SUCCEEDED, 0, 7.0, None)
    folder = house.state_dir.attempt(a, 1)
    assert (folder / "output.log").read_text() == "hello\n"
    assert (folder / "result.txt").read_text() == "42"
    assert len(sky.launches) == 1
    assert view.remote is not None
    assert (view.remote.managed_id, view.remote.status, view.remote.hourly_usd) == (1, "SUCCEEDED", 1.5)
    assert view.remote.cost_usd == pytest.approx(1.5 * 7 / 3600)


def test_a_job_that_has_printed_nothing_yet_is_nothing_to_warn_of(
    house: House, sky: FakeSky, caplog: pytest.LogCaptureFixture
) -> None:
    (a,) = add(house, remote("a"))
    pass_time(house, 10)
    sky.set(1, "RUNNING", job_duration=3.0)
    pass_time(house, 60)
    assert states(house, a) == [S.RUNNING]
    assert caplog.messages == []


@pytest.mark.parametrize(
    ("status", "code", "fields", "state", "exit_code", "reason"),
    [
        ("FAILED", 3, {}, S.FAILED, 3, "exit code 3"),
        ("SUCCEEDED", 4, {}, S.FAILED, 4, "exit code 4"),  # a success which was none
        ("FAILED", 0, {"failure_reason": "node died"}, S.FAILED, 1, "node died"),
        ("FAILED_NO_RESOURCE", None, {"failure_reason": "no A100"}, S.FAILED, None, "no capacity: no A100"),
        ("FAILED_SETUP", None, {}, S.FAILED, None, "its setup failed (FAILED_SETUP)"),
        ("FAILED_PRECHECKS", None, {"failure_reason": "x"}, S.FAILED, None, "SkyPilot refused it before it started: x"),
        ("FAILED_CONTROLLER", None, {}, S.FAILED, None, "SkyPilot's controller failed (FAILED_CONTROLLER)"),
        ("CANCELLED", None, {}, S.KILLED, None, "cancelled through SkyPilot"),
        ("SUCCEEDED", None, {}, S.SUCCEEDED, 0, "SkyPilot says so; its log holds no outcome record"),
        ("FAILED", None, {"failure_reason": "exit code 7 (user)"}, S.FAILED, 7, "exit code 7 (user)"),
    ],
)
def test_every_end_is_told_apart(
    house: House, sky: FakeSky, status: str, code: int | None, fields: dict, state: S, exit_code: int, reason: str
) -> None:
    (a,) = add(house, remote("a"))
    pass_time(house, 10)
    sky.set(1, "RUNNING")
    pass_time(house, 10)
    if code is not None:
        sky.end(1, code)
    sky.set(1, status, **fields)
    pass_time(house, 150)
    (view,) = views(house, a)
    assert (view.state, view.exit_code, view.reason) == (state, exit_code, reason)


@pytest.mark.parametrize("when", ["before", "sent", "requested", "known", "running", "ended"])
def test_a_daemon_that_dies_at_any_step_launches_once(house: House, sky: FakeSky, when: str) -> None:
    (a,) = add(house, remote("a"))
    tick(house)
    if when == "sent":
        sky.mood = "dying"
    if when != "before":
        tick(house)
    if when in ("requested", "known", "running", "ended"):
        sky.slow_ids = when == "requested"
        pass_time(house, 20)
    if when in ("running", "ended"):
        sky.set(1, "RUNNING")
        pass_time(house, 10)
    if when == "ended":
        sky.end(1, 0)
        pass_time(house, 4)
    sky.answers()
    sky.mood, sky.slow_ids = None, False
    restart(house, sky)
    pass_time(house, 60)
    assert len(sky.launches) == 1
    if when != "ended":
        sky.end(1, 0)
    pass_time(house, 70)
    assert states(house, a) == [S.SUCCEEDED]
    assert len(sky.launches) == 1


def test_a_launch_that_never_was_is_looked_for_and_then_reported(house: House, sky: FakeSky) -> None:
    (a,) = add(house, remote("a"))
    sky.mood = "lost"
    tick(house)
    tick(house)
    sky.mood, sky.whose = None, "http://api as somebody else"  # who does not know what was asked in our name
    pass_time(house, 300, 5)
    (view,) = views(house, a)
    assert (view.state, view.reason) == (
        S.LAUNCHING,
        f"its launch was not confirmed: looking for {dict(sky.asked)['launch']['name']} in SkyPilot",
    )
    pass_time(house, 400, 5)
    (view,) = views(house, a)
    assert view.state is S.LOST
    assert "never answered its launch" in (view.reason or "")
    assert sky.launches == []


@pytest.mark.parametrize("restarted", [True, False])
def test_a_launch_that_certainly_never_arrived_is_made_anew(house: House, sky: FakeSky, restarted: bool) -> None:
    """A daemon and its worker that die between the mark and the request have launched nothing."""
    (a,) = add(house, remote("a"))
    sky.mood = "lost"
    tick(house)
    tick(house)
    sky.mood = None
    if restarted:
        sky.answers()
        restart(house, sky)
    pass_time(house, 30)
    assert sky.launches == []
    pass_time(house, 60)
    assert (len(sky.launches), views(house, a)[0].attempt) == (1, 1)
    sky.end(1, 0)
    pass_time(house, 70)
    assert states(house, a) == [S.SUCCEEDED]


def test_a_request_whose_answer_was_lost_is_found_at_the_api_server(house: House, sky: FakeSky) -> None:
    (a,) = add(house, remote("a"))
    sky.mood = "dying"
    tick(house)
    tick(house)
    sky.mood = None
    sky.hidden.add(1)  # accepted, and not in the queue yet
    sky.slow_ids = True
    pass_time(house, 300, 5)
    assert states(house, a) == [S.LAUNCHING]
    assert (views(house, a)[0].reason or "").startswith("SkyPilot is launching it")
    sky.hidden.clear()
    sky.slow_ids = False
    pass_time(house, 30)
    sky.end(1, 0)
    pass_time(house, 70)
    assert (states(house, a), len(sky.launches)) == ([S.SUCCEEDED], 1)


def test_while_skypilot_does_not_answer_nothing_changes(house: House, sky: FakeSky) -> None:
    a, b = add(house, remote("a"), remote("b"))
    pass_time(house, 10)
    sky.set(sky.named(f"-{a}-1"), "RUNNING")
    pass_time(house, 10)
    before = views(house, a)[0].reason
    sky.down = True
    (c,) = add(house, remote("c"), group="later")
    pass_time(house, 4 * 3600, 10)
    assert states(house, a, b, c) == [S.RUNNING, S.LAUNCHING, S.LAUNCHING]
    assert views(house, a)[0].reason == before
    with house.store.read() as connection:
        (silence,) = silences.load(connection)
    assert (silence.who, silence.why) == ("SkyPilot", "no answer from the API server")
    assert timedelta(hours=3, minutes=59) < house.clock.now() - silence.since < timedelta(hours=4, minutes=1)
    assert len(sky.launches) == 2
    questions = len(sky.asked)
    sky.down = False
    pass_time(house, 120)
    assert len(sky.launches) == 3
    with house.store.read() as connection:
        assert silences.load(connection) == []
    assert questions < 4 * 60 * 2 + 4 * 720 + 100
    for number in sky.jobs:
        sky.end(number, 0)
    pass_time(house, 120)
    assert states(house, a, b, c) == [S.SUCCEEDED] * 3


def test_a_kill_reaches_what_waits_starts_and_runs(house: House, sky: FakeSky) -> None:
    a, b = add(house, remote("a"), remote("b"))
    pass_time(house, 10)
    sky.set(sky.named(f"-{b}-1"), "RUNNING")
    pass_time(house, 10)
    sky.slow_ids = True
    (c,) = add(house, remote("c"), group="later")
    pass_time(house, 3)
    kill(house, a, b, c)
    pass_time(house, 10)
    assert sorted(sky.cancelled) == [sky.named(f"-{a}-1"), sky.named(f"-{b}-1")]
    assert states(house, a, b, c) == [S.LAUNCHING, S.RUNNING, S.LAUNCHING]  # killed is what is seen to be gone
    sky.slow_ids = False
    pass_time(house, 15)
    assert len(sky.cancelled) == 3
    for number in sky.jobs:
        sky.set(number, "CANCELLED")
    pass_time(house, 70)
    assert states(house, a, b, c) == [S.KILLED] * 3


def test_a_job_that_is_missing_is_no_end_until_that_is_certain(house: House, sky: FakeSky) -> None:
    (a,) = add(house, remote("a"))
    pass_time(house, 10)
    sky.set(1, "RUNNING")
    pass_time(house, 10)
    sky.hidden.add(1)
    pass_time(house, 20)
    assert states(house, a) == [S.RUNNING]
    sky.hidden.clear()
    pass_time(house, 70)
    assert states(house, a) == [S.RUNNING]
    sky.hidden.add(1)
    pass_time(house, 300)
    assert states(house, a) == [S.LOST]


def test_an_id_that_has_become_somebody_elses_is_never_touched(house: House, sky: FakeSky) -> None:
    (a,) = add(house, remote("a"))
    pass_time(house, 10)
    sky.set(1, "RUNNING")
    pass_time(house, 10)
    sky.jobs[1]["job_name"] = "somebody-elses"  # the API server was set up anew
    restart(house, sky)
    kill(house, a)
    pass_time(house, 300)
    assert sky.cancelled == []
    assert states(house, a) == [S.KILLED]


def test_what_skypilot_refuses_is_told_and_not_tried_again(house: House, sky: FakeSky) -> None:
    sky.refuse = "no such infra: moon"
    (a,) = add(house, remote("a"))
    pass_time(house, 60)
    (view,) = views(house, a)
    assert (view.state, view.reason) == (S.FAILED, "SkyPilot refuses it: no such infra: moon")


def test_limits_end_what_never_starts(house: House, sky: FakeSky) -> None:
    (a,) = add(house, remote("a", queue_timeout_s=100))
    pass_time(house, 120)
    assert sky.cancelled == [1]
    sky.set(1, "CANCELLED")
    pass_time(house, 70)
    (view,) = views(house, a)
    assert (view.state, view.reason) == (S.TIMED_OUT, "not started in 100 s (queue_timeout_s)")


def test_what_a_restarted_api_server_has_lost_is_cancelled_and_launched_anew(house: House, sky: FakeSky) -> None:
    (a,) = add(house, remote("a"))
    sky.slow_ids = True
    pass_time(house, 5)
    sky.set(1, "PENDING", schedule_state="INACTIVE", submitted_at=None)
    sky.requests.clear()  # it was started anew
    pass_time(house, 40)
    assert sky.cancelled == []
    pass_time(house, 120)
    assert set(sky.cancelled) == {1}
    assert len(sky.launches) == 1
    sky.set(1, "CANCELLED")
    sky.slow_ids = False
    pass_time(house, 90)
    assert len(sky.launches) == 2
    restart(house, sky)
    sky.end(2, 0)
    pass_time(house, 70)
    assert states(house, a) == [S.SUCCEEDED]
    assert views(house, a)[0].attempt == 1
    assert len(sky.launches) == 2


@pytest.mark.parametrize("by", ["worker", "daemon"])
def test_what_died_before_it_sent_anything_is_launched_by_the_next(house: House, sky: FakeSky, by: str) -> None:
    (a,) = add(house, remote("a"))
    sky.mood = "unsent"
    pass_time(house, 2)
    assert sky.launches == []
    if by == "daemon":
        sky.answers()
        restart(house, sky)
    sky.mood = None
    pass_time(house, 60)
    assert len(sky.launches) == 1
    sky.end(1, 0)
    pass_time(house, 70)
    assert states(house, a) == [S.SUCCEEDED]
