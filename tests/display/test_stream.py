"""The monitor where there is no terminal."""

import io
from datetime import timedelta

from display_cases import NOW, make_group, make_job
from rich.console import Console

from metta_jobs.display.monitor import MonitorEnd, monitor
from metta_jobs.display.snapshot import Detail, MonitorState, Snapshot
from metta_jobs.display.stream import Stream
from metta_jobs.errors import StoreError
from metta_jobs.metrics.progress import Progress
from metta_jobs.states import JobState


class HandClock:
    """A clock that moves only by hand."""

    def __init__(self):
        self.seconds = 0.0

    def now(self):
        return NOW + timedelta(seconds=self.seconds)

    def monotonic(self):
        return self.seconds


def running(steps):
    group = make_group([make_job(1, "a", JobState.RUNNING, duration_s=10.0)])
    return Snapshot(group, NOW, None, {1: Detail(Progress(steps, 1e6, 2.5, 1000.0))})


def pipe():
    return Console(file=io.StringIO(), width=80)


def test_one_line_per_change_with_its_time_until_the_group_is_finished():
    states = [
        [JobState.PENDING, JobState.PENDING],
        [JobState.RUNNING, JobState.PENDING],
        [JobState.RUNNING, JobState.PENDING],
        [JobState.SUCCEEDED, JobState.FAILED],
    ]
    calls = iter(states)

    def fetch():
        jobs = [make_job(i, "ab"[i - 1], state, reason="[why]") for i, state in enumerate(next(calls), 1)]
        return MonitorState(make_group(jobs))

    console = pipe()
    assert monitor(fetch, refresh=0, console=console, clock=HandClock()) is MonitorEnd.FINISHED
    stamp = "2026-11-21 12:30:05Z  "
    assert console.file.getvalue().splitlines() == [
        stamp + "arena_experiment: 2 jobs: 2 pending",
        stamp + "a  pending → running  [why]",
        stamp + "a  running → succeeded  10 min 01 s",
        stamp + "b  pending → failed  10 min 02 s  [why]",
        stamp + "arena_experiment: finished: 2 jobs: 1 completed, 1 failed",
    ]


def test_progress_is_told_at_tenths_and_not_too_often():
    clock = HandClock()
    stream = Stream(clock)
    assert len(stream.lines(running(0.0))) == 2
    assert stream.lines(running(99_999.0)) == []
    (line,) = stream.lines(running(110_000.0))
    assert line.endswith("a  11 %  110 k of 1.00 M steps  1.00 k/s  reward 2.50  ETA 14 min")
    clock.seconds = 29.0
    assert stream.lines(running(210_000.0)) == []
    clock.seconds = 30.0
    assert len(stream.lines(running(210_000.0))) == 1
    clock.seconds = 100.0
    assert stream.lines(running(290_000.0)) == []


def test_a_retry_is_told_again_with_its_attempt():
    stream = Stream(HandClock())
    for attempt, state in ((1, JobState.FAILED), (1, JobState.PENDING), (2, JobState.RUNNING)):
        group = make_group([make_job(1, "a", state, attempt=attempt, reason=None, duration_s=None)])
        lines = stream.lines(Snapshot(group, NOW))
    assert lines[-1].endswith("a  pending → running  attempt 2")


def test_a_failure_names_its_code_and_its_error():
    group = make_group([make_job(1, "a", JobState.FAILED, exit_code=3, reason="exit code 3")])
    lines = Stream(HandClock()).lines(Snapshot(group, NOW, None, {1: Detail(error=("RuntimeError: no", "File x"))}))
    assert lines[1].endswith("a  failed  exit 3  10 min 01 s  exit code 3  RuntimeError: no")


def test_a_fetch_that_fails_is_a_warning_and_not_the_end():
    calls = iter(["ok", "fails", "fails", "done"])

    def fetch():
        call = next(calls)
        if call == "fails":
            raise StoreError("The database is busy.")
        return MonitorState(make_group([make_job(1, "a", JobState.RUNNING if call == "ok" else JobState.SUCCEEDED)]))

    console = pipe()
    assert monitor(fetch, refresh=0, console=console, clock=HandClock()) is MonitorEnd.FINISHED
    text = console.file.getvalue()
    assert text.count("warning: The database is busy.") == 1
    assert text.count("the warning is over") == 1


def test_a_warning_that_only_lasts_longer_is_no_news():
    group, stream = make_group([make_job(1, "a", JobState.RUNNING)]), Stream(HandClock())
    stream.lines(Snapshot(group, NOW, "SkyPilot has not answered for 9 min."))
    assert stream.lines(Snapshot(group, NOW, "SkyPilot has not answered for 10 min.")) == []


def test_no_escape_codes_and_no_wrapping_into_a_pipe():
    console = pipe()
    job = make_job(1, "n" * 100, JobState.FAILED, reason="\x1b[31mred\x1b[0m " + "long " * 40)
    assert monitor(lambda: MonitorState(make_group([job])), console=console) is MonitorEnd.FINISHED
    text = console.file.getvalue()
    assert "\x1b" not in text
    assert len(text.splitlines()) == 3


def test_once_into_a_pipe_shows_every_job():
    jobs = [make_job(i, f"job{i}", JobState.PENDING) for i in range(1, 200)]
    console = pipe()
    assert monitor(lambda: MonitorState(make_group(jobs)), once=True, console=console) is MonitorEnd.SHOWN
    text = console.file.getvalue()
    assert "job199" in text
    assert "more pending" not in text
    assert "\x1b" not in text
    assert "Ctrl-C" not in text
