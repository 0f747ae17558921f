"""Records that were deleted, damaged or cannot be written: no lie, no second launch, no job that cannot be ended."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import pytest

from metta_jobs.executors import runner
from metta_jobs.executors.base import Absent, Alive, Cause, Exited, Key, LaunchSpec, Unknown
from metta_jobs.executors.local import LocalExecutor
from metta_jobs.executors.records import DamagedRecord, read_outcome, read_pid, read_stop
from metta_jobs.job import JobConfig
from metta_jobs.manager import JobManager
from metta_jobs.paths import StateDir
from metta_jobs.states import JobState
from tests.processes import until

KEY: Key = (1, 1)
GARBAGE = [b"", b"null", b"[]", b"{", b'"x"', b"{}", b'{"pid": "x"}', b"\xff\xfe", b"[" * 100_000]


@pytest.fixture
def local(state_dir: Path) -> LocalExecutor:
    StateDir(state_dir).create()
    executor = LocalExecutor(StateDir(state_dir))
    environment = {"METTA_ATTEMPT_TOKEN": StateDir(state_dir).token(*KEY), "PATH": os.environ["PATH"]}
    executor.launch(
        LaunchSpec(KEY, "a", (sys.executable, "-S", "-c", "import time; time.sleep(600)"), None, 1, environment)
    )
    until(lambda: isinstance(executor.observe([KEY])[KEY], Alive), "its start")
    return executor


@pytest.mark.parametrize("garbage", GARBAGE)
@pytest.mark.parametrize("read", [read_pid, read_stop, read_outcome])
def test_garbage_is_recognised(tmp_path: Path, garbage: bytes, read: object) -> None:
    for name in ("pid.json", "stop.json", "outcome.json"):
        (tmp_path / name).write_bytes(garbage)
    with pytest.raises(DamagedRecord):
        read(tmp_path)  # type: ignore[operator]


@pytest.mark.parametrize("garbage", GARBAGE[:6])
def test_a_damaged_pid_record_is_told_and_the_job_can_still_be_ended(
    local: LocalExecutor, state_dir: Path, garbage: bytes
) -> None:
    (StateDir(state_dir).attempt(*KEY) / "pid.json").write_bytes(garbage)
    seen = local.observe([KEY])[KEY]
    assert isinstance(seen, Alive) and seen.note is not None and "damaged" in seen.note
    local.stop(KEY, Cause.KILL, force=True)
    ended = until(lambda: isinstance(seen := local.observe([KEY])[KEY], Absent) and seen, "its end")
    assert ended.launched


def test_a_folder_deleted_under_a_running_job(local: LocalExecutor, state_dir: Path) -> None:
    shutil.rmtree(StateDir(state_dir).attempt(*KEY))
    executor = LocalExecutor(StateDir(state_dir))
    seen = executor.observe([KEY])[KEY]
    assert isinstance(seen, Alive) and seen.note == "its pid.json is gone"
    executor.stop(KEY, Cause.KILL, force=True)
    until(lambda: executor.observe([KEY])[KEY] == Absent(launched=False), "its end")


def test_a_damaged_outcome_is_no_evidence(local: LocalExecutor, state_dir: Path) -> None:
    folder = StateDir(state_dir).attempt(*KEY)
    (folder / "outcome.json").write_text('{"exit_code": "fine"}')
    assert isinstance(local.observe([KEY])[KEY], Alive)


def test_an_outcome_of_another_boot_is_believed_and_a_missing_one_is_a_loss(
    local: LocalExecutor, state_dir: Path
) -> None:
    folder = StateDir(state_dir).attempt(*KEY)
    local.stop(KEY, Cause.KILL, force=True)
    until(lambda: isinstance(local.observe([KEY])[KEY], Exited), "its end")
    text = (folder / "pid.json").read_text()
    (folder / "pid.json").write_text(text.replace(local._boot, "another-boot"))
    assert isinstance(local.observe([KEY])[KEY], Exited)
    (folder / "outcome.json").unlink()
    seen = local.observe([KEY])[KEY]
    assert isinstance(seen, Absent) and seen.note == "the machine was restarted while it ran"


def test_a_reused_pid_is_not_our_process(local: LocalExecutor, state_dir: Path) -> None:
    folder = StateDir(state_dir).attempt(*KEY)
    local.stop(KEY, Cause.KILL, force=True)
    until(lambda: isinstance(local.observe([KEY])[KEY], Exited), "its end")
    (folder / "outcome.json").unlink()
    record = read_pid(folder)
    assert record is not None
    until(lambda: runner.start_mark(record.pid) is None, "the runner's end")
    text = (folder / "pid.json").read_text().replace(f'"pid": {record.pid}', f'"pid": {os.getpid()}')
    (folder / "pid.json").write_text(text)
    assert isinstance(local.observe([KEY])[KEY], Absent)


def test_what_fills_the_disk_can_be_stopped(
    local: LocalExecutor, state_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("metta_jobs.executors.runner.write_record", full)
    local.stop(KEY, Cause.KILL, force=False)
    ended = until(lambda: isinstance(seen := local.observe([KEY])[KEY], Exited) and seen, "its end")
    assert ended.stopped is Cause.KILL


def test_a_folder_that_cannot_be_read_is_no_answer(
    local: LocalExecutor, state_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr("metta_jobs.executors.local.read_pid", broken)
    assert local.observe([KEY])[KEY] == Unknown("its folder cannot be read: Input/output error")


def test_a_job_that_deletes_its_folder_is_lost_once_and_never_started_again(
    manager: JobManager, tmp_path: Path
) -> None:
    witness = tmp_path / "witness"
    script = f'echo x >> {witness}; until [ -e {tmp_path}/go ]; do sleep 0.05; done; rm -rf "$METTA_JOB_DIR"'
    (job,) = manager.submit([JobConfig(name="a", command=("sh", "-c", script))], group="g").jobs
    until(lambda: manager.job(job.id).state is JobState.RUNNING)
    (tmp_path / "go").touch()
    (ended,) = manager.wait([job.id], timeout_s=30)
    assert ended.state is JobState.LOST
    assert witness.read_text() == "x\n"
