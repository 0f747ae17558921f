"""Evidence that was deleted, damaged or cannot be written: no lie, no second launch, no job that cannot be ended."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
from pathlib import Path

import pytest

from metta_jobs.executors import journal, processes
from metta_jobs.executors.base import Absent, Alive, Cause, Exited, Key, LaunchSpec
from metta_jobs.executors.local import LocalExecutor
from metta_jobs.job import JobConfig
from metta_jobs.manager import JobManager
from metta_jobs.paths import StateDir
from metta_jobs.states import JobState
from tests.processes import Runner, runner_of, until

KEY: Key = (1, 1)
GARBAGE = [
    b"",
    b"null",
    b"[]",
    b"{",
    b"{}",
    b'{"is": 3}',
    b'{"is": "ended"}',
    b'{"is": "ended", "key": [1, 1]}',
    b'{"is": "ended", "key": [1, 1], "code": "fine", "ran": 1, "error": null}',
    b'{"is": "ended", "key": [1, 1], "code": true, "ran": 1, "error": null}',
    b'{"is": "stopping", "key": [1, 1], "cause": "whim", "at": 1, "forced": false}',
    b'{"is": "running", "key": [1], "pid": "x"}',
    b"\xff\xfe",
    b"\0\0\0",
    b"[" * 100_000,
]


@pytest.fixture
def local(state_dir: Path) -> LocalExecutor:
    StateDir(state_dir).create()
    executor = LocalExecutor(StateDir(state_dir))
    environment = {"METTA_ATTEMPT_TOKEN": StateDir(state_dir).token(*KEY), "PATH": os.environ["PATH"]}
    command = (sys.executable, "-S", "-c", "import time; time.sleep(600)")
    executor.launch(LaunchSpec(KEY, executor.lane(), command, None, environment))
    until(lambda: isinstance(executor.observe([KEY])[KEY], Alive), "its start")
    return executor


def kill_runner(state_dir: Path, *, tree: bool) -> Runner:
    """SIGKILL the runner, and what it runs too with `tree`."""
    found = runner_of(state_dir, *KEY)
    pids = processes.members(found.pid, found.start, StateDir(state_dir).token(*KEY)) if tree else [found.pid]
    processes.send([found.pid, *pids], signal.SIGKILL)
    until(lambda: not any(processes.start_mark(pid) for pid in pids), "their end")
    return found


@pytest.mark.parametrize("garbage", GARBAGE)
def test_garbage_in_a_journal_is_no_evidence_and_no_harm(local: LocalExecutor, state_dir: Path, garbage: bytes) -> None:
    killed = kill_runner(state_dir, tree=False)
    lines = killed.journal.read_bytes().split(b"\0")[0]
    killed.journal.write_bytes(lines + garbage + b"\n")
    again = LocalExecutor(StateDir(state_dir))
    seen = again.observe([KEY])[KEY]
    assert isinstance(seen, Alive) and seen.note == "its runner is gone, so its exit code will not be known"
    again.stop(KEY, Cause.KILL, force=True)
    ended = until(lambda: isinstance(seen := again.observe([KEY])[KEY], Absent) and seen, "its end")
    assert (ended.launched, ended.stopped) == (True, Cause.KILL)


def test_a_journal_that_is_gone_leaves_what_the_processes_tell(local: LocalExecutor, state_dir: Path) -> None:
    kill_runner(state_dir, tree=False).journal.unlink()
    again = LocalExecutor(StateDir(state_dir))
    seen = again.observe([KEY])[KEY]
    assert isinstance(seen, Alive) and seen.note is not None
    again.stop(KEY, Cause.KILL, force=True)
    ended = until(lambda: isinstance(seen := again.observe([KEY])[KEY], Absent) and seen, "its end")
    assert not ended.launched  # nothing says so any more; the database does


def test_a_folder_deleted_under_a_running_job_takes_no_evidence_with_it(local: LocalExecutor, state_dir: Path) -> None:
    shutil.rmtree(StateDir(state_dir).attempt(*KEY))
    local.close()
    again = LocalExecutor(StateDir(state_dir))
    assert isinstance(again.observe([KEY])[KEY], Alive)
    again.stop(KEY, Cause.KILL, force=False)
    ended = until(lambda: isinstance(seen := again.observe([KEY])[KEY], Exited) and seen, "its end")
    assert (ended.exit_code, ended.stopped) == (143, Cause.KILL)


def test_an_end_that_a_dead_runner_has_left_is_believed(local: LocalExecutor, state_dir: Path) -> None:
    record = runner_of(state_dir, *KEY)
    local.close()  # no daemon any more, so the runner leaves when the job has ended
    processes.send([p for p in processes.members(record.pid, record.start, "-") if p != record.pid], signal.SIGTERM)
    until(lambda: processes.start_mark(record.pid) is None, "the runner's leaving")
    again = LocalExecutor(StateDir(state_dir))
    seen = again.observe([KEY])[KEY]
    assert isinstance(seen, Exited) and (seen.exit_code, seen.error) == (143, "ended by SIGTERM")
    again.observe([])  # it is recorded now
    assert not record.journal.exists()


@pytest.mark.parametrize("ended", [True, False])
def test_an_end_of_another_boot_is_believed_and_a_missing_one_is_a_loss(
    local: LocalExecutor, state_dir: Path, ended: bool
) -> None:
    record = kill_runner(state_dir, tree=True)
    lines = journal.read(str(record.journal)) or []
    lines[0]["boot"] = "another-boot"
    if ended:
        lines.append({"is": "ended", "key": list(KEY), "code": 0, "ran": 2.5, "error": None, "at": 1.0})
    record.journal.write_text("".join(json.dumps(line) + "\n" for line in lines))
    seen = LocalExecutor(StateDir(state_dir)).observe([KEY])[KEY]
    if ended:
        assert seen == Exited(0, 2.5)
    else:
        assert seen == Absent(True, None, "the machine was restarted while it ran")


def test_a_journal_is_made_anew_when_it_fills(tmp_path: Path) -> None:
    path = tmp_path / "x.journal"
    written = journal.Journal(str(path), {"is": "born", "pid": 1})
    count = 0
    while not written.crowded():
        written.write({"is": "taken", "key": [count, 1], "at": 0.5})
        count += 1
    assert path.stat().st_size == journal.ROOM
    written.renew([{"is": "ended", "key": [7, 1]}])
    written.write({"is": "taken", "key": [8, 1], "at": 0.5})
    assert journal.read(str(path)) == [
        {"is": "born", "pid": 1},
        {"is": "ended", "key": [7, 1]},
        {"is": "taken", "key": [8, 1], "at": 0.5},
    ]


def test_a_job_that_deletes_its_folder_ends_as_it_ended(manager: JobManager, tmp_path: Path) -> None:
    witness = tmp_path / "witness"
    script = f'echo x >> {witness}; until [ -e {tmp_path}/go ]; do sleep 0.05; done; rm -rf "$METTA_JOB_DIR"; exit 3'
    (job,) = manager.submit([JobConfig(name="a", command=("sh", "-c", script))], group="g").jobs
    until(lambda: manager.job(job.id).state is JobState.RUNNING)
    (tmp_path / "go").touch()
    (ended,) = manager.wait([job.id], timeout_s=30)
    assert (ended.state, ended.exit_code) == (JobState.FAILED, 3)
    assert witness.read_text() == "x\n"


def test_a_job_that_leaves_nothing_leaves_no_folder_and_one_that_writes_keeps_its_own(manager: JobManager) -> None:
    jobs = [
        JobConfig(name="nothing", command=("true",)),
        JobConfig(name="says", command=("echo", "hello")),
        JobConfig(name="saves", command=("sh", "-c", "echo x > $METTA_JOB_DIR/model.pt")),
        JobConfig(name="again", command=("true",)),
    ]
    manager.submit(jobs, group="g", options=None)
    nothing, says, saves, again = manager.wait(["g"], timeout_s=30)
    assert not (manager.state_dir / "jobs" / str(nothing.id)).exists()
    assert not (manager.state_dir / "jobs" / str(again.id)).exists()
    assert says.folder and (says.folder / "output.log").read_text() == "hello\n"
    assert saves.folder and [path.name for path in saves.folder.iterdir()] == ["model.pt"]
