"""Failures that share a cause, in the monitor and below a list of jobs."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from display_cases import NOW, frame_lines, make_group, make_job

from metta_jobs.display.errorlines import telling_line
from metta_jobs.display.failures import digest_failures, line, render_failures
from metta_jobs.display.snapshot import DetailReader, Snapshot
from metta_jobs.job import JobConfig
from metta_jobs.manager import JobManager
from metta_jobs.states import JobState
from metta_jobs.views import JobView
from tests.processes import metta

TRACEBACK = 'Traceback (most recent call last):\n  File "/x/train.py", line 8, in main\n    step()\n'
OOM = "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate {}.00 GiB (GPU {}; 79 GiB total)\n"


def failed(tmp_path: Path, number: int, log: str, **fields: object) -> JobView:
    folder = tmp_path / str(number)
    folder.mkdir()
    (folder / "output.log").write_text(log)
    told = {"exit_code": 1, "reason": "exit code 1", "folder": folder} | fields
    return make_job(number, f"v.s{number}", JobState.FAILED, **told)


@pytest.fixture
def jobs(tmp_path: Path) -> list[JobView]:
    several = [failed(tmp_path, n, "step\n" * 900 + TRACEBACK + OOM.format(n, 9 - n)) for n in (1, 2, 3)]
    lost = make_job(5, "v.s5", JobState.LOST, reason="the machine was restarted")
    good = make_job(6, "v.s6", JobState.SUCCEEDED)
    return [*several, failed(tmp_path, 4, "KeyError: 'map'\n"), lost, good]


def test_the_monitor_says_what_failures_share(jobs: list[JobView]) -> None:
    group = make_group(jobs)
    reader = DetailReader()
    lines = frame_lines(Snapshot(group, NOW, None, reader.read(group, 24)), 100, 30)
    assert lines[2].startswith(" 3 of 6 failed: torch.OutOfMemoryError: CUDA out of memory")
    assert lines[2].rstrip().endswith(" — v.s1, v.s2, v.s3")
    assert sum(" of 6 failed" in text for text in lines) == 1
    (jobs[0].folder / "output.log").unlink()
    assert reader.read(group, 24)[1].cause == telling_line([OOM.format(1, 8).strip()])


def test_where_room_is_short_the_jobs_come_first(jobs: list[JobView]) -> None:
    group = make_group(jobs)
    details = DetailReader().read(group, 24)
    assert not any(" of 6 failed" in text for text in frame_lines(Snapshot(group, NOW, None, details), 100, 9))


def test_a_line_fits_and_keeps_the_names(jobs: list[JobView]) -> None:
    [first, *_] = digest_failures(jobs).causes
    for width in (20, 60, 80, 200):
        assert line(first, 6, width).cell_len <= width
    assert line(first, 6, 60).plain.endswith("… — v.s1, v.s2, v.s3")


def test_not_every_log_is_read_and_that_is_said(tmp_path: Path, jobs: list[JobView]) -> None:
    told = digest_failures(jobs, most=2)
    assert (told.failed, told.unread, sum(cause.count for cause in told.causes)) == (5, 2, 3)
    assert "2 more failed; 3 were looked at" in render_failures(told, 80)[-1].plain


def test_what_only_a_reason_tells_needs_no_log(tmp_path: Path) -> None:
    many = [
        replace(failed(tmp_path, n, OOM), state=JobState.TIMED_OUT, reason=f"time limit of {n} s reached")
        for n in range(1, 5)
    ]
    told = digest_failures(many, most=0)
    assert (told.unread, [cause.count for cause in told.causes]) == (0, [4])


@pytest.mark.parametrize(
    ("log", "said"),
    [
        (["Traceback (most recent call last):", '  File "a.py", line 3, in f', "AssertionError"],
         'AssertionError (File "a.py", line 3, in f)'),
        (["Traceback (most recent call last):", '  File "a", line 1', "ValidationError: 1 validation error for Arena",
          "agents", "  Input should be a valid integer"],
         "ValidationError: 1 validation error for Arena agents Input should be a valid integer"),
        (["eval 3 of 10", "bye"], None),
        ([], None),
    ],
)  # fmt: skip
def test_the_line_that_tells(log: list[str], said: str | None) -> None:
    assert telling_line(log) == said


def test_list_tells_real_failures_below_the_table_and_in_its_json(manager: JobManager, state_dir: Path) -> None:
    program = "echo step $0; echo ValueError: reward is nan at step $0 >&2; exit 1"
    runs = [JobConfig(name=f"a.s{n}", command=("sh", "-c", program, str(n))) for n in (1, 2)]
    killed = JobConfig(name="b", command=("sh", "-c", "kill -9 $$"))
    manager.submit([*runs, killed, JobConfig(name="good", command=("true",))], group="g")
    manager.wait(["g/a.s1", "g/a.s2", "g/b", "g/good"], timeout_s=60)
    told = json.loads(metta("job", "list", "g", "--json", cwd=state_dir.parent).stdout)
    assert [(cause["jobs"], cause["count"]) for cause in told["failures"]] == [(["a.s1", "a.s2"], 2), (["b"], 1)]
    assert (told["failures"][0]["error"], told["failures_not_read"]) == ("ValueError: reward is nan at step 1", 0)
    below = metta("job", "list", "g", cwd=state_dir.parent).stdout.splitlines()[-2:]
    assert below == [
        "2 of 4 failed: ValueError: reward is nan at step 1 — a.s1, a.s2",
        "1 of 4 failed: exit code 137: killed by the kernel or somebody (SIGKILL), often out of memory — b",
    ]
