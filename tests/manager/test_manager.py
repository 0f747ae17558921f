"""The façade with a real daemon: putting in, wishing, waiting."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import pytest

from metta_jobs.daemon import control
from metta_jobs.errors import AlreadyExists, InvalidInput, UnknownName
from metta_jobs.job import JobConfig
from metta_jobs.manager import JobManager
from metta_jobs.policy import GroupConfig
from metta_jobs.states import JobState
from tests.processes import kill_daemon, members_of, processes_of, until

KILLED, PENDING, RUNNING = JobState.KILLED, JobState.PENDING, JobState.RUNNING
FAILED, SKIPPED, SUCCEEDED = JobState.FAILED, JobState.SKIPPED, JobState.SUCCEEDED


def shell(name: str, script: str = "exec sleep 600", *after: str, **fields: object) -> JobConfig:
    return JobConfig(name=name, command=("sh", "-c", script), depends_on=after, **fields)  # type: ignore[arg-type]


def states(manager: JobManager, group: str = "g") -> dict[str, JobState]:
    return {job.name: job.state for job in manager.group(group).jobs}


def wait_for(manager: JobManager, target: str, state: JobState) -> None:
    until(lambda: manager.jobs([target])[0].state is state, f"{target} to be {state.value}")


# ------------------------------------------------------------------------------------------------------- putting in


def test_a_group_s_limit_holds_from_its_first_submit_on(manager: JobManager, tmp_path: Path) -> None:
    alone = f"mkdir {tmp_path}/alone || touch {tmp_path}/clash; sleep 0.05; rmdir {tmp_path}/alone"
    view = manager.submit([shell(f"j{n}", alone) for n in range(5)], group="g", options=GroupConfig(max_parallel=1))
    assert (view.max_parallel, view.max_failures, view.priority) == (1, None, 0)
    assert {job.state for job in manager.wait(["g"], timeout_s=60)} == {SUCCEEDED}
    assert not (tmp_path / "clash").exists()


def test_after_too_many_failures_the_rest_of_a_group_is_stopped(manager: JobManager) -> None:
    jobs = [shell("bad", "exit 1"), shell("live"), shell("next", "true", "live")]
    manager.submit(jobs, group="g", options=GroupConfig(max_failures=1))
    manager.submit([shell("live")], group="other")
    manager.wait(["g"], timeout_s=60)
    assert states(manager) == {"bad": FAILED, "live": KILLED, "next": SKIPPED}
    wait_for(manager, "other/live", RUNNING)


def test_a_second_submit_adds_to_the_group_and_changes_what_it_names(manager: JobManager) -> None:
    first = manager.submit([shell("a")], group="g", options=GroupConfig(max_parallel=3, priority=2))
    second = manager.submit([shell("b")], group="g", options=GroupConfig(max_failures=4))
    assert [job.name for job in second.jobs] == ["a", "b"]
    assert second.created_at == first.created_at
    assert (second.max_parallel, second.priority, second.max_failures) == (3, 2, 4)
    assert [job.priority for job in second.jobs] == [2, 2]
    third = manager.submit([shell("c")], group="g")
    assert (third.max_parallel, third.priority, third.max_failures) == (3, 2, 4)


@pytest.mark.parametrize(
    ("configs", "group", "options", "error", "says"),
    [
        ([shell("new"), shell("a")], "g", {}, AlreadyExists, "has a job 'a' already.*`metta job retry 1`"),
        ([shell("new"), shell("new")], "g", {}, AlreadyExists, "once is enough"),
        ([shell("new")], "g", {"new_group": True}, AlreadyExists, "There is a group 'g' already"),
        ([], "g", {}, InvalidInput, "the list of jobs is empty"),
        ([shell("new")], "no/slash", {}, InvalidInput, "cannot be a name"),
        ([shell("new"), shell("x", "true", "nwe")], "g", {}, UnknownName, "Did you mean 'new'"),
        ([shell("new"), shell("x", "true", "h/")], "g", {}, UnknownName, "the group 'h', which does not exist"),
        ([shell("new"), shell("x", cpus=5)], "h", {}, InvalidInput, "5 CPU slots and this machine has 4"),
        ([shell("new"), shell("x", gpus=2)], "h", {}, InvalidInput, "2 GPUs and this machine has none"),
        ([shell("new"), shell("x", memory_gb=9)], "h", {}, InvalidInput, "9 GB of memory and this machine has 8.5"),
        ([shell("new", secrets=("NOT_HERE",))], "h", {}, InvalidInput, "NOT_HERE, which is not in your environment"),
    ],
)
def test_what_cannot_be_is_refused_whole_with_what_there_is(
    manager: JobManager,
    monkeypatch: pytest.MonkeyPatch,
    configs: list[JobConfig],
    group: str,
    options: dict[str, bool],
    error: type[Exception],
    says: str,
) -> None:
    monkeypatch.setenv("METTA_MEMORY_GB", "8.5")
    manager.submit([shell("a")], group="g")
    with pytest.raises(error, match=says):
        manager.submit(configs, group=group, options=GroupConfig(priority=7), **options)
    assert [(summary.name, summary.counts.total) for summary in manager.groups()] == [("g", 1)]
    assert manager.group("g").priority == 0


def test_gpus_that_are_there_are_told(manager: JobManager, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("METTA_GPUS", "0,1")
    with pytest.raises(InvalidInput, match="3 GPUs and this machine has 2"):
        manager.submit([shell("x", gpus=3)], group="g")
    assert manager.groups() == []


def test_a_whole_group_is_waited_for_as_it_was_at_submit(manager: JobManager, tmp_path: Path) -> None:
    gate = f"until test -e {tmp_path}/gate; do sleep 0.02; done;"
    manager.submit([shell("ok", f"{gate} exit 0"), shell("bad", f"{gate} exit 1")], group="train")
    after = [
        shell("all-ok", "true", "train/"),
        shell("report", "true", "afterany:train/"),
        shell("alarm", "true", "afternotok:train/"),
        shell("one", "true", "train/ok"),
    ]
    view = manager.submit(after, group="g")
    assert [len(job.parents) for job in view.jobs] == [2, 2, 2, 1]
    manager.submit([shell("later")], group="train")
    assert manager.jobs(["g/report"])[0].reason == "waits for train (0 of 2 ended)"
    (tmp_path / "gate").touch()
    manager.wait(["g"], timeout_s=60)
    assert states(manager) == {"all-ok": SKIPPED, "report": SUCCEEDED, "alarm": SUCCEEDED, "one": SUCCEEDED}
    assert manager.jobs(["g/all-ok"])[0].reason == "train/bad failed"


def test_what_a_job_names_as_secret_is_nowhere_in_the_state_folder(
    manager: JobManager, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = {"HARMLESS": "quietly-quietly", "SHORT": "zq7x"}
    for name, value in values.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("DERIVED", "https://host/?q=quietly-quietly")  # holds the same, under another name
    seen = tmp_path / "seen"
    script = f'echo "$HARMLESS $SHORT $DERIVED" >> {seen}; test $METTA_ATTEMPT != 1'
    held = shell("held", script, "first", secrets=(*values,), max_log_mb=1)
    manager.submit([shell("first", "true", secrets=(*values,)), held], group="g")
    manager.wait(["g"], timeout_s=60)
    manager.retry(["g/held"], changes=["timeout_s=50", "env.OTHER=plain"])
    assert manager.wait(["g"], timeout_s=60)[1].timeout_s == 50
    manager.stop_daemon()
    wanted = "quietly-quietly zq7x https://host/?q=quietly-quietly"
    assert seen.read_text().splitlines() == [wanted] * 2
    held_by: dict[Path, bytes] = {}
    for folder, _, names in os.walk(manager.state_dir):
        for path in (Path(folder, name) for name in names):
            with contextlib.suppress(FileNotFoundError):  # a runner that ends takes its own away
                held_by |= {path: path.read_bytes()} if path.is_file() else {}
    assert manager.state_dir / "jobs.sqlite" in held_by
    for path, content in held_by.items():
        for value in values.values():
            assert value.encode() not in content, path


# ---------------------------------------------------------------------------------------------------------- wishing


def test_kill_ends_what_lives_cancels_what_waits_and_leaves_the_rest(manager: JobManager) -> None:
    jobs = [shell("done", "true"), shell("live"), shell("waits", "true", cpus=4), shell("child", "true", "live")]
    manager.submit([*jobs, shell("after", "true", "afterany:live", cpus=0)], group="g")
    manager.wait(["g/done"], timeout_s=60)
    wait_for(manager, "g/live", RUNNING)
    pids = until(lambda: members_of(manager.state_dir, 2), "its processes")
    assert [job.name for job in manager.kill(["g/live", "g/done", "g/waits"])] == ["live", "waits"]
    manager.wait(["g"], timeout_s=60)
    assert states(manager) == {
        "done": SUCCEEDED,
        "live": KILLED,
        "waits": KILLED,
        "child": SKIPPED,
        "after": SUCCEEDED,
    }
    assert not set(pids) & set(processes_of(manager.state_dir))
    assert manager.kill(["g"]) == []
    assert manager.jobs(["g/waits"])[0].attempt == 0


def test_one_target_needs_no_list_and_is_not_taken_letter_by_letter(manager: JobManager) -> None:
    manager.submit([shell("a", "true"), shell("b", "true")], group="group")
    assert [job.name for job in manager.wait("group", timeout_s=60)] == ["a", "b"]
    assert [job.id for job in manager.jobs("group/b")] == [2] == [job.id for job in manager.jobs(2)]
    assert {event.job_id for event in manager.events("group/b")} == {2}
    with pytest.raises(UnknownName, match="There is no job 12"):
        manager.kill("12")


def test_force_does_not_wait_for_the_grace(manager: JobManager, tmp_path: Path) -> None:
    deaf = f"trap '' TERM; touch {tmp_path}/deaf; while :; do sleep 0.05; done"
    manager.submit([shell("deaf", deaf, grace_s=3600)], group="g")
    until((tmp_path / "deaf").exists)
    manager.kill(["g"])
    until(lambda: "ending" in (manager.job(1).reason or ""), "the daemon's asking")
    manager.kill(["g"], force=True)
    (ended,) = manager.wait(["g"], timeout_s=60)
    assert (ended.state, ended.exit_code) == (KILLED, 137)


@pytest.mark.parametrize("target", ["nobody", "g/nobody", 99, "99"])
def test_one_wrong_name_among_several_and_nothing_is_done(manager: JobManager, target: str | int) -> None:
    manager.submit([shell("live"), shell("bad", "exit 1")], group="g")
    manager.wait(["g/bad"], timeout_s=60)
    for act in (manager.kill, manager.retry, manager.move, manager.wait, manager.events):
        with pytest.raises(UnknownName, match=r"There is no|has no job"):
            act(["g/bad", "g/live", target])
    assert {event.kind for event in manager.events(["g"])} == {"submitted", "state"}
    wait_for(manager, "g/live", RUNNING)


def test_retry_gives_a_new_attempt_and_revives_what_was_skipped(manager: JobManager, tmp_path: Path) -> None:
    flag = tmp_path / "flag"
    jobs = [shell("good", "true"), shell("bad", f"test -e {flag}"), shell("child", "true", "bad"), shell("live")]
    manager.submit(jobs, group="g")
    manager.wait(["g/child"], timeout_s=60)
    wait_for(manager, "g/live", RUNNING)
    for target, says in (("g", "is succeeded"), ("g/live", "is running"), ("g/child", "retry that one")):
        with pytest.raises(InvalidInput, match=says):
            manager.retry([target])
    assert [job.attempt for job in manager.group("g").jobs] == [1, 1, 0, 1]
    flag.touch()
    again = manager.retry(["g"], failed=True)
    assert {job.name for job in again} == {"bad", "child"}
    ended = manager.wait(["g/bad", "g/child"], timeout_s=60)
    assert [(job.state, job.attempt) for job in ended] == [(SUCCEEDED, 2), (SUCCEEDED, 1)]
    assert manager.retry(["g"], failed=True) == []


def test_retry_with_changes_runs_what_was_asked_for_or_nothing(manager: JobManager) -> None:
    manager.submit([shell("a", 'exit "$CODE"', env={"CODE": "3"}), shell("b", "exit 4")], group="g")
    assert [job.exit_code for job in manager.wait(["g"], timeout_s=60)] == [3, 4]
    for wrong, says in (
        ("cpus=9", "9 CPU slots and this machine has 4"),
        ("timout_s=3", "Did you mean 'timeout_s'"),
        ("timeout_s=-1", "greater than 0"),
        (
            "retry.on=[999]",
            r"retry.on has 999, and no command fails with that: exit codes of failures are from 1 to 255",
        ),
        ("name=c", "cannot be changed"),
        ("env.API_KEY=abc", "looks like a secret"),
    ):
        with pytest.raises(InvalidInput, match=says):
            manager.retry(["g"], changes=["env.CODE=0", wrong])
    assert states(manager) == {"a": FAILED, "b": FAILED}
    assert {event.kind for event in manager.events(["g"])} == {"submitted", "state"}
    manager.retry(["g/a"], changes=["env.CODE=0", "cpus=2", "timeout_s=77"])
    (ended,) = manager.wait(["g/a"], timeout_s=60)
    assert (ended.state, ended.attempt, ended.cpus, ended.timeout_s) == (SUCCEEDED, 2, 2, 77)
    assert [e.reason for e in manager.events(["g/a"]) if e.kind == "edit"] == ["env.CODE=0 cpus=2 timeout_s=77"]


# ---------------------------------------------------------------------------------------------------------- waiting


def test_a_wait_that_is_too_short_tells_how_things_stand(manager: JobManager) -> None:
    manager.submit([shell("ends", "true"), shell("live")], group="g")
    manager.wait(["g/ends"], timeout_s=60)
    for timeout_s in (0.2, 0, -1):
        found = manager.wait(["g"], timeout_s=timeout_s)
        assert [job.state.terminal for job in found] == [True, False]
    manager.kill(["g"], force=True)
    assert [job.state for job in manager.wait(["g"])] == [SUCCEEDED, KILLED]


@pytest.mark.parametrize("dies", ["before the daemon has heard of it", "while it runs"])
def test_a_wait_after_a_retry_is_for_the_new_attempt_though_the_daemon_dies(
    manager: JobManager, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dies: str
) -> None:
    begun = tmp_path / "begun"
    script = f'test "$METTA_ATTEMPT" = 1 && exit 1; touch {begun}; sleep 0.3; exit 0'
    manager.submit([shell("a", script), shell("b", "true", "a")], group="g")
    manager.wait(["g"], timeout_s=60)
    if dies == "while it runs":
        manager.retry(["g/a"])
        until(begun.exists, "the second attempt")
        kill_daemon(manager.state_dir)
    else:
        kill_daemon(manager.state_dir)
        with monkeypatch.context() as patched:
            patched.setattr(control, "ensure", lambda _: None)
            patched.setattr(JobManager, "_settled", lambda *_: None)
            manager.retry(["g/a"])
        assert manager.daemon() is None and manager.job(1).state is FAILED
    ended = manager.wait(["g"], timeout_s=60)
    assert [(job.state, job.attempt) for job in ended] == [(SUCCEEDED, 2), (SUCCEEDED, 1)]


def test_a_wait_starts_a_daemon_where_there_is_none(manager: JobManager) -> None:
    manager.submit([shell("a", "sleep 0.3")], group="g")
    kill_daemon(manager.state_dir)
    assert manager.daemon() is None
    assert manager.wait(["g"], timeout_s=60)[0].state is SUCCEEDED
    holder = manager.daemon()
    assert holder is not None and holder.pid != os.getpid()
