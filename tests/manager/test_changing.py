"""Changing what waits: edit, edit_group, move, pause, resume."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

import pytest

from metta_jobs.errors import InvalidInput, UnknownName
from metta_jobs.job import JobConfig
from metta_jobs.manager import JobManager
from metta_jobs.manager.checks import _RECIPE_COMMAND
from metta_jobs.manager.reasons import reasons_of
from metta_jobs.policy import GroupConfig
from metta_jobs.states import JobState
from metta_jobs.store import edit
from metta_jobs.store.engine import Store
from tests.processes import until

RECIPE = '''
"""A recipe for tests."""
from metta_jobs import Tool

class Train(Tool):
    label: str = "x"
    rate: float = 1.0

    def run(self):
        print(self.label, self.rate)
        return 0

def train() -> Train:
    """Train."""
    return Train()
'''


def job(name: str, command: tuple[str, ...] = ("true",), **fields: object) -> JobConfig:
    return JobConfig(name=name, command=command, **fields)  # type: ignore[arg-type]


@pytest.fixture
def full(manager: JobManager) -> JobManager:
    """A machine that is full: job 1 runs on all of it until it is killed."""
    manager.submit([job("hog", ("sleep", "600"), cpus=4)], group="full")
    until(lambda: manager.job(1).state is JobState.RUNNING)
    return manager


def free(manager: JobManager) -> None:
    manager.kill([1], force=True)


def queue(manager: JobManager) -> list[int]:
    """The ids of the jobs that wait for slots, in the order of the queue."""
    places = {j.id: manager.place(j.id) for summary in manager.groups() for j in manager.group(summary.name).jobs}
    waiting = {place[0]: job_id for job_id, place in places.items() if place is not None}
    return [waiting[before] for before in range(len(waiting))]


def edits(manager: JobManager, group: str = "g") -> list[str | None]:
    return [event.reason for event in manager.events([group]) if event.kind == "edit"]


def test_a_pending_job_runs_as_it_was_changed(full: JobManager) -> None:
    full.submit([job("a", ("sh", "-c", "exit 5"), env={"OLD": "1"}), job("b")], group="g")
    changes = ['command=["sh", "-c", "echo $OLD $NEW"]', "env.NEW=2", "cpus=2", "timeout_s=60", "grace_s=3"]
    changes += ["retry.max_attempts=4", "queue_timeout_s=3600"]
    view = full.edit(2, changes)
    assert (view.state, view.cpus, view.timeout_s, view.grace_s) == (JobState.PENDING, 2, 60, 3)
    assert (view.max_attempts, view.queue_timeout_s, view.command[-1]) == (4, 3600, "echo $OLD $NEW")
    assert edits(full) == [" ".join(changes)]
    assert full.edit(2, ["timeout_s=null"]).timeout_s is None
    assert full.edit(2, []) == full.job(2)
    free(full)
    assert [j.state for j in full.wait(["g"], timeout_s=60)] == [JobState.SUCCEEDED] * 2
    assert full.log_path(2).read_text() == "1 2\n"


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ("cpus=5", "it asks for 5 CPU slots and this machine has 4"),
        ("gpus=1", "this machine has none"),
        ("gpus=1.5", "1.5 GPUs cannot be given"),
        ("cpus=many", "cpus=many: .*number"),
        ("cpu=2", "Did you mean 'cpus'"),
        ("cpus", "write key=value"),
        ("name=other", "name of a job that is stored cannot be changed"),
        ("depends_on=[]", "depends_on of a job that is stored cannot be changed"),
        ("command=[]", "command"),
        ('command=["no-such-program"]', "'no-such-program' of the job 'a' was not found"),
        ("cwd=/nowhere", "which is no folder"),
        ("env.API_KEY=abc", "API_KEY looks like a secret"),
        ("retry.max_attempts=0", "retry.max_attempts"),
    ],
)
def test_a_wrong_change_changes_nothing(full: JobManager, change: str, says: str) -> None:
    full.submit([job("a")], group="g")
    before = full.job(2)
    with pytest.raises(InvalidInput, match=says):
        full.edit(2, ["timeout_s=9", change])
    assert full.job(2) == before
    assert edits(full) == []


def test_only_what_is_pending_can_be_edited_and_the_sentence_says_what_can_be_done(manager: JobManager) -> None:
    manager.submit([job("live", ("sleep", "600")), job("good"), job("bad", ("false",))], group="g")
    manager.wait(["g/good", "g/bad"], timeout_s=60)
    until(lambda: manager.job(1).state is JobState.RUNNING)
    for job_id, says in ((1, "is running.*Kill it first"), (2, "Submit another"), (3, "metta job retry 3 key=value")):
        with pytest.raises(InvalidInput, match=says):
            manager.edit(job_id, ["timeout_s=9"])
    with pytest.raises(UnknownName, match="There is no job 4"):
        manager.edit(4, ["timeout_s=9"])
    assert [j.timeout_s for j in manager.group("g").jobs] == [None] * 3


def test_a_job_that_starts_meanwhile_is_not_edited(full: JobManager, monkeypatch: pytest.MonkeyPatch) -> None:
    full.submit([job("a", ("sleep", "600"))], group="g")
    with JobManager(full.state_dir) as other:

        def changed(*arguments: object) -> JobConfig:
            free(other)
            until(lambda: other.job(2).state is JobState.RUNNING)
            return job("a", timeout_s=9)

        monkeypatch.setattr("metta_jobs.manager.facade.changed", changed)
        with pytest.raises(InvalidInput, match="is running; only a pending job can be edited"):
            full.edit(2, ["timeout_s=9"])
    assert full.job(2).timeout_s is None


def test_a_change_needs_no_secret_that_the_job_was_submitted_with(
    full: JobManager, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HARMLESS", "value")
    full.submit([job("a", ("sh", "-c", 'echo "$HARMLESS"'), secrets=("HARMLESS",))], group="g")
    monkeypatch.delenv("HARMLESS")  # another shell, another day
    assert full.edit(2, ["timeout_s=60"]).timeout_s == 60
    free(full)
    full.wait(["g"], timeout_s=60)
    assert full.log_path(2).read_text() == "value\n"


def test_arguments_of_a_recipe_are_changed_and_checked_like_those_at_submit(
    full: JobManager, tmp_path: Path, own_recipes: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "pyproject.toml").write_text("")
    (tmp_path / "recipes").mkdir()
    (tmp_path / "recipes" / "toy.py").write_text(RECIPE)
    monkeypatch.chdir(tmp_path)
    token = "ghp_" + "a1B2" * 6
    with JobManager(full.state_dir) as manager:
        command = (*_RECIPE_COMMAND, "toy.train", "rate=2.0")
        manager.submit([job("a", command, cwd=tmp_path)], group="g")
        with pytest.raises(InvalidInput, match="looks like a secret"):
            manager.edit(2, [f"label={token}"])
        with pytest.raises(UnknownName, match="Did you mean 'label'"):
            manager.edit(2, ["lable=new"])
        assert edits(manager) == []
        view = manager.edit(2, ["label=new", "timeout_s=100", "rate=0.5"])
        assert view.command == (*_RECIPE_COMMAND, "toy.train", "label=new", "rate=0.5")
        free(manager)
        assert manager.wait(["g"], timeout_s=60)[0].state is JobState.SUCCEEDED
        assert manager.log_path(2).read_text() == "new 0.5\n"
    assert all(token.encode() not in path.read_bytes() for path in full.state_dir.rglob("*") if path.is_file())


# ------------------------------------------------------------------------------------------------------ the queue


def test_the_priorities_of_jobs_and_groups_add_up_and_can_be_changed(full: JobManager) -> None:
    full.submit([job("a"), job("b", priority=2)], group="low")
    full.submit([job("c")], group="high", options=GroupConfig(priority=1))
    assert queue(full) == [3, 4, 2]
    assert full.edit(2, ["priority=7"]).priority == 7
    assert queue(full) == [2, 3, 4]
    group = full.edit_group("high", ["priority=10", "max_parallel=2"])
    assert (group.priority, group.max_parallel, group.jobs[0].priority) == (10, 2, 10)
    assert queue(full) == [4, 2, 3]
    assert full.edit_group("high", ["priority=null", "max_parallel=null"]).max_parallel is None
    assert queue(full) == [2, 3, 4]
    assert edits(full, "high") == ["priority=1", "priority=10, max_parallel=2", "priority=0, max_parallel=null"]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ("max_parallel=0", "max_parallel"),
        ("max_paralel=2", "Did you mean 'max_parallel'"),
        ("priority=9999999", "priority"),
        ("on_end=[{}]", "exactly one of command, webhook and desktop"),
        ('on_end=[{"webhook": "https://hooks.slack.com/services/x"}]', "given by name"),
        ("max_failures", "write key=value"),
    ],
)
def test_a_wrong_change_of_a_group_changes_nothing(full: JobManager, change: str, says: str) -> None:
    before = full.group("full")
    with pytest.raises(InvalidInput, match=says):
        full.edit_group("full", ["max_failures=3", change])
    with pytest.raises(UnknownName, match="Did you mean 'full'"):
        full.edit_group("ful", ["max_failures=3"])
    after = full.group("full")
    assert (after.priority, after.max_parallel, after.max_failures) == (before.priority, None, None)
    assert edits(full, "full") == []


def test_a_limit_that_is_raised_lets_the_next_start_at_once(manager: JobManager) -> None:
    sleepers = [job(name, ("sleep", "600")) for name in "ab"]
    manager.submit(sleepers, group="g", options=GroupConfig(max_parallel=1))
    until(lambda: manager.job(1).state is JobState.RUNNING)
    assert manager.job(2).reason == "the group's limit is reached (1 of 1 running)"
    manager.edit_group("g", ["max_parallel=2"])
    until(lambda: manager.job(2).state is JobState.RUNNING)


def test_jobs_move_to_where_they_are_put_in_the_order_given_and_start_in_it(full: JobManager, tmp_path: Path) -> None:
    told = tmp_path / "told"
    names = ["b", "c", "d", "e"]
    full.submit([job(name, ("sh", "-c", f"echo {name} >> {told}"), cpus=4) for name in names], group="g")
    full.submit([job("top", ("sh", "-c", f"echo top >> {told}"), cpus=4, priority=9)], group="h")
    assert queue(full) == [6, 2, 3, 4, 5]
    assert [j.priority for j in full.move([5, "g/d"])] == [9, 9]
    assert queue(full) == [5, 4, 6, 2, 3]
    full.move(["h"], before="g/c")
    assert queue(full) == [5, 4, 2, 6, 3]
    full.move([3])
    assert queue(full) == [3, 5, 4, 2, 6]
    assert edits(full, "h") == ["moved before 3"]
    full.edit(3, ["timeout_s=50"])  # and what is not about the queue does not undo it
    assert queue(full) == [3, 5, 4, 2, 6]
    free(full)
    full.wait(["g", "h"], timeout_s=60)
    assert told.read_text().split() == ["c", "e", "d", "b", "top"]


def test_what_has_no_place_in_the_queue_is_not_moved(full: JobManager) -> None:
    full.submit([job("a"), job("b")], group="g")
    for targets, before, says in (
        ([1], None, "nothing to move"),
        ([2], 1, r"Job 1 \(hog\) is running, not pending"),
        ([2], "full/hog", r"Job 1 \(hog\) is running, not pending"),
        ([2], "g", "g names 2 jobs; name one, by its id or as g/NAME"),
        ([2], "g/bb", "The group 'g' has no job 'bb'"),
        ([2], 2, "nothing to move"),
        ([2], 99, "There is no job 99"),
        ([99, 2], None, "There is no job 99"),
    ):
        with pytest.raises(InvalidInput, match=says):
            full.move(targets, before=before)
    assert queue(full) == [2, 3]
    assert [j.id for j in full.move(["full", "g/b"])] == [3]


def test_there_is_always_room_between_two_jobs(full: JobManager) -> None:
    full.submit([job(name) for name in "abcd"], group="g")
    for turn in range(70):
        first, second = (3, 4) if turn % 2 else (4, 3)
        full.move([first], before=5)
        assert queue(full) == [2, second, first, 5]


def test_a_paused_group_starts_nothing_more_until_it_goes_on(manager: JobManager) -> None:
    manager.submit([job("live", ("sleep", "600")), job("next", depends_on=("live",))], group="g")
    until(lambda: manager.job(1).state is JobState.RUNNING)
    assert (manager.pause("g"), manager.pause("g")) == (True, False)
    assert manager.group("g").paused_at is not None
    manager.submit([job("new", priority=100)], group="g")
    manager.submit([job("other")], group="h")
    assert manager.wait(["h"], timeout_s=60)[0].state is JobState.SUCCEEDED
    assert [j.state.value for j in manager.group("g").jobs] == ["running", "pending", "pending"]
    assert manager.job(3).reason == "group paused"
    assert manager.place(3) is None
    assert (manager.resume("g"), manager.resume("g")) == (True, False)
    assert manager.wait([3], timeout_s=60)[0].state is JobState.SUCCEEDED
    assert edits(manager) == ["paused", "resumed"]
    for act in (manager.pause, manager.resume):
        with pytest.raises(UnknownName, match="There is no group 'gg'"):
            act("gg")


def test_a_job_of_a_paused_group_can_be_killed(full: JobManager) -> None:
    full.submit([job("a")], group="g")
    full.pause("g")
    full.kill(["g"])
    assert full.wait(["g"], timeout_s=60)[0].state is JobState.KILLED


def test_what_is_stored_of_a_changed_job_is_what_is_told(full: JobManager) -> None:
    full.submit([job("a")], group="g")
    full.edit(2, ['on_end={"command": ["true"], "on": "failure"}', "metrics=['reward']", "max_log_mb=5"])
    with Store(full.state_dir / "jobs.sqlite").read() as connection:
        stored = edit.config_of(connection, 2)
    assert json.loads(stored.model_dump_json())["on_end"][0]["on"] == "failure"
    assert (stored.metrics, stored.max_log_mb, full.job(2).metrics) == (("reward",), 5, ("reward",))


def test_a_group_and_what_its_jobs_wait_for_are_of_one_moment(
    full: JobManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    full.submit([job("a")], group="g")

    def late(connection: sqlite3.Connection, pending: Sequence[int], now: datetime) -> dict[int, str]:
        with JobManager(full.state_dir) as other:
            other.pause("g")
        return reasons_of(connection, pending, now)

    monkeypatch.setattr("metta_jobs.manager.reasons.reasons_of", late)
    seen = full.group("g")
    assert (seen.paused_at, seen.jobs[0].reason == "group paused") == (None, False)
    later = full.group("g")
    assert (later.paused_at is not None, later.jobs[0].reason) == (True, "group paused")
