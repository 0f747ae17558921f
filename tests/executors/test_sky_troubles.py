"""Troubles of SkyPilot's that once ended a job wrongly, or left something behind."""

from __future__ import annotations

import pytest

from metta_jobs.daemon.house import House
from metta_jobs.executors.sky.ledger import FILE
from metta_jobs.states import JobState
from metta_jobs.testing import add, states, views
from tests.executors.seam_fake import FakeSky
from tests.executors.sky_rounds import kill, pass_time, remote, restart

S = JobState


@pytest.mark.parametrize("status", ["HIBERNATING", "", None])
def test_a_status_that_is_not_known_ends_nothing_and_can_be_killed(
    house: House, sky: FakeSky, status: str | None
) -> None:
    (a,) = add(house, remote("a"))
    pass_time(house, 10)
    sky.set(1, "RUNNING")
    pass_time(house, 10)
    sky.jobs[1]["status"] = status
    pass_time(house, 600, 5)
    assert states(house, a) == [S.RUNNING]
    kill(house, a)
    pass_time(house, 10)
    assert sky.cancelled == [1]


def test_of_two_managed_jobs_of_one_name_one_is_kept_and_one_cancelled(house: House, sky: FakeSky) -> None:
    (a,) = add(house, remote("a"))
    pass_time(house, 10)
    sky.jobs[2] = {**sky.jobs[1], "job_id": 2}
    sky.set(1, "RUNNING")
    pass_time(house, 40)
    assert set(sky.cancelled) == {2}
    assert "twice: cancelling managed job 2" in (views(house, a)[0].reason or "")
    sky.set(2, "CANCELLED")
    pass_time(house, 130)
    assert states(house, a) == [S.RUNNING]
    assert views(house, a)[0].reason is None
    sky.end(1, 0)
    pass_time(house, 70)
    assert states(house, a) == [S.SUCCEEDED]


def test_of_two_that_are_found_by_name_the_one_that_runs_is_kept(house: House, sky: FakeSky) -> None:
    (a,) = add(house, remote("a"))
    sky.mood = "dying"
    pass_time(house, 2)
    sky.mood = None
    sky.jobs[2] = {**sky.jobs[1], "job_id": 2}
    sky.set(2, "RUNNING")
    pass_time(house, 40)
    assert set(sky.cancelled) == {1}
    assert (states(house, a), len(sky.launches)) == ([S.RUNNING], 1)


@pytest.mark.parametrize("ids", [None, [1]])
def test_what_a_failed_launch_has_left_is_cancelled_and_the_failure_told(
    house: House, sky: FakeSky, ids: list[int] | None
) -> None:
    (a,) = add(house, remote("a"))
    sky.slow_ids = True
    pass_time(house, 3)
    sky.slow_ids = False
    sky.set(1, "PENDING", schedule_state="INACTIVE", submitted_at=None)
    sky.requests["request-1"] = {"status": "FAILED", "job_ids": ids, "error": "no such file"}
    pass_time(house, 200)
    assert set(sky.cancelled) == {1}
    assert states(house, a) == [S.LAUNCHING]
    sky.set(1, "CANCELLED")
    pass_time(house, 70)
    (view,) = views(house, a)
    assert (view.state, view.reason) == (S.FAILED, "SkyPilot could not launch it: no such file")
    assert len(sky.launches) == 1


def test_an_outage_while_the_log_is_fetched_costs_no_evidence(house: House, sky: FakeSky) -> None:
    (a,) = add(house, remote("a"))
    pass_time(house, 10)
    sky.set(1, "RUNNING")
    pass_time(house, 10)
    sky.end(1, 5, status="SUCCEEDED")  # a success which was none
    logs, sky.logs = sky.logs, {}
    pass_time(house, 15)
    sky.logs, sky.down = logs, True
    pass_time(house, 3600, 10)
    assert states(house, a) == [S.RUNNING]
    sky.down = False
    pass_time(house, 70)
    assert (states(house, a), views(house, a)[0].exit_code) == ([S.FAILED], 5)


def test_a_damaged_ledger_does_not_lose_its_job(house: House, sky: FakeSky) -> None:
    (a,) = add(house, remote("a"))
    pass_time(house, 10)
    sky.set(1, "RUNNING")
    pass_time(house, 10)
    (house.state_dir.attempt(a, 1) / FILE).write_text("{")
    restart(house, sky)
    pass_time(house, 300, 5)
    assert states(house, a) == [S.RUNNING]
    assert len(sky.launches) == 1


def test_what_ran_and_is_started_again_does_not_wait(house: House, sky: FakeSky) -> None:
    (a,) = add(house, remote("a", queue_timeout_s=100))
    pass_time(house, 10)
    sky.set(1, "RUNNING")
    pass_time(house, 10)
    sky.set(1, "STARTING")
    pass_time(house, 300, 5)
    assert (states(house, a), sky.cancelled) == ([S.RUNNING], [])


def test_an_id_that_is_somebody_elses_since_an_outage_is_not_cancelled(house: House, sky: FakeSky) -> None:
    (a,) = add(house, remote("a"))
    pass_time(house, 10)
    sky.set(1, "RUNNING")
    pass_time(house, 10)
    sky.down = True
    pass_time(house, 120)
    sky.jobs[1]["job_name"], sky.down = "somebody-elses", False
    kill(house, a)
    pass_time(house, 300)
    assert (states(house, a), sky.cancelled) == ([S.KILLED], [])


def test_a_lost_answer_and_a_restarted_server_leave_nothing_that_waits_for_ever(house: House, sky: FakeSky) -> None:
    (a,) = add(house, remote("a"))
    sky.mood = "dying"
    pass_time(house, 2)
    sky.mood = None
    sky.set(1, "PENDING", schedule_state="INACTIVE", submitted_at=None)
    pass_time(house, 500, 5)
    assert sky.cancelled == []
    pass_time(house, 300, 5)
    assert set(sky.cancelled) == {1}
    sky.set(1, "CANCELLED")
    pass_time(house, 90)
    assert (len(sky.launches), states(house, a)) == (2, [S.LAUNCHING])
