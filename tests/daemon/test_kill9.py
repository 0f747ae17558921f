"""The daemon is killed, and nothing is lost, nothing runs twice, nothing is told untruly."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import psutil
import pytest

from metta_jobs.daemon import control
from metta_jobs.executors import processes
from metta_jobs.job import JobConfig
from metta_jobs.manager import JobManager
from metta_jobs.paths import StateDir
from metta_jobs.states import JobState
from tests.processes import kill_daemon, members_of, processes_of, runner_of, runners, until

#: Each run leaves a line with its id and attempt, whoever started it.
_WITNESS = (
    "import os, sys, time; fd = os.open(sys.argv[1], os.O_WRONLY | os.O_APPEND | os.O_CREAT);"
    "os.write(fd, (os.environ['METTA_JOB_ID'] + '.' + os.environ['METTA_ATTEMPT'] + '\\n').encode());"
    "time.sleep(float(sys.argv[2])); raise SystemExit(int(sys.argv[3]))"
)


def witness(name: str, log: Path, seconds: float, code: int = 0, **fields: object) -> JobConfig:
    command = (sys.executable, "-S", "-c", _WITNESS, str(log), str(seconds), str(code))
    return JobConfig(name=name, command=command, **fields)  # type: ignore[arg-type]


@pytest.mark.parametrize("seed", range(3))
def test_kill_9_at_any_moment_ends_every_job_once(manager: JobManager, tmp_path: Path, seed: int) -> None:
    rng, log = random.Random(seed), tmp_path / "witness"
    jobs = [witness(f"j{i}", log, rng.uniform(0, 0.4), code=int(i % 3 == 0)) for i in range(12)]
    jobs.append(witness("last", log, 0, depends_on=tuple(f"afterany:j{i}" for i in range(12))))
    group = manager.submit(jobs, group="g")
    kills = 0
    while not manager.group("g").finished:
        time.sleep(rng.uniform(0, 0.35))  # the moment of the crash is what varies, not what is waited for
        kills += kill_daemon(manager.state_dir) is not None
        control.ensure(StateDir(manager.state_dir))
        assert kills < 200
    assert kills > 0
    ended = {job.name: job for job in manager.group("g").jobs}
    for i in range(12):
        assert ended[f"j{i}"].state is (JobState.FAILED if i % 3 == 0 else JobState.SUCCEEDED), ended[f"j{i}"]
    assert ended["last"].state is JobState.SUCCEEDED
    assert Counter(log.read_text().split()) == Counter(f"{job.id}.1" for job in group.jobs)
    assert processes_of(manager.state_dir) == []
    ends = Counter(e.job_id for e in manager.events(["g"]) if e.to_state and e.to_state.terminal)
    assert set(ends.values()) == {1}


def test_what_ended_while_no_daemon_ran_is_believed(manager: JobManager, tmp_path: Path) -> None:
    log = tmp_path / "witness"
    manager.submit([witness("ok", log, 0.3), witness("bad", log, 0.3, code=7), witness("on", log, 600)], group="g")
    until(lambda: log.exists() and len(log.read_text().split()) == 3, "three running jobs")
    kill_daemon(manager.state_dir)
    until(lambda: sum(len(r.ended) for r in runners(manager.state_dir)) == 2, "the evidence of two ends")
    assert {job.state for job in manager.group("g").jobs} <= {JobState.RUNNING, JobState.LAUNCHING}
    assert manager.warning(unfinished=True) is not None
    manager.start_daemon()
    until(lambda: manager.job(1).state.terminal and manager.job(2).state.terminal, "the truth")
    ok, bad, on = manager.group("g").jobs
    assert (ok.state, bad.state, bad.exit_code) == (JobState.SUCCEEDED, JobState.FAILED, 7)
    until(lambda: manager.job(on.id).state is JobState.RUNNING)
    assert len(log.read_text().split()) == 3


def test_a_killed_runner_loses_the_exit_code_but_not_the_truth(manager: JobManager, tmp_path: Path) -> None:
    log = tmp_path / "witness"
    (job,) = manager.submit([witness("a", log, 600)], group="g").jobs
    until(lambda: log.exists() and manager.job(job.id).state is JobState.RUNNING, "a running job")
    tree = members_of(manager.state_dir, job.id)
    os.kill(runner_of(manager.state_dir, job.id).pid, signal.SIGKILL)
    until(lambda: "exit code will not be known" in (manager.job(job.id).reason or ""), "the note")
    assert manager.job(job.id).state is JobState.RUNNING  # its training goes on
    processes.send(tree, signal.SIGKILL)
    (ended,) = manager.wait([job.id], timeout_s=30)
    assert ended.state is JobState.LOST
    assert ended.reason == "its runner was killed before it could record the exit code"
    assert manager.retry([job.id])[0].state is not JobState.LOST
    until(lambda: log.read_text().split() == [f"{job.id}.1", f"{job.id}.2"], "the second attempt")


def test_kill_ends_the_whole_tree_also_what_left_the_session(manager: JobManager, tmp_path: Path) -> None:
    log = tmp_path / "pids"
    program = (
        "import os, signal, subprocess, sys, time\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'], start_new_session=True)\n"
        f"open({str(log)!r}, 'w').write(f'{{os.getpid()}} {{child.pid}}')\n"
        "time.sleep(600)\n"
    )
    config = JobConfig(name="a", command=(sys.executable, "-c", program), grace_s=0.2)
    (job,) = manager.submit([config], group="g").jobs
    pids = [int(pid) for pid in until(lambda: log.exists() and log.read_text().split(), "the pids")]
    until(lambda: manager.job(job.id).state is JobState.RUNNING)
    assert [view.id for view in manager.kill([job.id])] == [job.id]
    (ended,) = manager.wait([job.id], timeout_s=30)
    assert (ended.state, ended.exit_code) == (JobState.KILLED, 137)
    until(lambda: all(processes.start_mark(pid) is None for pid in pids), "the end of the tree")


def test_a_wish_to_kill_survives_the_daemon(manager: JobManager, tmp_path: Path) -> None:
    log = tmp_path / "witness"
    (job,) = manager.submit([witness("a", log, 600)], group="g").jobs
    until(lambda: log.exists() and manager.job(job.id).state is JobState.RUNNING)
    kill_daemon(manager.state_dir)
    manager.kill([job.id])
    (ended,) = manager.wait([job.id], timeout_s=30)
    assert ended.state is JobState.KILLED
    assert processes_of(manager.state_dir) == []


def test_what_a_job_leaves_running_is_ended_with_it(manager: JobManager, tmp_path: Path) -> None:
    log = tmp_path / "pid"
    program = (
        "import subprocess, sys\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'], start_new_session=True)\n"
        f"open({str(log)!r}, 'w').write(str(child.pid))\n"
    )
    (job,) = manager.submit([JobConfig(name="a", command=(sys.executable, "-c", program))], group="g").jobs
    (ended,) = manager.wait([job.id], timeout_s=30)
    assert ended.state is JobState.SUCCEEDED
    assert processes.start_mark(int(log.read_text())) is None


@pytest.mark.parametrize("how", ["env -i setsid sleep {} &", "(setsid env -i sh -c 'sleep {} & sleep {}' &)"])
def test_descendants_that_drop_their_session_and_environment_are_ended(
    manager: JobManager, tmp_path: Path, how: str
) -> None:
    seconds = f"7777.{os.getpid()}{len(how)}"  # others on this machine sleep, too
    script = f"{how.replace('{}', seconds)}\nsleep 0.3; ps -o args= -C sleep > {tmp_path}/seen; exit 3"
    (job,) = manager.submit([JobConfig(name="a", command=("sh", "-c", script))], group="g").jobs
    (ended,) = manager.wait([job.id], timeout_s=30)
    assert (ended.state, ended.exit_code) == (JobState.FAILED, 3)
    assert seconds in (tmp_path / "seen").read_text()
    assert not [p.pid for p in psutil.process_iter(["cmdline"]) if seconds in " ".join(p.info["cmdline"] or ())]


def test_a_script_that_signals_its_own_group_does_not_take_the_runner_along(manager: JobManager) -> None:
    (job,) = manager.submit([JobConfig(name="a", command=("sh", "-c", "kill -KILL 0"))], group="g").jobs
    (ended,) = manager.wait([job.id], timeout_s=30)
    assert (ended.state, ended.exit_code, ended.reason) == (JobState.FAILED, 137, "ended by SIGKILL")


def test_a_stopped_runner_does_not_keep_a_kill_from_ending(manager: JobManager) -> None:
    (job,) = manager.submit([JobConfig(name="a", command=("sleep", "600"), grace_s=0.2)], group="g").jobs
    until(lambda: manager.job(job.id).state is JobState.RUNNING)
    os.kill(runner_of(manager.state_dir, job.id).pid, signal.SIGSTOP)
    manager.kill([job.id])
    (ended,) = manager.wait([job.id], timeout_s=30)
    assert ended.state is JobState.KILLED


def test_a_stopped_runner_is_woken_by_the_next_daemon(manager: JobManager) -> None:
    (job,) = manager.submit([JobConfig(name="a", command=("sleep", "600"))], group="g").jobs
    until(lambda: manager.job(job.id).state is JobState.RUNNING)
    os.kill(runner_of(manager.state_dir, job.id).pid, signal.SIGSTOP)
    kill_daemon(manager.state_dir)
    processes.send(members_of(manager.state_dir, job.id), signal.SIGTERM)
    (ended,) = manager.wait([job.id], timeout_s=30)
    assert (ended.state, ended.exit_code) == (JobState.FAILED, 143)


def test_strangers_with_a_reused_id_are_left_alone(manager: JobManager, tmp_path: Path) -> None:
    (job,) = manager.submit([JobConfig(name="a", command=("sleep", "600"))], group="g").jobs
    until(lambda: manager.job(job.id).state is JobState.RUNNING)
    manager.stop_daemon()
    record = runner_of(manager.state_dir, job.id)
    tree = members_of(manager.state_dir, job.id)
    processes.send([record.pid, *tree], signal.SIGKILL)
    until(lambda: processes.start_mark(record.pid) is None)
    stranger = subprocess.Popen(["sleep", "600"], start_new_session=True)
    try:
        text = record.journal.read_bytes()
        for pid in (record.pid, *tree):
            text = text.replace(f'"pid": {pid},'.encode(), f'"pid": {stranger.pid},'.encode())
        assert str(stranger.pid).encode() in text
        record.journal.write_bytes(text)
        manager.kill([job.id], force=True)
        (ended,) = manager.wait([job.id], timeout_s=30)
        assert ended.state is JobState.KILLED
        assert stranger.poll() is None
    finally:
        stranger.kill()
        stranger.wait()
