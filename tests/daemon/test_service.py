from __future__ import annotations

import os
import shutil
import socket
import stat
import sys
from pathlib import Path

import pytest

from metta_jobs.daemon import control
from metta_jobs.environment import wandb_run_id
from metta_jobs.job import JobConfig
from metta_jobs.manager import JobManager
from metta_jobs.metrics import discover, read_series
from metta_jobs.paths import StateDir
from metta_jobs.states import JobState
from tests.processes import kill_daemon, metta, until


def sleeper(name: str = "a") -> JobConfig:
    return JobConfig(name=name, command=("sleep", "600"))


def test_a_second_daemon_is_refused_with_the_pid_of_the_first(manager: JobManager) -> None:
    first = manager.start_daemon()
    done = metta("--state-dir", manager.state_dir, "daemon", "run")
    assert done.returncode == 2
    assert f"pid {first.pid}" in done.stderr
    assert "Traceback" not in done.stderr
    assert manager.daemon() == first


def test_stop_leaves_jobs_running_and_start_takes_them_over(manager: JobManager) -> None:
    (job,) = manager.submit([sleeper()], group="g").jobs
    until(lambda: manager.job(job.id).state is JobState.RUNNING)
    assert manager.stop_daemon() is not None
    assert manager.daemon() is None
    assert manager.stop_daemon() is None
    manager.start_daemon()
    manager.kill([job.id])
    assert manager.wait([job.id], timeout_s=30)[0].state is JobState.KILLED


def test_it_ends_by_itself_when_idle_and_comes_back_when_needed(
    manager: JobManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("METTA_DAEMON_IDLE_EXIT_S", "0.2")
    (job,) = manager.submit([JobConfig(name="a", command=("sleep", "1"))], group="g").jobs
    until(lambda: manager.job(job.id).state is JobState.SUCCEEDED)
    until(lambda: manager.daemon() is None, "the idle daemon's end")
    manager.submit([JobConfig(name="b", command=("true",))], group="g")
    assert manager.wait(["g/b"], timeout_s=30)[0].state is JobState.SUCCEEDED


def test_it_ends_when_its_folder_is_removed(manager: JobManager) -> None:
    pid = manager.start_daemon().pid
    manager.close()

    def removed() -> bool:
        shutil.rmtree(manager.state_dir, ignore_errors=True)  # the daemon may be writing into it
        return not manager.state_dir.exists()

    until(removed)
    until(lambda: not Path(f"/proc/{pid}").exists() or _zombie(pid), "its end")


def _zombie(pid: int) -> bool:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"


def test_a_folder_deeper_than_a_socket_s_name_may_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = tmp_path / ("d" * 60) / ("e" * 60) / "job_state"
    with JobManager(root) as manager:
        try:
            manager.submit([JobConfig(name="a", command=("true",))], group="g")
            assert manager.wait(["g"], timeout_s=30)[0].state is JobState.SUCCEEDED
        finally:
            kill_daemon(root)


def test_secrets_reach_the_job_and_no_file_or_log_of_ours(manager: JobManager, monkeypatch: pytest.MonkeyPatch) -> None:
    manager.start_daemon()  # from a shell that does not know the secret yet
    monkeypatch.setenv("MY_API_KEY", "hunter2-hunter2")
    monkeypatch.setenv("PLAIN", "visible")
    code = (
        "import os; assert os.environ['MY_API_KEY'] == '-'.join(['hunter2'] * 2) and os.environ['PLAIN'] == 'visible'"
    )
    (job,) = manager.submit([JobConfig(name="a", command=(sys.executable, "-c", code))], group="g").jobs
    assert manager.wait([job.id], timeout_s=30)[0].state is JobState.SUCCEEDED
    for path in manager.state_dir.rglob("*"):
        if path.is_file():
            assert b"hunter2-hunter2" not in path.read_bytes(), path


def test_each_submission_keeps_its_own_secrets(manager: JobManager, monkeypatch: pytest.MonkeyPatch) -> None:
    program = "import os; print(os.environ['MY_API_KEY'])"
    monkeypatch.setenv("METTA_MAX_PARALLEL", "1")
    manager.start_daemon()
    manager.submit([sleeper("first")], group="g")
    monkeypatch.setenv("MY_API_KEY", "key-of-the-one")
    manager.submit([JobConfig(name="one", command=(sys.executable, "-c", program))], group="g")
    monkeypatch.setenv("MY_API_KEY", "key-of-the-other")
    manager.submit([JobConfig(name="other", command=(sys.executable, "-c", program))], group="g")
    manager.kill(["g/first"], force=True)
    manager.wait(["g"], timeout_s=30)
    assert [manager.log_path(job).read_text() for job in (2, 3)] == ["key-of-the-one\n", "key-of-the-other\n"]


def test_a_busy_daemon_launches_no_job_without_its_secret(manager: JobManager, monkeypatch: pytest.MonkeyPatch) -> None:
    manager.start_daemon()
    program = "import os; os.environ['MY_API_KEY']"
    for number in range(15):
        monkeypatch.setenv("MY_API_KEY", f"secret-number-{number}")
        manager.submit([JobConfig(name=f"j{number}", command=(sys.executable, "-S", "-c", program))], group="g")
    assert {job.state for job in manager.wait(["g"], timeout_s=60)} == {JobState.SUCCEEDED}


def test_nonsense_at_the_doorbell_does_no_harm(manager: JobManager) -> None:
    pid = manager.start_daemon().pid
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as bell:
        for message in (b"[1]", b'{"X": 5}', b"\xff", b"", b'{"a": {"b": 1}}'):
            bell.sendto(message, str(manager.state_dir / "doorbell.sock"))
    manager.submit([JobConfig(name="a", command=("true",))], group="g")
    assert manager.wait(["g"], timeout_s=30)[0].state is JobState.SUCCEEDED
    running = manager.daemon()
    assert running is not None and running.pid == pid


def test_what_can_never_be_launched_fails_and_frees_its_slot(
    manager: JobManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    (big,) = manager.submit([JobConfig(name="a", command=("true",), env={"X": "x" * 200_000})], group="g").jobs
    (ended,) = manager.wait([big.id], timeout_s=30)
    assert (ended.state, ended.reason) == (JobState.FAILED, "true cannot be started: Argument list too long")


def test_the_job_s_python_settings_do_not_reach_the_runner(manager: JobManager) -> None:
    config = JobConfig(name="a", command=("true",), env={"PYTHONHOME": "/nonexistent", "X": "é"})
    manager.submit([config], group="g")
    assert manager.wait(["g"], timeout_s=30)[0].state is JobState.SUCCEEDED


def test_a_secret_that_a_new_daemon_does_not_know_is_said(manager: JobManager, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("METTA_MAX_PARALLEL", "1")
    monkeypatch.setenv("MY_API_KEY", "hunter2")
    first, second = manager.submit([sleeper("first"), JobConfig(name="second", command=("true",))], group="g").jobs
    until(lambda: manager.job(first.id).state is JobState.RUNNING)
    monkeypatch.delenv("MY_API_KEY")
    kill_daemon(manager.state_dir)
    manager.kill([first.id])
    manager.wait([second.id], timeout_s=30)
    (note,) = [event for event in manager.events([second.id]) if event.kind == "note"]
    assert note.reason is not None and "launched without MY_API_KEY" in note.reason


def test_the_job_s_environment_names_it_and_is_scrubbed(manager: JobManager, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_SERVICE", "somebody-else")
    monkeypatch.setenv("WANDB_RUN_ID", "somebody-else")
    monkeypatch.setenv("WANDB_SWEEP_PARAM_PATH", "somebody-else")
    monkeypatch.setenv("WANDB_TAGS", "research,ablation")
    monkeypatch.setenv("METTA_GPUS", "7,8")
    program = "import json, os; print(json.dumps(dict(os.environ)))"
    config = JobConfig(name="a=1", command=(sys.executable, "-c", program), env={"EXTRA": "e"}, gpus=1)
    (job,) = manager.submit([config], group="g").jobs
    manager.wait([job.id], timeout_s=30)
    import json

    environment = json.loads(manager.log_path(job.id).read_text())
    folder = str(manager.job(job.id).folder)
    assert "WANDB_SERVICE" not in environment
    assert environment["EXTRA"] == "e"
    assert environment["WANDB_RUN_ID"] == f"g-a-1-{job.id}-{StateDir(manager.state_dir).mark}"
    assert environment["WANDB_TAGS"] == "research,ablation"
    assert "WANDB_SWEEP_PARAM_PATH" not in environment
    assert environment["WANDB_DIR"] == environment["METTA_JOB_DIR"] == folder
    assert (environment["WANDB_RUN_GROUP"], environment["WANDB_NAME"]) == ("g", "a=1")
    assert (environment["WANDB_MODE"], environment["WANDB_RESUME"]) == ("offline", "allow")
    assert environment["CUDA_VISIBLE_DEVICES"] == "7"
    assert (environment["METTA_GROUP"], environment["METTA_JOB_ID"], environment["METTA_ATTEMPT"]) == (
        "g",
        str(job.id),
        "1",
    )


def test_a_retry_resumes_the_same_wandb_run_whose_curve_goes_on(manager: JobManager) -> None:
    program = """
import os, wandb
again = os.environ["METTA_ATTEMPT"] == "2"
run = wandb.init(project="toy")
for step in range(20, 40) if again else range(25):
    run.log({"charts/episodic_return": step + 100 * again, "global_step": step})
run.finish()
raise SystemExit(not again)
"""
    config = JobConfig(name="a", command=(sys.executable, "-c", program), env={"WANDB_X_DISABLE_STATS": "true"})
    (job,) = manager.submit([config], group="g").jobs
    manager.wait([job.id], timeout_s=60)
    first = manager.job(job.id).folder
    manager.retry([job.id])
    manager.wait([job.id], timeout_s=60)
    second = manager.job(job.id).folder
    assert first and second and manager.job(job.id).state is JobState.SUCCEEDED
    ids = {discover(folder, earlier=False)[0].info().run_id for folder in (first, second)}
    assert ids == {wandb_run_id(StateDir(manager.state_dir).mark, "g", "a", job.id)}
    series = read_series(second, ["overview/reward"])["overview/reward"]
    assert series.steps == [float(step) for step in range(40)]
    assert series.values == [float(step) for step in range(20)] + [100.0 + step for step in range(20, 40)]


def test_a_run_that_the_configuration_names_is_kept(manager: JobManager) -> None:
    program = "import os; print(*(os.environ[f'WANDB_{n}'] for n in ('RUN_ID', 'NAME', 'RUN_GROUP')))"
    env = {"WANDB_RUN_ID": "mine", "WANDB_NAME": "n"}
    (job,) = manager.submit([JobConfig(name="a", command=(sys.executable, "-c", program), env=env)], group="g").jobs
    manager.wait([job.id], timeout_s=30)
    assert manager.log_path(job.id).read_text() == "mine n g\n"


def test_wandb_is_online_only_when_somebody_is_logged_in(manager: JobManager, monkeypatch: pytest.MonkeyPatch) -> None:
    program = "import os; print(os.environ['WANDB_MODE'])"
    netrc = Path(os.environ["HOME"]) / ".netrc"
    netrc.write_text("machine api.wandb.ai login user password " + "x" * 40)
    netrc.chmod(0o600)
    (job,) = manager.submit([JobConfig(name="a", command=(sys.executable, "-c", program))], group="g").jobs
    monkeypatch.setenv("WANDB_MODE", "disabled")
    (other,) = manager.submit([JobConfig(name="b", command=(sys.executable, "-c", program))], group="h").jobs
    manager.wait(["g", "h"], timeout_s=30)
    assert manager.log_path(job.id).read_text() == "online\n"
    assert manager.log_path(other.id).read_text() == "disabled\n"


def test_the_state_folder_is_its_owner_s_alone(manager: JobManager) -> None:
    manager.submit([JobConfig(name="a", command=("true",))], group="g")
    assert stat.S_IMODE(manager.state_dir.stat().st_mode) == 0o700


def test_a_daemon_started_from_a_job_is_not_part_of_it(manager: JobManager, tmp_path: Path) -> None:
    other = tmp_path / "other"
    command = (sys.executable, "-m", "metta_jobs", "--state-dir", str(other), "job", "submit", "--", "sleep", "600")
    try:
        manager.submit([JobConfig(name="a", command=command)], group="g")
        assert manager.wait(["g"], timeout_s=60)[0].state is JobState.SUCCEEDED
        with JobManager(other) as inner:
            assert inner.daemon() is not None
            until(lambda: inner.job(1).state is JobState.RUNNING, "the inner job")
            inner.kill([1], force=True)
            inner.wait([1], timeout_s=30)
    finally:
        kill_daemon(other)


def test_a_command_that_vanished_fails_with_a_reason(manager: JobManager, tmp_path: Path) -> None:
    program = tmp_path / "program"
    program.write_text("#!/bin/sh\nexit 0\n")
    program.chmod(0o755)
    manager.submit([sleeper("a"), JobConfig(name="b", command=(str(program),), depends_on=("afterany:a",))], group="g")
    program.unlink()
    manager.kill(["g/a"], force=True)
    (ended,) = manager.wait(["g/b"], timeout_s=30)
    assert (ended.state, ended.exit_code) == (JobState.FAILED, 127)
    assert ended.reason == f"the command {program} does not exist"


def test_status_of_nothing(tmp_path: Path) -> None:
    from metta_jobs.paths import StateDir

    assert control.status(StateDir(tmp_path / "nowhere")) is None
