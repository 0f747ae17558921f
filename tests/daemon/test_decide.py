from __future__ import annotations

from itertools import product

import pytest

from metta_jobs.daemon.decide import (
    MAX_LAUNCHES,
    SLOW_S,
    Decision,
    Finish,
    Keep,
    Launch,
    Live,
    MarkRunning,
    Stop,
    Withdraw,
    decide_live,
)
from metta_jobs.executors.base import Absent, Alive, Cause, Exited, Observation, Queued, Stopping, Unknown
from metta_jobs.policy import RetryPolicy
from metta_jobs.states import LIVE, JobState

LAUNCHING, RUNNING = JobState.LAUNCHING, JobState.RUNNING


def live(state: JobState = RUNNING, **changes: object) -> Live:
    facts = {"kill": False, "force": False, "timeout_s": None, "grace_s": 10.0, **changes}
    return Live(state=state, **facts)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("facts", "seen", "decision"),
    [
        (live(), Exited(0, 3.0), Finish(JobState.SUCCEEDED, 0, None, 3.0)),
        (live(), Exited(2, 3.0), Finish(JobState.FAILED, 2, "exit code 2", 3.0)),
        (live(), Exited(137, 3.0, error="ended by SIGKILL"), Finish(JobState.FAILED, 137, "ended by SIGKILL", 3.0)),
        (live(kill=True), Exited(0, 3.0), Finish(JobState.SUCCEEDED, 0, None, 3.0)),  # it was over before we asked
        (live(kill=True), Exited(143, 3.0, Cause.KILL), Finish(JobState.KILLED, 143, "killed on request", 3.0)),
        (live(kill=True), Exited(0, 3.0, Cause.KILL), Finish(JobState.KILLED, 0, "killed on request", 3.0)),
        (
            live(timeout_s=2.0),
            Exited(143, 3.0, Cause.TIMEOUT),
            Finish(JobState.TIMED_OUT, 143, "time limit of 2 s reached", 3.0),
        ),
        (live(LAUNCHING), Exited(0, 0.1), Finish(JobState.SUCCEEDED, 0, None, 0.1)),
        (live(LAUNCHING), Alive(0.1), MarkRunning()),
        (live(LAUNCHING, kill=True), Alive(0.1), MarkRunning()),
        (live(), Alive(5.0), Keep()),
        (live(kill=True), Alive(5.0), Stop(Cause.KILL, False, "ending: killed on request")),
        (live(kill=True, force=True), Alive(5.0), Stop(Cause.KILL, True, "ending: killed on request")),
        (live(timeout_s=4.0), Alive(5.0), Stop(Cause.TIMEOUT, False, "ending: time limit of 4 s reached")),
        (live(timeout_s=4.0), Alive(None), Keep()),
        (live(timeout_s=6.0), Alive(5.0), Keep()),
        (live(kill=True), Alive(5.0, Stopping(Cause.KILL, 9.0, False)), Keep("ending: killed on request")),
        (
            live(kill=True),
            Alive(5.0, Stopping(Cause.KILL, 11.0, False)),
            Stop(Cause.KILL, True, "ending: killed on request"),
        ),
        (
            live(kill=True, force=True),
            Alive(5.0, Stopping(Cause.KILL, 1.0, False)),
            Stop(Cause.KILL, True, "ending: killed on request"),
        ),
        (
            live(),
            Absent(launched=True),
            Finish(JobState.LOST, None, "its processes are gone and left no outcome record"),
        ),
        (live(), Absent(launched=True, note="a reboot"), Finish(JobState.LOST, None, "a reboot")),
        (live(kill=True), Exited(143, 3.0), Finish(JobState.KILLED, 143, "killed on request", 3.0)),
        (
            live(),
            Absent(launched=False, note="gone"),
            Finish(JobState.LOST, None, "gone"),
        ),  # never launch a second time
        (live(kill=True), Absent(launched=True), Finish(JobState.KILLED, None, "killed on request")),
        (live(LAUNCHING), Absent(launched=False), Launch()),
        (live(LAUNCHING, launch_due=False), Absent(launched=False), Keep("starting")),
        (
            live(LAUNCHING, kill=True),
            Absent(launched=False),
            Finish(JobState.KILLED, None, "killed before it started", void=True),
        ),
        (
            live(LAUNCHING, launches=MAX_LAUNCHES),
            Absent(launched=False, note="no python"),
            Finish(JobState.FAILED, None, f"could not be started in {MAX_LAUNCHES} tries: no python", void=True),
        ),
        (live(LAUNCHING, launches=MAX_LAUNCHES), Absent(launched=False, note="full", refused=True), Launch()),
        (live(LAUNCHING, alone=False), Absent(launched=False), Withdraw()),
        (
            live(LAUNCHING, same_boot=False),
            Absent(launched=False),
            Finish(JobState.LOST, None, "the machine was restarted before it was seen to start"),
        ),
        (live(LAUNCHING), Queued(), Keep()),
        (live(LAUNCHING), Queued(behind=True), Keep()),
        (live(LAUNCHING, ahead_s=SLOW_S / 2), Queued(behind=True), Keep()),
        (live(LAUNCHING, ahead_s=SLOW_S * 2), Queued(behind=True), Withdraw()),
        (
            live(LAUNCHING, kill=True),
            Queued(behind=True),
            Finish(JobState.KILLED, None, "killed before it started", void=True),
        ),
    ],
)
def test_decisions(facts: Live, seen: Observation, decision: Decision) -> None:
    assert decide_live(facts, seen) == decision


@pytest.mark.parametrize(("state", "kill", "timeout_s"), product(sorted(LIVE), [False, True], [None, 1.0]))
def test_failing_to_ask_never_ends_or_starts_anything(state: JobState, kill: bool, timeout_s: float | None) -> None:
    assert isinstance(decide_live(live(state, kill=kill, timeout_s=timeout_s), Unknown("no answer")), Keep)


@pytest.mark.parametrize("kill", [False, True])
def test_success_needs_an_outcome_record_that_says_so(kill: bool) -> None:
    observations: list[Observation] = [
        Alive(1.0),
        Absent(launched=True),
        Absent(launched=False),
        Unknown("?"),
        Exited(1, 1.0),
        Exited(0, 1.0, Cause.KILL),
    ]
    for seen in observations:
        decision = decide_live(live(kill=kill), seen)
        assert not (isinstance(decision, Finish) and decision.state is JobState.SUCCEEDED)


EVERY = RetryPolicy(max_attempts=3, backoff_s=10, factor=2)


@pytest.mark.parametrize(
    ("facts", "seen", "again_s"),
    [
        (live(retry=EVERY), Exited(1, 3.0), 10),
        (live(retry=EVERY, tries=2), Exited(1, 3.0), 20),
        (live(retry=EVERY, tries=3), Exited(1, 3.0), None),
        (live(retry=EVERY), Exited(0, 3.0), None),
        (live(retry=EVERY, kill=True), Exited(1, 3.0), None),
        (live(retry=EVERY), Exited(143, 3.0, Cause.KILL), None),
        (live(retry=EVERY), Exited(143, 3.0, Cause.TIMEOUT), 10),
        (live(retry=EVERY), Absent(launched=True), 10),
        (live(retry=RetryPolicy(on=(137,))), Exited(1, 3.0), None),
        (live(retry=RetryPolicy(on=(137,))), Exited(137, 3.0), 10),
        (live(retry=RetryPolicy(on=("lost",))), Absent(launched=True), 10),
        (live(retry=RetryPolicy(on=("lost",))), Exited(143, 3.0, Cause.TIMEOUT), None),
        (live(retry=RetryPolicy(never_on=(2, "timeout"))), Exited(2, 3.0), None),
        (live(retry=RetryPolicy(never_on=(2, "timeout"))), Exited(143, 3.0, Cause.TIMEOUT), None),
        (live(retry=RetryPolicy(never_on=(2, "timeout"))), Exited(3, 3.0), 10),
    ],
)
def test_a_policy_says_what_is_tried_again_and_when(facts: Live, seen: Observation, again_s: float | None) -> None:
    decision = decide_live(facts, seen)
    assert isinstance(decision, Finish)
    assert decision.again_s == again_s
