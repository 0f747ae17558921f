import dataclasses
import math
from collections import Counter
from datetime import timedelta
from pathlib import Path

import pytest
from display_cases import NOW, full_snapshot, make_group, make_job, text_of
from rich.console import Console

from metta_jobs.display.job import render_events, render_job
from metta_jobs.display.listing import show
from metta_jobs.display.tables import render_groups, render_jobs
from metta_jobs.metrics.artifacts import Artifact
from metta_jobs.states import DependencyKind, JobState
from metta_jobs.views import Counts, EventView, GroupSummary, ParentView, Progress

LONG = "arena_experiment_2026-11-21_03-38-02_with_a_long_name"


def summary(name, *states):
    return GroupSummary(name, NOW - timedelta(hours=2, minutes=3), Counts.of(Counter(states)))


def test_groups_show_killed_and_skipped_only_where_there_are_any():
    plain = text_of(render_groups([summary("a", JobState.RUNNING, JobState.FAILED)], NOW))
    assert plain.splitlines()[0].split() == ["group", "total", "running", "pending", "completed", "failed", "age"]
    assert plain.splitlines()[1].split() == ["a", "2", "1", "0", "0", "1", "2", "h", "03", "min"]
    killed = text_of(render_groups([summary("a", JobState.KILLED), summary("b", JobState.SKIPPED)], NOW), width=120)
    assert "killed" in killed
    assert "skipped" in killed


def test_no_groups_and_no_jobs_are_said():
    assert text_of(render_groups([], NOW)).strip() == "No groups."
    assert "No jobs" in text_of(render_jobs(make_group([]), NOW))


@pytest.mark.parametrize("width", [20, 40, 60, 80, 120, 200])
def test_tables_never_exceed_the_width(width):
    events = [EventView(1, NOW, 3, LONG, LONG, 1, "ended", JobState.RUNNING, JobState.FAILED, "because " * 30)]
    for table in (
        render_groups([summary(LONG, *JobState)], NOW),
        render_jobs(full_snapshot().group, NOW),
        render_events(events),
    ):
        assert max(map(len, text_of(table, width=width).splitlines())) <= width


def test_a_long_name_is_shortened_in_its_middle_and_the_reason_wraps_in_its_column():
    job = make_job(1, LONG, JobState.PENDING, reason="waits for baseline.seed0 (running), baseline.seed1 (running)")
    lines = text_of(render_jobs(make_group([job]), NOW), width=80).splitlines()
    assert "arena" in lines[1]
    assert "…" in lines[1]
    column = lines[0].index("reason")
    assert len(lines) > 2
    assert all(not line[:column].strip() for line in lines[2:])
    assert " ".join(line[column:].strip() for line in lines[1:]) == job.reason


def test_columns_in_which_nothing_stands_make_room_for_names():
    pending = [make_job(number, f"{LONG}_{number}", JobState.PENDING) for number in (1, 2)]
    pending = [dataclasses.replace(job, attempt=0, exit_code=None, reason=None) for job in pending]
    lines = text_of(render_jobs(make_group(pending), NOW), width=84).splitlines()
    assert lines[0].split() == ["id", "name", "state", "time"]
    assert [f"{LONG}_{number}" in lines[number] for number in (1, 2)] == [True, True]
    assert "exit" in text_of(render_jobs(make_group(pending), NOW), width=120).splitlines()[0]


def test_into_a_pipe_a_table_takes_its_natural_width(capsys):
    job = make_job(1, LONG, JobState.PENDING, reason="because " * 30)
    show(render_jobs(make_group([job]), NOW), Console(width=80, force_terminal=False))
    line = capsys.readouterr().out.splitlines()[1]
    assert LONG in line
    assert line.count("because") == 30


def test_a_state_reads_without_colour():
    text = text_of(render_jobs(make_group([make_job(i, "x", s) for i, s in enumerate(JobState)]), NOW), width=120)
    for words in (
        "✓ succeeded",
        "✗ failed",
        "● running",
        "○ pending",
        "◷ timed out",
        "■ killed",
        "? lost",
        "– skipped",
    ):
        assert words in text


def test_a_job_is_shown_whole():
    parent = ParentView(1, "other", "base", JobState.SUCCEEDED, DependencyKind.AFTEROK)
    job = make_job(
        3,
        "seed2",
        JobState.FAILED,
        exit_code=1,
        reason="exit code 1 " + "and more " * 20 + "to the end",
        command=("python", "-c", "print('a b')", "x=" + "y" * 120),
        parents=(parent,),
        timeout_s=7200.0,
        metrics=("overview/reward",),
        folder=Path("/project/job_state/jobs/3/1"),
    )
    events = [EventView(7, NOW, 3, "g", "seed2", 1, "ended", JobState.RUNNING, JobState.FAILED, "exit code 1")]
    log = ["Traceback (most recent call last):", '  File "t.py", line 1, in f', "ValueError: [bold]no[/bold]\x1b[31m"]
    artifacts = [Artifact("replay", "last.json.z", "/project/replays/last one.json.z")]
    text = text_of(render_job(job, events, log, artifacts, NOW), width=80)
    assert max(map(len, text.splitlines())) <= 80
    flat = " ".join(text.split())
    for words in (
        "✗ seed2 failed",
        "exit code 1",
        "to the end",
        "submitted 2026-11-21 12:18:05Z 12 min ago",
        "other/base (1) ✓ succeeded",
        "time limit 2 h 00 min",
        "overview/reward",
        "/project/job_state/jobs/3/1",
        "/project/replays/last one.json.z",
        "running → ✗ failed",
        "error │ ValueError: [bold]no[/bold]",
    ):
        assert words in flat, words
    assert text.count("y") >= 120
    assert "\x1b" not in text


def test_events_name_their_jobs_and_keep_their_order():
    events = [
        EventView(1, NOW, 3, "g", "a", None, "submitted", None, JobState.PENDING, None),
        EventView(2, NOW, 4, "g", "b", 1, "kill", None, None, "asked for"),
    ]
    lines = text_of(render_events(events), width=120).splitlines()
    assert lines[1].split() == ["2026-11-21", "12:30:05Z", "a", "submitted", "○", "pending"]
    assert lines[2].split() == ["2026-11-21", "12:30:05Z", "b", "1", "kill", "asked", "for"]
    assert "No events." in text_of(render_events([]))


def test_jobs_that_log_show_progress_reward_and_what_ails_them():
    jobs = [
        make_job(1, "a", JobState.RUNNING, progress=Progress(45.0, 100.0, 3.21), health=("loss was NaN at step 45",)),
        make_job(2, "b", JobState.RUNNING, progress=Progress(40_960.0, reward=math.nan)),
        make_job(3, "c", JobState.SUCCEEDED, reason="accepted: overview/reward 7 >= 5"),
    ]
    header, *lines = text_of(render_jobs(make_group(jobs), NOW), width=200).splitlines()
    assert header.split()[-3:] == ["progress", "reward", "reason"]
    assert "45 %    3.21  loss was NaN at step 45" in lines[0]
    assert lines[1].endswith("41.0 k steps     nan")
    assert lines[2].endswith("accepted: overview/reward 7 >= 5")
