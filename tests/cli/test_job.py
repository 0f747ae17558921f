"""The commands as a person types them, in processes of their own."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from metta_jobs.manager import JobManager
from metta_jobs.states import JobState
from tests.processes import kill_daemon, metta, until


@pytest.fixture
def project(state_dir: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project of its own, its state where `state_dir` cleans up."""
    monkeypatch.setenv("METTA_CPUS", "4")
    (state_dir.parent / "pyproject.toml").write_text("[project]\nname = 'x'\nversion = '0'\n")
    return state_dir.parent


def test_submit_wait_list_show_logs_events(project: Path) -> None:
    done = metta(
        "job", "submit", "--group", "g", "--name", "hi", "--env", "A=b c", "--", "sh", "-c", 'echo "$A"', cwd=project
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "Job 1 (g/hi) is submitted" in done.stdout
    assert metta("job", "wait", "g", cwd=project).returncode == 0
    assert metta("job", "logs", "1", cwd=project).stdout == "b c\n"
    assert metta("job", "logs", "g/hi", "-f", "--tail", "1", cwd=project).stdout == "b c\n"

    listed = json.loads(metta("job", "list", "--json", cwd=project).stdout)
    assert listed["groups"][0] | {"created_at": ""} == {
        "group": "g",
        "created_at": "",
        "paused": False,
        "total": 1,
        "running": 0,
        "launching": 0,
        "pending": 0,
        "completed": 1,
        "failed": 0,
        "killed": 0,
        "skipped": 0,
    }
    group = json.loads(metta("job", "list", "g", "--json", cwd=project).stdout)
    assert group["group"] == "g"
    (job,) = group["jobs"]
    expected = {"id": 1, "name": "hi", "state": "succeeded", "exit_code": 0, "attempt": 1, "reason": None}
    assert expected.items() <= job.items()
    shown = json.loads(metta("job", "show", "1", "--json", cwd=project).stdout)
    assert job.items() <= shown.items()
    assert [event["to"] for event in shown["events"]][-1] == "succeeded"
    assert "hi" in metta("job", "list", "g", cwd=project).stdout
    assert "succeeded" in metta("job", "show", "1", cwd=project).stdout
    assert "launching" in metta("job", "events", "1", cwd=project).stdout
    why = json.loads(metta("job", "why", "1", "--json", cwd=project).stdout)
    assert (why["state"], why["reason"]) == ("succeeded", "exit code 0")


def test_wait_tells_failures_and_time_outs_apart(project: Path) -> None:
    metta("job", "submit", "--group", "g", "--name", "bad", "--", "false", cwd=project)
    done = metta("job", "wait", "g", cwd=project)
    assert done.returncode == 1
    assert "g/bad (1) failed: exit code 1" in done.stderr
    metta("job", "submit", "--group", "g", "--name", "long", "--", "sleep", "600", cwd=project)
    done = metta("job", "wait", "g", "--timeout", "0.5", cwd=project)
    assert done.returncode == 124
    assert "1 of 2 jobs have not ended" in done.stderr


def test_kill_asks_and_force_does_not(project: Path) -> None:
    for name in ("a", "b"):
        metta("job", "submit", "--group", "g", "--name", name, "--", "sleep", "600", cwd=project)
    metta("job", "submit", "--group", "g", "--name", "c", "--after", "a", "--", "true", cwd=project)
    declined = metta("job", "kill", "1", cwd=project, input="n\n")
    assert (declined.returncode, "g/a" in declined.stderr) == (2, True)
    assert metta("job", "kill", "1", cwd=project).returncode == 2  # nobody answers
    agreed = metta("job", "kill", "1", cwd=project, input="y\n")
    assert (agreed.returncode, "1 job ended" in agreed.stdout) == (0, True)
    forced = json.loads(metta("job", "kill", "g", "--force", "--json", cwd=project).stdout)
    assert {job["name"] for job in forced["jobs"]} <= {"b", "c"}
    listed = json.loads(metta("job", "list", "g", "--json", cwd=project).stdout)["jobs"]
    assert {job["name"]: job["state"] for job in listed} == {"a": "killed", "b": "killed", "c": "skipped"}
    again = metta("job", "kill", "g", cwd=project)
    assert (again.returncode, "Nothing to kill" in again.stdout) == (0, True)


def test_retry_one_and_all_failed(project: Path) -> None:
    flag = project / "flag"
    script = f"test -e {flag}"
    metta("job", "submit", "--group", "g", "--name", "a", "--", "sh", "-c", script, cwd=project)
    metta("job", "submit", "--group", "g", "--name", "b", "--after", "a", "--", "true", cwd=project)
    assert metta("job", "wait", "g", cwd=project).returncode == 1
    flag.touch()
    done = metta("job", "retry", "g", "--failed", cwd=project)
    assert (done.returncode, "tried again" in done.stdout) == (0, True)
    assert metta("job", "wait", "g", cwd=project).returncode == 0
    refused = metta("job", "retry", "1", cwd=project)
    assert (refused.returncode, "is succeeded, so there is nothing to try again" in refused.stderr) == (2, True)
    assert metta("job", "retry", "g", "--failed", cwd=project).returncode == 0
    assert metta("job", "logs", "1", "--attempt", "3", cwd=project).returncode == 2


def test_why_names_what_a_job_waits_for(project: Path) -> None:
    metta("job", "submit", "--group", "g", "--name", "a", "--cpus", "3", "--", "sleep", "600", cwd=project)
    metta("job", "submit", "--group", "g", "--name", "b", "--after", "a", "--", "true", cwd=project)
    metta("job", "submit", "--group", "g", "--name", "c", "--cpus", "2", "--", "true", cwd=project)
    until(lambda: "waits for a (running)" in metta("job", "why", "2", cwd=project).stdout)
    until(lambda: "no free CPU slot (3 of 4 in use by 1)" in metta("job", "why", "3", cwd=project).stdout)


def test_a_dead_daemon_is_said_by_every_listing(project: Path) -> None:
    metta("job", "submit", "--group", "g", "--", "sleep", "600", cwd=project)
    with JobManager(project / "job_state") as manager:
        until(lambda: manager.job(1).state is JobState.RUNNING)
    kill_daemon(project / "job_state")
    for command in (["list"], ["list", "g"], ["why", "1"]):
        assert "No daemon runs" in metta("job", *command, cwd=project).stderr, command
    assert "No daemon runs" in metta("job", "monitor", "g", "--once", cwd=project).stdout
    status = json.loads(metta("daemon", "status", "--json", cwd=project).stdout)
    assert (status["running"], status["pid"], status["unfinished_jobs"]) == (False, None, 1)
    assert metta("daemon", "start", cwd=project).returncode == 0
    status = json.loads(metta("daemon", "status", "--json", cwd=project).stdout)
    assert status["running"] is True and isinstance(status["pid"], int)
    assert metta("daemon", "stop", cwd=project).returncode == 0
    assert "No daemon runs" in metta("daemon", "stop", cwd=project).stdout


def test_monitor_without_a_terminal_prints_changes_and_the_exit_code_tells_the_end(project: Path) -> None:
    metta("job", "submit", "--group", "g", "--name", "ok", "--", "sh", "-c", "sleep 0.3", cwd=project)
    done = metta("job", "monitor", "g", "--refresh", "0.1", cwd=project)
    assert done.returncode == 0
    assert "ok" in done.stdout and "succeeded" in done.stdout
    assert "\x1b" not in done.stdout
    metta(
        "job", "submit", "--group", "g", "--name", "bad", "--", "sh", "-c", "echo ValueError: boom; exit 3", cwd=project
    )
    done = metta("job", "monitor", "g", cwd=project)
    assert done.returncode == 1
    assert "bad" in done.stdout and "3" in done.stdout and "metta job retry g --failed" in done.stdout
    frame = metta("job", "monitor", "g", "--once", cwd=project).stdout
    assert "ValueError: boom" in frame


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["job", "submit", "--", "no-such-program"], "'no-such-program' of the job 'no-such-program' was not found"),
        (["job", "submit", "--name", "a b", "--", "true"], "'a b' cannot be a name"),
        (["job", "submit", "--group", "../g", "--", "true"], "The group: '../g' cannot be a name"),
        (["job", "submit", "--after", "ghost", "--", "true"], "depends on 'ghost', which does not exist"),
        (["job", "submit", "--after", "soon:1", "--", "true"], "afterok, afterany, afternotok"),
        (["job", "submit", "--env", "WANDB_API_KEY=x", "--", "true"], "looks like a secret"),
        (["job", "submit", "--env", "A", "--", "true"], "not KEY=VALUE"),
        (["job", "submit", "--gpus", "2", "--", "true"], "asks for 2 GPUs and this machine has none"),
        (
            ["job", "submit", "--timeout", "-1", "--", "true"],
            "--timeout=-1.0: it must be a number of seconds, greater than 0.",
        ),
        (
            ["job", "submit", "--infra", "slrm", "--", "true"],
            "--infra: SkyPilot knows no infra 'slrm'. Did you mean 'slurm'?",
        ),
        (["job", "submit", "--set", 'retry.on=["tiemout"]', "--", "true"], "Did you mean 'timeout'?"),
        (["job", "submit", "--set", 'on_end={"webhook": "NOBODY"}', "--", "true"], "there is no address of that name"),
        (["job", "logs", "1", "--attempt", "4"], "Job 1 has no attempt 4: "),
        (["job", "submit", "--cwd", "/nowhere", "--", "true"], "/nowhere, which is no folder"),
        (["job", "list", "gg"], "There is no group 'gg'. Did you mean 'g'?"),
        (["job", "list", "--state", "runing"], "Did you mean 'running'?"),
        (["job", "show", "99"], "There is no job 99"),
        (["job", "show", "g/b"], "has no job 'b'"),
        (["job", "kill", "99"], "There is no job 99"),
        (["job", "lst"], "No such command 'lst'"),
        (["job", "monitor", "nope"], "There is no group 'nope'"),
    ],
)
def test_bad_input_is_a_sentence_exit_2_and_nothing_stored(project: Path, arguments: list[str], says: str) -> None:
    with JobManager(project / "job_state") as manager:
        from metta_jobs.job import JobConfig

        manager.submit([JobConfig(name="a", command=("true",))], group="g")
        done = metta(*arguments, cwd=project)
        assert done.returncode == 2
        assert says in " ".join(done.stderr.replace("│", " ").split())
        assert "Traceback" not in done.stderr
        assert [(group.name, group.counts.total) for group in manager.groups()] == [("g", 1)]


def test_debug_shows_the_traceback(project: Path) -> None:
    done = metta("--debug", "job", "list", "nope", cwd=project)
    assert done.returncode == 2
    assert "Traceback" in done.stderr


def test_looking_makes_nothing(tmp_path: Path) -> None:
    assert metta("job", "list", cwd=tmp_path).returncode == 0
    assert json.loads(metta("job", "list", "--json", cwd=tmp_path).stdout) == {"groups": []}
    assert metta("job", "show", "1", cwd=tmp_path).returncode == 2
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_database_is_a_sentence(project: Path) -> None:
    (project / "job_state").mkdir()
    (project / "job_state" / "jobs.sqlite").write_text("not at all a database " * 500)
    done = metta("job", "list", cwd=project)
    assert (done.returncode, done.stdout) == (2, "")
    assert "not a metta-jobs database" in done.stderr


def test_group_names_are_completed(project: Path) -> None:
    metta("job", "submit", "--group", "alpha", "--", "true", cwd=project)
    metta("job", "submit", "--group", "beta", "--", "true", cwd=project)
    done = metta(cwd=project, _METTA_COMPLETE="complete_bash", COMP_WORDS="metta job monitor al", COMP_CWORD="3")
    assert done.stdout.split() == ["alpha"]


@pytest.mark.parametrize("before", [(), ("--",)])
def test_options_behind_the_command_are_the_commands_own(project: Path, before: tuple[str, ...]) -> None:
    typed = ("printf", "%s ", "--group", "x", "-q", "--", "--lr=1")
    done = metta("job", "submit", "--group", "g", *before, *typed, "--json", cwd=project)
    assert (done.returncode, done.stderr) == (0, "")
    assert metta("job", "wait", "g", cwd=project).returncode == 0
    assert metta("job", "logs", "g/printf", cwd=project).stdout == "--group x -q -- --lr=1 --json "


def test_show_tells_the_whole_configuration_and_why_says_that_it_was_the_last_try(project: Path) -> None:
    wishes = ["max_log_mb=5", 'on_end={"desktop": true, "on": "success"}', "retry.never_on=[3]", "retry.on=[3, 4]"]
    options = [word for wish in ("retry.backoff_s=60", *wishes) for word in ("--set", wish)]
    metta("job", "submit", "--name", "a", "--env", "A=b c", *options, "sh", "-c", "exit 3", cwd=project)
    metta("job", "submit", "--name", "b", "--retries", "1", "--set", "retry.backoff_s=0", "false", cwd=project)
    assert metta("job", "wait", "default", cwd=project).returncode == 1
    shown = json.loads(metta("job", "show", "1", "--json", cwd=project).stdout)
    config = shown["config"]
    assert (config["env"], config["secrets"], config["cwd"]) == ({"A": "b c"}, [], str(project))
    assert (config["max_log_mb"], config["on_end"][0]["on"], config["retry"]["backoff_s"]) == (5, "success", 60)
    assert shown["gpu_devices"] == []
    text = " ".join(metta("job", "show", "1", cwd=project).stdout.split())
    assert "env A='b c'" in text
    assert "log limit 5 MB" in text
    assert "on end tells a desktop notification (on success)" in text
    assert "tried again on 3, 4; never on 3; after 1 min 00 s" in text
    assert "It is not tried again: exit code 3 is among never_on." in metta("job", "why", "1", cwd=project).stdout
    assert json.loads(metta("job", "why", "2", "--json", cwd=project).stdout)["not_tried_again"] == (
        "it has had 2 of at most 2 attempts"
    )
