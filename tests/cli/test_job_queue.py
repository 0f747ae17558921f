"""`metta job edit`, `move`, `pause`, `resume`, `why` and `watch-events`, in processes of their own."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from metta_jobs.daemon.house import House
from metta_jobs.daemon.tick import tick
from metta_jobs.job import JobConfig
from metta_jobs.manager import JobManager
from metta_jobs.policy import GroupConfig, RetryPolicy
from metta_jobs.states import JobState
from metta_jobs.store import edit, read
from metta_jobs.testing import FakeExecutor, add, make_house
from tests.processes import metta, until


def job(name: str, command: tuple[str, ...] = ("true",), **fields: object) -> JobConfig:
    return JobConfig(name=name, command=command, **fields)  # type: ignore[arg-type]


@pytest.fixture
def full(manager: JobManager, monkeypatch: pytest.MonkeyPatch) -> JobManager:
    """A machine that job 1 fills, two jobs of the group g that wait, and commands that find them."""
    monkeypatch.setenv("METTA_JOB_STATE", str(manager.state_dir))
    manager.submit([job("hog", ("sleep", "600"), cpus=4)], group="full")
    until(lambda: manager.job(1).state is JobState.RUNNING)
    manager.submit([job("a"), job("b")], group="g")
    return manager


def told(*arguments: str) -> str:
    """What the command says when all goes well."""
    done = metta("job", *arguments)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def told_json(*arguments: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(told(*arguments, "--json"))
    return found


# --------------------------------------------------------------------------------------------------------- changing


def test_edit_changes_a_job_or_a_group(full: JobManager) -> None:
    assert told("edit", "2", "timeout_s=60", "env.A=b c") == "Job 2 (g/a) is changed: timeout_s=60 env.A=b c.\n"
    assert full.job(2).timeout_s == 60
    view = told_json("edit", "g/b", "priority=3", "cpus=0.5")
    assert (view["id"], view["priority"], view["cpus"], view["state"]) == (3, 3, 0.5, "pending")
    limits = "g: priority=2, max_parallel=1, max_failures=none"
    assert told("edit", "g", "max_parallel=1", "priority=2") == f"{limits}; nobody is told of its end.\n"
    hooks = '[{"command": ["true", "x"], "on": "failure"}, {"desktop": true}]'
    said = "its end is told by the command true (on failure), a desktop notification"
    assert told("edit", "g", f"on_end={hooks}") == f"{limits}; {said}.\n"
    assert [hook["on"] for hook in told_json("list", "g")["on_end"]] == ["failure", "any"]
    assert told("edit", "g", "on_end=[]") == f"{limits}; nobody is told of its end.\n"
    group = told_json("edit", "g", "max_parallel=null", "max_failures=4")
    assert (group["group"], group["max_parallel"], group["max_failures"], "jobs" in group) == ("g", None, 4, False)
    assert [j.priority for j in full.group("g").jobs] == [2, 5]


def test_move_changes_the_order_of_the_queue(full: JobManager) -> None:
    assert told("move", "3", "--first") == "1 job moved: now the first of the queue.\n"
    assert [full.place(job_id)[0] for job_id in (3, 2)] == [0, 1]  # type: ignore[index]
    assert told("move", "g/a", "--before", "3") == "1 job moved: now before job 3.\n"
    assert [full.place(job_id)[0] for job_id in (2, 3)] == [0, 1]  # type: ignore[index]
    assert told("move", "g/b", "--before", "g/a") == "1 job moved: now before g/a.\n"
    assert [full.place(job_id)[0] for job_id in (3, 2)] == [0, 1]  # type: ignore[index]
    assert [moved["id"] for moved in told_json("move", "3", "2", "--first")["jobs"]] == [2, 3]
    assert [full.place(job_id)[0] for job_id in (3, 2)] == [0, 1]  # type: ignore[index]


def test_pause_and_resume_say_whether_they_changed_anything(full: JobManager) -> None:
    full.submit([job("a")], group="h")
    assert told("pause", "g") == "g is paused.\n"
    assert told("pause", "g", "h") == "g was paused already.\nh is paused.\n"
    assert told_json("list", "g")["paused_at"] is not None
    assert told("resume", "h", "full") == "h goes on.\nfull was not paused.\n"
    full.kill([1], force=True)
    assert full.wait(["h"], timeout_s=60)[0].state is JobState.SUCCEEDED
    assert [j.reason for j in full.group("g").jobs] == ["group paused"] * 2
    assert told("resume", "g") == "g goes on.\n"
    assert {j.state for j in full.wait(["g"], timeout_s=60)} == {JobState.SUCCEEDED}


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ("edit 2 cpus=9", "it asks for 9 CPU slots and this machine has 4"),
        ("edit 2 timeout_s=9 cpu=2", "Did you mean 'cpus'?"),
        ("edit 2 timeout_s", "'timeout_s' is no argument: write key=value"),
        ("edit 2", "Missing argument"),
        ("edit 2 env.MY_TOKEN=x", "MY_TOKEN looks like a secret"),
        ("edit 2 name=c", "name of a job that is stored cannot be changed"),
        (
            "edit 1 timeout_s=9",
            "Job 1 (hog) is running; only a pending job can be edited. Kill it first; `metta job retry 1 ",
        ),
        ("edit 99 timeout_s=9", "There is no job 99."),
        ("edit g/c timeout_s=9", "The group 'g' has no job 'c'."),
        ("edit nobody max_parallel=2", "There is no group 'nobody'."),
        ("edit g max_parallel=0", "max_parallel"),
        ("edit g max_failures=2 max_paralel=2", "Did you mean 'max_parallel'?"),
        ("edit g timeout_s=9", "There is no field 'timeout_s' in GroupConfig."),
        ("move 3", "Say where to: --first, or --before ID or GROUP/NAME."),
        ("move 3 --first --before 2", "Say where to: --first, or --before ID or GROUP/NAME."),
        ("move 3 --before 1", "Job 1 (hog) is running, not pending, so it has no place in the queue."),
        ("move 3 --before 99", "There is no job 99."),
        ("move 3 --before g/c", "The group 'g' has no job 'c'."),
        ("move 3 --before g", "g names 2 jobs; name one, by its id or as g/NAME."),
        ("move 1 --first", "None of these jobs is pending, so there is nothing to move."),
        ("move 3 nobody --first", "There is no group 'nobody'."),
        ("pause gg", "There is no group 'gg'."),
        ("resume", "Missing argument"),
        ("resume 2", "There is no group '2'."),
        ("why", "Missing argument"),
        ("why g", "g names 2 jobs; name one, by its id or as g/NAME."),
        ("why 99", "There is no job 99."),
        ("watch-events --after -1", "-1 is not in the range"),
        ("watch-events --after x", "'x' is not a valid int"),
    ],
)
def test_a_mistake_is_said_in_few_sentences_and_changes_nothing(full: JobManager, arguments: str, says: str) -> None:
    before = (full.group("g"), full.group("full").max_parallel, full.last_event())
    done = metta("job", *arguments.split())
    said = " ".join(re.sub("[│╭╮╰╯─]", " ", done.stderr).split())
    assert (done.returncode, done.stdout) == (2, "")
    assert says in said
    assert "Traceback" not in said
    if said.startswith("error: "):
        assert len(re.findall(r"[.?](?= |$)", said)) <= 3, said
    assert (full.group("g"), full.group("full").max_parallel, full.last_event()) == before


# -------------------------------------------------------------------------------------------------------------- why


@pytest.fixture
def house(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> House:
    """A queue whose daemon moves only when a test ticks: what it is told cannot change meanwhile."""
    monkeypatch.setenv("METTA_JOB_STATE", str(tmp_path / "job_state"))
    return make_house(tmp_path / "job_state", cpus=3, gpus=("0", "1"), memory_gb=10)


def settle(house: House) -> None:
    for _ in range(5):
        tick(house)


def why(target: str) -> tuple[str, dict[str, Any]]:
    """What is said, and the same as JSON."""
    said, asked = metta("job", "why", target), metta("job", "why", target, "--json")
    assert (said.returncode, asked.returncode) == (0, 0)
    found: dict[str, Any] = json.loads(asked.stdout)
    assert f" is {found['state']}: {found['reason']}." in said.stdout
    assert "No daemon runs" in said.stderr and found["daemon_running"] is False
    return said.stdout, found


def in_slots(house: House) -> list[int]:
    """Job 1 holds two of three CPU slots and one of two GPUs, for good."""
    return add(house, job("holder", cpus=2, gpus=1, memory_gb=6), group="held")


@pytest.mark.parametrize(
    ("wants", "reason"),
    [
        ({"cpus": 2}, "no free CPU slot (2 of 3 in use by 1)"),
        ({"memory_gb": 5}, "not enough memory (wants 5 GB, 4 of 10 GB free)"),
        ({"gpus": 2}, "not enough free GPUs (wants 2; 1 of 2 in use by 1)"),
    ],
)
def test_why_counts_the_slots(house: House, wants: dict[str, float], reason: str) -> None:
    in_slots(house)
    settle(house)
    add(house, job("waits", **wants))
    settle(house)
    text, found = why("g/waits")
    assert text.startswith(f"Job 2 (g/waits) is pending: {reason}.\nNo job before it in the queue; it has waited ")
    assert (found["reason"], found["before_it"]) == (reason, 0)
    assert found["waits_since"] == house.clock.now().isoformat()


def test_why_counts_those_before_it_by_priority_then_by_age(house: House) -> None:
    in_slots(house)
    settle(house)
    add(house, job("old", cpus=3), job("urgent", cpus=3, priority=5), job("young", cpus=3))
    add(house, job("mine", cpus=3), group="h", options=GroupConfig(priority=1))
    settle(house)
    names = ["g/urgent", "h/mine", "g/old", "g/young"]
    assert [why(name)[1]["before_it"] for name in names] == [0, 1, 2, 3]
    assert "\n3 jobs before it in the queue; " in why("g/young")[0]
    assert "\n1 job before it in the queue; " in why("h/mine")[0]


def test_why_tells_of_slots_that_are_kept_for_one_that_waits_long(house: House) -> None:
    in_slots(house)
    settle(house)
    add(house, job("big", cpus=3), job("small", cpus=1))  # months ago, by the clock of who looks
    text, found = why("g/small")
    assert re.fullmatch(r"the next free CPU slot is kept for job 2, which has waited \d+ min", found["reason"]), text
    assert found["before_it"] == 1


def test_why_names_a_pause_and_no_place(house: House) -> None:
    add(house, job("a"))
    with house.store.write() as connection:
        group = read.group_id(connection, "g")
        assert group is not None
        edit.pause_group(connection, house.clock.now(), group, paused=True)
    settle(house)
    text, found = why("1")
    assert text == "Job 1 (g/a) is pending: group paused.\n"
    assert (found["before_it"], found["waits_since"]) == (None, None)


def test_why_names_what_it_depends_on(house: House) -> None:
    in_slots(house)
    add(house, job("x"), job("y"), group="other")
    after = ("held/holder", "afterany:other/")
    add(house, job("a", depends_on=after), job("b", depends_on=("a",)))
    settle(house)
    executor = house.executors["local"]
    assert isinstance(executor, FakeExecutor)
    executor.end((2, 1), 0)
    settle(house)
    assert why("g/a")[0] == ("Job 4 (g/a) is pending: waits for held/holder (running), other (1 of 2 ended).\n")
    assert why("5")[1]["reason"] == "waits for a (pending)"


def test_why_names_the_limit_of_the_group(house: House) -> None:
    add(house, *(job(name) for name in "abc"), options=GroupConfig(max_parallel=2))
    settle(house)
    assert why("g/c")[1]["reason"] == "the group's limit is reached (2 of 2 running)"


def test_why_names_the_pause_before_another_attempt_and_what_ended_the_last(full: JobManager) -> None:
    again = RetryPolicy(max_attempts=2, backoff_s=1000)
    full.submit([job("bad", ("sh", "-c", "exit 7"), retry=again, cpus=0)], group="h")
    until(lambda: "tried again" in (full.job(4).reason or ""), "the pause")
    found = told_json("why", "h/bad")
    assert re.fullmatch(r"tried again in (1000|9\d\d) s \(before: exit code 7\)", found["reason"])
    assert (found["before_it"], found["daemon_running"]) == (None, True)


def test_why_of_what_does_not_wait(house: House) -> None:
    add(house, job("good"), job("bad"), job("live"))
    settle(house)
    executor = house.executors["local"]
    assert isinstance(executor, FakeExecutor)
    executor.end((1, 1), 0)
    executor.end((2, 1), 6)
    settle(house)
    assert told("why", "1") == "Job 1 (g/good) is succeeded: exit code 0.\n"
    assert told("why", "2") == "Job 2 (g/bad) is failed: exit code 6.\n"
    assert why("3")[0] == "Job 3 (g/live) is running: it has all that it needs.\n"


# ----------------------------------------------------------------------------------------------------- watch-events


@contextmanager
def watching(out: Path, *arguments: str) -> Iterator[tuple[subprocess.Popen[bytes], Callable[[], list[str]]]]:
    """`metta job watch-events` and what it has written so far, line by line."""
    with out.open("wb") as stream, out.with_suffix(".err").open("wb") as errors:
        command = [sys.executable, "-m", "metta_jobs", "job", "watch-events", *arguments]
        program = subprocess.Popen(command, stdout=stream, stderr=errors)
        try:
            yield program, lambda: out.read_text().splitlines()
        finally:
            program.kill()
            program.wait()


def test_events_come_as_they_happen_one_object_a_line(full: JobManager, tmp_path: Path) -> None:
    with watching(tmp_path / "all", "--json", "--after", "0") as (program, lines):
        old = until(lambda: len(lines()) >= full.last_event() and lines(), "what has happened before")
        full.edit(2, ["timeout_s=9"])
        until(lambda: len(lines()) > len(old), "what happens now")
        full.kill([1], force=True)
        full.wait(["full", "g"], timeout_s=60)
        until(lambda: len(lines()) == full.last_event(), "the rest")
        program.send_signal(signal.SIGINT)
        assert program.wait(timeout=60) == 130
    assert (tmp_path / "all.err").read_text() == ""
    events = [json.loads(line) for line in lines()]
    assert events == [event.to_dict() for event in full.all_events()]
    assert [event["id"] for event in events] == sorted({event["id"] for event in events})
    assert set(events[0]) == {
        *("id", "at", "job_id", "group", "name", "attempt", "kind", "from", "to", "reason"),
    }
    assert events[len(old)]["reason"] == "timeout_s=9"


def test_who_was_away_goes_on_after_the_last_it_saw_and_sees_only_its_groups(full: JobManager, tmp_path: Path) -> None:
    seen = full.last_event()
    full.pause("full")
    full.edit(3, ["timeout_s=8"])
    with watching(tmp_path / "some", "g", "--after", str(seen)) as (program, lines):
        until(lines, "the event")
        full.resume("full")
        full.pause("g")
        until(lambda: len(lines()) == 2, "the next event")
        program.send_signal(signal.SIGTERM)
        assert program.wait(timeout=60) == -signal.SIGTERM
    assert (tmp_path / "some.err").read_text() == ""
    assert [line[21:] for line in lines()] == ["g/b (3) edit: timeout_s=8", "g edit: paused"]


def test_by_default_only_what_happens_from_now_on_is_told(full: JobManager, tmp_path: Path) -> None:
    with watching(tmp_path / "new", "--json") as (_, lines):

        def told_of_a_change() -> list[str]:
            full.edit(2, ["timeout_s=7"])  # until it has begun to look
            return lines()

        first = until(told_of_a_change, "an event")[0]
    assert json.loads(first)["reason"] == "timeout_s=7"


def test_a_reader_that_has_had_enough_ends_it_without_a_word(full: JobManager, tmp_path: Path) -> None:
    metta_job = f"{sys.executable} -m metta_jobs job"
    script = f"{metta_job} watch-events --json --after 0 2>{tmp_path}/errors | head -1; echo ${{PIPESTATUS[0]}}"
    pipe = subprocess.Popen(["bash", "-c", script], stdout=subprocess.PIPE, env=os.environ)

    def ended() -> bool:
        full.edit(2, ["timeout_s=6"])  # it learns at its next line that nobody listens
        return pipe.poll() is not None

    until(ended, "the end of the pipe")
    assert pipe.stdout is not None
    first, code = pipe.stdout.read().splitlines()
    assert json.loads(first)["id"] == 1
    assert int(code) == 1
    assert (tmp_path / "errors").read_text() == ""


def test_a_queue_that_is_not_there_cannot_be_watched(tmp_path: Path) -> None:
    done = metta("--state-dir", tmp_path / "none", "job", "watch-events", "--json")
    assert (done.returncode, done.stdout) == (2, "")
    assert "There are no jobs yet" in done.stderr
    assert not (tmp_path / "none").exists()


def test_watching_a_group_that_is_not_there_says_so(full: JobManager) -> None:
    command = [sys.executable, "-m", "metta_jobs", "job", "watch-events", "gg"]
    watching = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    assert watching.stderr is not None
    said = watching.stderr.readline()
    watching.kill()
    watching.wait()
    watching.stderr.close()
    assert said == "There is no group 'gg' yet: waiting for it. Did you mean 'g'?\n"
