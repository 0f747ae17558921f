import dataclasses
import re

import pytest
from display_cases import NOW, SIZES, frame_lines, frame_path, full_snapshot, make_group, make_job
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.cells import cell_len

from metta_jobs.display.marks import MARKS
from metta_jobs.display.snapshot import Detail, Snapshot
from metta_jobs.metrics.artifacts import Artifact
from metta_jobs.metrics.progress import Progress
from metta_jobs.states import FAILURES, JobState
from metta_jobs.views import RemoteView

TITLES = {
    "Failed": FAILURES,
    "Active": {JobState.RUNNING, JobState.LAUNCHING},
    "Pending": {JobState.PENDING},
    "Completed": {JobState.SUCCEEDED},
    "Stopped": {JobState.KILLED, JobState.SKIPPED},
}


@pytest.mark.parametrize("size", SIZES, ids=lambda size: f"{size[0]}x{size[1]}")
def test_frames_look_as_expected(size):
    """After a change that is meant, `python tests/display/display_cases.py` writes them anew."""
    assert "\n".join(frame_lines(full_snapshot(), *size, fill=True)) + "\n" == frame_path(*size).read_text()


NAME = "lr=0.0003,batch=4096,layers=3.seed0"  # 35 cells


@pytest.mark.parametrize(
    ("width", "states", "progress"),
    [
        (80, [JobState.PENDING], None),
        (80, [JobState.SUCCEEDED, JobState.PENDING], None),
        (80, [JobState.RUNNING, JobState.PENDING], None),  # a plain script: no column of its row has anything to say
        (120, [JobState.RUNNING], Progress(10.0, 100.0, None, None, None)),
        (200, [JobState.RUNNING, JobState.FAILED], Progress(10.0, 100.0, 5.0, 1.0, None)),
    ],
)
def test_names_are_whole_where_other_columns_leave_room(width, states, progress):
    jobs = [make_job(number, NAME, state, reason="waits") for number, state in enumerate(states, 1)]
    lines = frame_lines(Snapshot(make_group(jobs), NOW, None, {1: Detail(progress=progress)}), width, 24)
    assert len([line for line in lines if NAME in line]) == len(jobs)
    assert ("progress" in "\n".join(lines)) == (JobState.RUNNING in states)


numbers = st.one_of(st.none(), st.floats(), st.floats(0, 1e9))
texts = st.text(max_size=60)
details = st.builds(
    Detail,
    progress=st.one_of(st.none(), st.builds(Progress, numbers, numbers, numbers, numbers, numbers)),
    log=st.lists(st.sampled_from(["plain", "x" * 300, "訓練中" * 40, "[bold]"]), max_size=8).map(tuple),
    error=st.lists(st.sampled_from(["RuntimeError: no", "y" * 300]), max_size=8).map(tuple),
    artifacts=st.lists(
        st.sampled_from([Artifact("wandb", "W&B", "https://w/" + "z" * 200), Artifact("replay", "r", "/a b/r")]),
        max_size=3,
    ).map(tuple),
)


@st.composite
def snapshots(draw):
    states = draw(st.lists(st.sampled_from(JobState), max_size=60))
    names = draw(st.lists(st.text(min_size=1, max_size=40), min_size=1, max_size=5))
    jobs = [
        make_job(
            index,
            names[index % len(names)],
            state,
            reason=draw(st.one_of(st.none(), texts)),
            kill_requested=draw(st.booleans()),
        )
        for index, state in enumerate(states, 1)
    ]
    some = {job.id: draw(details) for job in jobs[:12]}
    return Snapshot(make_group(jobs, draw(texts)), NOW, draw(st.one_of(st.none(), texts)), some)


@settings(max_examples=120, deadline=None)
@given(snapshots(), st.integers(1, 220), st.integers(1, 70), st.booleans())
def test_no_frame_exceeds_the_screen(snapshot, width, height, fill):
    lines = frame_lines(snapshot, width, height, fill=fill)
    assert len(lines) <= height
    assert not fill or len(lines) == height
    assert max(map(cell_len, lines)) <= width
    assert not re.search(r"[\x00-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", "".join(lines))


@settings(max_examples=120, deadline=None)
@given(snapshots(), st.integers(40, 220), st.integers(2, 70))
def test_every_job_is_shown_or_counted(snapshot, width, height):
    named = make_group(
        [dataclasses.replace(job, name=f"job{job.id}", reason=None) for job in snapshot.group.jobs], "group"
    )
    lines = frame_lines(Snapshot(named, NOW, None, {}), width, height)
    counts = named.counts
    present = [
        n
        for n in (counts.failed, counts.running, counts.launching, counts.pending, counts.completed, counts.killed)
        if n
    ]
    header = [int(number) for number in re.findall(r"\d+", lines[1].split("%")[0])]
    assert header[: len(present)] == present
    shown_titles = [line.split()[0] for line in lines[2:] if line.split() and line.split()[0] in TITLES]
    expected = [title for title, states in TITLES.items() if any(job.state in states for job in named.jobs)]
    if height >= 3 + len(expected):
        assert shown_titles == expected
    for title in shown_titles:
        start = next(i for i, line in enumerate(lines) if line.split() and line.split()[0] == title)
        symbols = {MARKS[state].symbol for state in TITLES[title]}
        of_section = [line for line in lines[2:] if line[1:2] in symbols and line.split()[1].startswith("job")]
        hidden = [int(m[1]) for line in lines[start:] if (m := re.search(rf"… and (\d+) more {title.lower()}", line))]
        jobs = sum(job.state in TITLES[title] for job in named.jobs)
        assert int(lines[start].split()[1]) == jobs
        if of_section:
            assert len(of_section) + sum(hidden) == jobs


def test_failures_and_running_jobs_come_before_the_rest_where_space_is_short():
    jobs = [make_job(i, f"f{i}", JobState.FAILED, exit_code=3) for i in range(1, 4)]
    jobs += [make_job(i, f"r{i}", JobState.RUNNING) for i in range(4, 7)]
    jobs += [make_job(i, f"p{i}", JobState.PENDING) for i in range(7, 40)]
    text = "\n".join(frame_lines(Snapshot(make_group(jobs), NOW), 80, 16))
    assert all(name in text for name in ("f1", "f2", "f3", "r4", "r5", "r6", "exit 3"))
    assert re.search(r"… and 3\d more pending", text)


def test_markup_in_names_and_logs_shows_as_text():
    job = make_job(1, "[red]x[/red]", JobState.RUNNING)
    snapshot = Snapshot(make_group([job]), NOW, None, {1: Detail(log=("[bold]y[/bold] :smile:",))})
    text = "\n".join(frame_lines(snapshot, 80, 24))
    assert "[red]x[/red]" in text
    assert "[bold]y[/bold] :smile:" in text


def test_a_job_that_is_being_killed_says_so():
    job = make_job(1, "a", JobState.RUNNING, kill_requested=True)
    snapshot = Snapshot(make_group([job]), NOW, None, {1: Detail(Progress(10.0, 100.0))})
    assert "stopping…" in "\n".join(frame_lines(snapshot, 80, 24))


def test_the_frame_of_a_finished_group_tells_how_long_it_took():
    lines = frame_lines(Snapshot(make_group([make_job(5, "a", JobState.SUCCEEDED)]), NOW), 80, 24, footer=None)
    assert "took 11 min 55 s" in lines[0]
    assert "100 %" in lines[1]
    assert "Ctrl-C" not in "\n".join(lines)


def test_attempt_and_reason_of_a_failure_are_shown_but_not_the_exit_code_twice():
    failed = make_job(1, "a", JobState.FAILED, exit_code=3, reason="exit code 3", attempt=2)
    lost = make_job(2, "b", JobState.LOST, reason="its processes are gone")
    text = "\n".join(frame_lines(Snapshot(make_group([failed, lost]), NOW), 100, 24))
    assert "exit 3" in text
    assert "exit code 3" not in text
    assert "attempt 2" in text
    assert re.search(r"lost .*its processes are gone", text)


def elsewhere(cost: float | None, **fields: object) -> RemoteView:
    told = {"managed_id": 7, "managed_name": "metta-x-1-1", "status": "RUNNING", "detail": None, "recoveries": 0}
    told |= {"infra": "aws", "resources": "1x", "hourly_usd": None if cost is None else 2.0, "cost_usd": cost}
    return RemoteView(**(told | fields))


def test_jobs_elsewhere_say_what_they_wait_for_and_cost():
    wait = "SkyPilot: starting (waits in Slurm's queue)"
    jobs = [
        make_job(1, "a", JobState.RUNNING, executor="skypilot", remote=elsewhere(1.234)),
        make_job(2, "b", JobState.LAUNCHING, executor="skypilot", remote=elsewhere(None), reason=wait),
        make_job(3, "c", JobState.RUNNING, executor="skypilot", remote=elsewhere(0.5), reason="SkyPilot: recovering"),
        make_job(4, "d", JobState.SUCCEEDED, executor="skypilot", remote=elsewhere(1500.0), exit_code=0),
    ]
    lines = frame_lines(Snapshot(make_group(jobs), NOW, None), 120, 30)
    assert lines[0].rstrip().endswith("· $1,502")
    row = {line.split()[1]: line.rstrip() for line in lines if line[1:2] and len(line.split()) > 1}
    assert row["a"].endswith("$1.23")
    assert row["b"].endswith(wait)
    assert "recovering" in row["c"] and row["c"].endswith("$0.50")


def test_a_group_without_a_known_price_has_no_column_for_it():
    text = "\n".join(frame_lines(Snapshot(make_group([make_job(1, "a", JobState.RUNNING)]), NOW, None), 200, 30))
    assert "cost" not in text and "$" not in text
