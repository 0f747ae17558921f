from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from metta_jobs.daemon.house import House
from metta_jobs.job import JobConfig
from metta_jobs.states import ARROWS, TERMINAL, JobState
from metta_jobs.store import read, transitions
from metta_jobs.store.transitions import End, Start
from metta_jobs.testing import add, make_house, states, views

PENDING = JobState.PENDING

_CLAIM = """
import sys
from pathlib import Path
from metta_jobs.clock import SystemClock
from metta_jobs.store import queue, transitions
from metta_jobs.store.engine import Store
store, won = Store(Path(sys.argv[1])), []
while True:
    with store.read() as connection:
        ready = list(queue.ready_jobs(connection))
    if not ready:
        break
    for job in ready:
        start = transitions.Start(job.job_id, "local", "")
        with store.write() as connection:
            won += transitions.claim(connection, SystemClock().now(), [start], "boot")
print(won)
"""


def test_processes_that_claim_together_never_claim_twice(tmp_path: Path) -> None:
    house = make_house(tmp_path)
    ids = add(house, *(JobConfig(name=f"j{i}", command=("x",)) for i in range(100)))
    workers = [
        subprocess.Popen([sys.executable, "-c", _CLAIM, str(house.store.path)], stdout=subprocess.PIPE, text=True)
        for _ in range(4)
    ]
    won = [job for worker in workers for job in json.loads(worker.communicate()[0])]
    assert [worker.returncode for worker in workers] == [0] * 4
    assert sorted(won) == ids
    with house.store.read() as connection:
        assert len(read.event_views(connection, ids)) == 2 * len(ids)


def _bring_to(house: House, job_id: int, state: JobState) -> None:
    """Walk a pending job along the arrows to `state`."""
    clock = house.clock
    with house.store.write() as connection:
        now = clock.now()
        if state is JobState.SKIPPED:
            assert transitions.skip(connection, now, {job_id: "because"})
        elif state is not JobState.PENDING:
            assert transitions.claim(connection, now, [Start(job_id, "local", "", ["0"])], "") == {job_id: 1}
            if state is not JobState.LAUNCHING:
                assert transitions.seen_alive(connection, now, [(job_id, 1)])
            if state in TERMINAL:
                assert transitions.finish(connection, now, [End(job_id, 1, state, 1, "r", 2.0)])


@pytest.mark.parametrize("state", JobState)
def test_each_transition_is_taken_exactly_from_the_states_its_arrows_allow(tmp_path: Path, state: JobState) -> None:
    house = make_house(tmp_path)
    now = house.clock.now()
    attempts = {
        "claim": (JobState.LAUNCHING, lambda c, j: transitions.claim(c, now, [Start(j, "local", "")], "")),
        "seen_alive": (JobState.RUNNING, lambda c, j: transitions.seen_alive(c, now, [(j, 1)])),
        "finish": (JobState.LOST, lambda c, j: transitions.finish(c, now, [End(j, 1, JobState.LOST)])),
        "skip": (JobState.SKIPPED, lambda c, j: transitions.skip(c, now, {j: "r"})),
        "cancel": (JobState.KILLED, lambda c, j: transitions.cancel(c, now, [j])),
        "give_up": (JobState.TIMED_OUT, lambda c, j: transitions.give_up_waiting(c, now, {j: "r"})),
        "retry": (JobState.PENDING, lambda c, j: transitions.retry(c, now, [j])),
        "withdraw": (JobState.PENDING, lambda c, j: transitions.withdraw(c, now, j, 1, "r")),
    }
    for name, (to, act) in attempts.items():
        (job_id,) = add(house, JobConfig(name=f"{state}-{name}", command=("x",)))
        _bring_to(house, job_id, state)
        with house.store.write() as connection:
            changed = act(connection, job_id)
            events = [(e.from_state, e.to_state) for e in read.event_views(connection, [job_id])]
        # Some states are reached in two ways, from different sides.
        sides = {"cancel": {PENDING}, "give_up": {PENDING}, "retry": TERMINAL, "withdraw": {JobState.LAUNCHING}}
        allowed = to in ARROWS[state] and state in sides.get(name, set(JobState))
        assert bool(changed) == allowed, name
        assert states(house, job_id) == [to if allowed else state]
        assert (events[-1] == (state, to)) == allowed


def test_an_old_attempt_cannot_end_a_new_one(tmp_path: Path) -> None:
    house = make_house(tmp_path)
    (job_id,) = add(house, JobConfig(name="a", command=("x",)))
    now = house.clock.now()
    with house.store.write() as connection:
        assert transitions.claim(connection, now, [Start(job_id, "local", "")], "") == {job_id: 1}
        assert transitions.finish(connection, now, [End(job_id, 1, JobState.FAILED, 3, "exit code 3")])
        assert transitions.retry(connection, now, [job_id])
        assert transitions.claim(connection, now, [Start(job_id, "local", "")], "") == {job_id: 2}
        assert not transitions.finish(connection, now, [End(job_id, 1, JobState.SUCCEEDED, 0)])
    (view,) = views(house, job_id)
    assert (view.state, view.attempt, view.exit_code) == (JobState.LAUNCHING, 2, None)


def test_a_retry_revives_what_was_skipped_because_of_it_and_nothing_else(tmp_path: Path) -> None:
    house = make_house(tmp_path)
    a, b, c, other = add(
        house,
        JobConfig(name="a", command=("x",)),
        JobConfig(name="b", command=("x",), depends_on=("a",)),
        JobConfig(name="c", command=("x",), depends_on=("b",)),
        JobConfig(name="other", command=("x",)),
    )
    _bring_to(house, other, JobState.SKIPPED)
    _bring_to(house, a, JobState.FAILED)
    assert states(house, a, b, c, other) == [JobState.FAILED] + [JobState.SKIPPED] * 3
    with house.store.write() as connection:
        assert transitions.retry(connection, house.clock.now(), [a])
    assert states(house, a, b, c, other) == [JobState.PENDING] * 3 + [JobState.SKIPPED]


def test_what_was_taken_back_has_never_been_an_attempt(tmp_path: Path) -> None:
    house = make_house(tmp_path)
    (job_id,) = add(house, JobConfig(name="a", command=("x",)))
    now = house.clock.now()
    with house.store.write() as connection:
        transitions.claim(connection, now, [Start(job_id, "local", "")], "")
        assert transitions.withdraw(connection, now, job_id, 1, "it stood behind")
        assert connection.execute("SELECT count(*) FROM attempts").fetchone()[0] == 0
        assert transitions.claim(connection, now, [Start(job_id, "local", "")], "") == {job_id: 1}
