from __future__ import annotations

from itertools import product

import pytest

from metta_jobs.daemon.decide import (
    MAX_LAUNCHES,
    Capacity,
    Claim,
    Decision,
    Finish,
    Keep,
    Launch,
    Live,
    MarkRunning,
    Skip,
    Stop,
    Waits,
    decide_live,
    decide_parents,
    decide_slots,
)
from metta_jobs.executors.base import Absent, Alive, Cause, Exited, Observation, Stopping, Unknown
from metta_jobs.states import LIVE, DependencyKind, JobState

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


def test_parents() -> None:
    ok, any_, not_ok = DependencyKind
    assert decide_parents({}) is None
    assert decide_parents({"a": (JobState.SUCCEEDED, ok), "b": (JobState.KILLED, any_)}) is None
    assert decide_parents({"a": (JobState.RUNNING, ok)}) == Waits("waits for a (running)")
    assert decide_parents({"a": (JobState.FAILED, ok)}) == Skip("a failed")
    assert decide_parents({"a": (JobState.RUNNING, ok), "b": (JobState.TIMED_OUT, ok)}) == Skip("b timed out")
    assert decide_parents({"a": (JobState.SUCCEEDED, not_ok)}) == Skip("a succeeded")


def test_slots() -> None:
    capacity = Capacity(cpus=4, gpus=("0", "1"), max_parallel=3)
    assert decide_slots(1, 1, capacity) == Claim(("0",))
    capacity.take(14, ["0"], 1)
    assert decide_slots(1, 1, capacity) == Claim(("1",))
    capacity.take(15, ["1"], 1)
    assert decide_slots(1, 1, capacity) == Waits("no free GPU (2 of 2 in use by 14, 15)")
    assert decide_slots(0, 3, capacity) == Waits("no free CPU slot (2 of 4 in use by 14, 15)")
    assert decide_slots(0, 2, capacity) == Claim(())
    capacity.take(16, [], 1)
    assert decide_slots(0, 0.5, capacity) == Waits("no free place (3 of 3 parallel jobs running: 14, 15, 16)")


def test_what_can_never_fit_is_said() -> None:
    assert Capacity(4, ()).never_fits(1, 1) == "it asks for 1 GPU and this machine has none"
    assert Capacity(4, ("0",)).never_fits(2, 1) == "it asks for 2 GPUs and this machine has 1"
    assert Capacity(4, ()).never_fits(0, 8) == "it asks for 8 CPU slots and this machine has 4"
    assert Capacity(4, ("0",)).never_fits(1, 4) is None
