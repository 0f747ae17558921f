"""Full disks, no handles, no processes, stopped daemons, set clocks, other users; and jobs that misbehave."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from metta_jobs.daemon.tick import tick
from metta_jobs.executors import lane as lanes
from metta_jobs.job import JobConfig
from metta_jobs.manager import JobManager
from metta_jobs.policy import RetryPolicy
from metta_jobs.states import JobState
from metta_jobs.testing import FakeExecutor, ManualClock, add, make_house, states, views
from tests.conftest import clean_up
from tests.processes import processes_of, runner_of, runners, until
from tests.proof.checker import broken, witness


def test_a_daemon_without_file_handles_starts_what_it_can_and_the_rest_later(
    manager: JobManager, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    daemon = subprocess.Popen(
        [sys.executable, "-m", "metta_jobs.daemon", str(manager.state_dir)],
        env={**os.environ, "METTA_CPUS": "64"},
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (32, 32)),
    )
    until(lambda: manager.daemon() is not None, "the daemon")
    monkeypatch.setenv("METTA_CPUS", "64")
    log = tmp_path / "witness"
    manager.submit([witness(f"j{i}", log, 3) for i in range(30)], group="g")
    until(lambda: any("Too many open files" in (job.reason or "") for job in manager.group("g").jobs), "a refusal")
    ended = manager.wait(["g"], timeout_s=120)
    assert {job.state for job in ended} == {JobState.SUCCEEDED}
    assert daemon.poll() is None
    manager.stop_daemon()
    daemon.wait(30)
    assert broken(manager.state_dir, log) == []


def test_when_no_process_can_be_made_the_job_waits(
    manager: JobManager, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tries = []

    def fork(*args: object, **rest: object) -> None:
        tries.append(args)
        raise BlockingIOError(11, "Resource temporarily unavailable")

    monkeypatch.setattr(lanes.subprocess, "Popen", fork)
    lane = lanes.Lane(tmp_path, "x")
    with pytest.raises(BlockingIOError):
        lane.start()
    assert tries and list(tmp_path.glob("x.*")) == []  # nothing half-made is left


def test_a_full_disk_keeps_no_job_from_being_killed_and_loses_nothing(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=6m", "tmpfs", str(disk)], check=False).returncode:
        pytest.skip("a small disk cannot be mounted here: that takes root")
    root, log, full = disk / "job_state", tmp_path / "witness", tmp_path / "full"
    try:
        os.environ["METTA_CPUS"] = "4"
        with JobManager(root) as manager:
            (filler,) = manager.submit(
                [JobConfig(name="fills", command=("sh", "-c", f"cat /dev/zero; >{full}; sleep 600"), grace_s=0.2)],
                group="g",
            ).jobs
            until(full.exists, "a full disk")
            manager.kill([filler.id])
            (ended,) = manager.wait([filler.id], timeout_s=60)
            assert ended.state is JobState.KILLED
            assert processes_of(root) == []
            assert ended.folder is not None
            (ended.folder / "output.log").unlink()
            manager.submit([witness("after", log)], group="g")
            assert manager.wait(["g/after"], timeout_s=60)[0].state is JobState.SUCCEEDED
            manager.stop_daemon()
    finally:
        clean_up(root)
        subprocess.run(["umount", "-l", str(disk)], check=True)


def test_a_daemon_that_was_stopped_for_a_while_goes_on(manager: JobManager, tmp_path: Path) -> None:
    log = tmp_path / "witness"
    manager.submit([witness("a", log, 0.3), witness("b", log, depends_on=("a",), timeout_s=60)], group="g")
    holder = manager.daemon()
    assert holder is not None
    until(lambda: log.exists() and "1 1 start" in log.read_text(), "the first job")
    os.kill(holder.pid, signal.SIGSTOP)
    until(lambda: log.exists() and "1 1 end" in log.read_text(), "the end of the first job")
    assert not manager.job(2).state.terminal
    os.kill(holder.pid, signal.SIGCONT)
    assert [job.state for job in manager.wait(["g"], timeout_s=30)] == [JobState.SUCCEEDED] * 2
    manager.stop_daemon()
    assert broken(manager.state_dir, log) == []


@pytest.mark.parametrize("seconds", [-31_536_000, -3600, 3600, 31_536_000])
def test_a_clock_that_is_set_ends_nothing_and_holds_nothing_back(tmp_path: Path, seconds: float) -> None:
    house = make_house(tmp_path, cpus=1)
    executor, clock = house.executors["local"], house.clock
    assert isinstance(executor, FakeExecutor) and isinstance(clock, ManualClock)
    runs, waits, again = add(
        house,
        JobConfig(name="runs", command=("x",), timeout_s=100),
        JobConfig(name="waits", command=("x",), queue_timeout_s=100),
        JobConfig(name="again", command=("x",), cpus=0, retry=RetryPolicy(max_attempts=2, backoff_s=30)),
    )
    tick(house)
    tick(house)
    executor.end((again, 1), 1)
    tick(house)
    clock.advance(1.5)
    tick(house)  # within a second every pending job is looked at
    clock.jump(seconds)
    for _ in range(3):
        clock.advance(5)
        tick(house)
    assert states(house, runs, waits, again) == [JobState.RUNNING, JobState.PENDING, JobState.PENDING]
    clock.advance(30)
    tick(house)
    assert executor.launched.count((again, 2)) == 1  # its pause lasted 30 s, whatever the clock says
    clock.advance(60)
    for _ in range(4):
        tick(house)
    assert views(house, runs)[0].state is JobState.TIMED_OUT
    assert views(house, waits)[0].state is not JobState.PENDING


@pytest.mark.parametrize(
    ("name", "command", "code"),
    [
        ("binary", ("sh", "-c", "head -c 100000 /dev/urandom; printf '\\377\\376\\000x'"), 0),
        ("closes-stdio", ("sh", "-c", "exec 0<&- 1>&- 2>&-; sleep 0.2; exit 5"), 5),
        ("long-arguments", ("sh", "-c", "test ${#1} = 100000", "x", "y" * 100_000), 0),
        ("训练-一号", ("true",), 0),
        ("double-forks", ("sh", "-c", "(setsid sh -c 'sleep 600 & sleep 600' &) ; exit 0"), 0),
        ("signals-itself", ("sh", "-c", "kill -SEGV $$"), 139),
        ("stops-its-runner", ("sh", "-c", "kill -STOP $PPID; sleep 0.2; kill -CONT $PPID; exit 4"), 4),
        ("no-such-interpreter", ("/bin/sh", "-c", "exit 0", "$(touch pwned)", "; rm -rf /"), 0),
    ],
)
def test_jobs_that_misbehave_end_as_they_end(
    manager: JobManager, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, command: tuple[str, ...], code: int
) -> None:
    monkeypatch.chdir(tmp_path)
    (job,) = manager.submit([JobConfig(name=name, command=command)], group="g").jobs
    (ended,) = manager.wait([job.id], timeout_s=60)
    assert (ended.exit_code, ended.state) == (code, JobState.SUCCEEDED if code == 0 else JobState.FAILED)
    assert not (tmp_path / "pwned").exists()
    until(lambda: processes_of(manager.state_dir) == [], "the end of all its processes")


def test_two_daemons_are_one(manager: JobManager) -> None:
    first = manager.start_daemon()
    done = subprocess.run(
        [sys.executable, "-m", "metta_jobs.daemon", str(manager.state_dir)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2 and f"A daemon runs already (pid {first.pid})" in done.stderr
    assert manager.daemon() == first


def test_another_user_gets_a_sentence(manager: JobManager) -> None:
    if os.geteuid() != 0:
        pytest.skip("being somebody else takes root")
    manager.submit([JobConfig(name="a", command=("true",))], group="g")
    code = (
        "import os, sys; import metta_jobs.manager.facade; from metta_jobs.cli.app import run; "
        "os.setgid(65534); os.setuid(65534); run(sys.argv[1:])"
    )
    for arguments in (["job", "list"], ["job", "kill", "1"], ["daemon", "stop"]):
        done = subprocess.run(
            [sys.executable, "-c", code, "--state-dir", str(manager.state_dir), *arguments],
            capture_output=True,
            text=True,
            env={**os.environ, "HOME": "/nonexistent", "PYTHONPATH": str(Path(__file__).parents[2])},
            cwd="/",
            check=False,
        )
        assert done.returncode == 2, done.stderr
        assert done.stderr.startswith("error: ") and "Traceback" not in done.stderr and "defect" not in done.stderr


def test_only_the_owner_can_reach_anything_and_nothing_listens_on_the_network(manager: JobManager) -> None:
    (job,) = manager.submit([JobConfig(name="a", command=("sleep", "600"))], group="g").jobs
    until(lambda: manager.job(job.id).state is JobState.RUNNING)
    assert manager.state_dir.stat().st_mode & 0o777 == 0o700
    for socket in (*manager.state_dir.glob("*.sock"), *manager.state_dir.glob("runners/*.sock")):
        assert socket.stat().st_mode & 0o777 == 0o600, socket
    holder = manager.daemon()
    assert holder is not None
    assert runner_of(manager.state_dir, job.id)
    for pid in (holder.pid, *(runner.pid for runner in runners(manager.state_dir))):
        if psutil.pid_exists(pid):
            assert psutil.Process(pid).net_connections("inet") == []


def test_no_secret_is_written_down(manager: JobManager, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "seen"
    for name in ("MY_API_KEY", "HF_TOKEN", "PLAIN_LOOKING"):
        monkeypatch.setenv(name, f"value-of-{name}-hush")
    script = f'echo "$MY_API_KEY $HF_TOKEN $PLAIN_LOOKING" > {out}'
    config = JobConfig(name="a", command=("sh", "-c", script), secrets=("PLAIN_LOOKING",))
    (job,) = manager.submit([config], group="g").jobs
    manager.wait([job.id], timeout_s=30)
    assert out.read_text().split() == [f"value-of-{name}-hush" for name in ("MY_API_KEY", "HF_TOKEN", "PLAIN_LOOKING")]
    for path in manager.state_dir.rglob("*"):
        assert not path.is_file() or b"-hush" not in path.read_bytes(), path
