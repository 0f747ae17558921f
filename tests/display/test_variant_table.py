"""Seeds folded into a line a variant: nothing that needs attention is folded away."""

import pytest
from display_cases import NOW, make_group, make_job, text_of

from metta_jobs.display.job import render_job
from metta_jobs.display.variants import folds, render_variants
from metta_jobs.states import JobState
from metta_jobs.views import Progress

STATES = [JobState.SUCCEEDED, *JobState, JobState.SUCCEEDED]


def matrix(name="baseline", states=STATES):
    return [
        make_job(i, f"{name}.s{i}", state, variant=name, seed=i, reason="exit code 1: CUDA out of memory" * (i == 5))
        for i, state in enumerate(states, start=1)
    ]


def test_a_variant_is_a_line_and_other_jobs_stay():
    done = matrix("done", [JobState.SUCCEEDED] * 3)
    alone = make_job(20, "alone.s1", JobState.RUNNING, variant="alone", seed=1)
    notebook = make_job(21, "notebook", JobState.PENDING, reason="waits for alone.s1 (running)")
    group = make_group([*matrix(states=STATES[:6]), *done, alone, notebook])
    assert folds(group)
    lines = text_of(render_variants(group, NOW), width=200).splitlines()
    assert [line.split()[0] for line in lines] == ["id", "baseline", "done", "20", "21"]
    assert "✗ 2/6 done, 1 failed, 1 running, 1 launching, 1 pending" in lines[1]
    assert lines[1].endswith("s6 (6): failed")
    assert "✓ 3/3 done" in lines[2]


def test_who_ended_without_success_is_named():
    text = text_of(render_variants(make_group(matrix()), NOW), width=400)
    assert "3/11 done, 1 failed, 1 timed out, 1 lost, 1 killed, 1 skipped, 1 running, 1 launching, 1 pending" in text
    assert "s6 (6): failed; s7 (7): timed out; s8 (8): killed; 2 more" in text


def test_a_group_without_seeds_does_not_fold():
    assert not folds(make_group([make_job(1, "a", JobState.RUNNING), make_job(2, "b", JobState.RUNNING)]))
    assert not folds(make_group(matrix(states=[JobState.RUNNING])))


@pytest.mark.parametrize("width", [40, 60, 80, 120])
def test_it_fits_the_screen(width):
    long = [
        make_job(9 + s, f"v.s{s}", JobState.FAILED, variant="long_name_" * 9, seed=s, reason="because " * 9)
        for s in (1, 2)
    ]
    table = render_variants(make_group([*matrix(), *long]), NOW)
    assert max(map(len, text_of(table, width=width).splitlines())) <= width


def test_a_job_says_which_cell_of_the_matrix_it_is():
    (job, *_) = matrix()
    words = text_of(render_job(job, [], [], [], NOW)).split()
    assert words[words.index("variant") :][:4] == ["variant", "baseline,", "seed", "1"]


def test_progress_and_reward_of_a_variant_are_means_of_its_seeds():
    seeds = [
        make_job(i, f"v.s{i}", JobState.RUNNING, variant="v", seed=i, progress=Progress(steps, 100.0, reward))
        for i, (steps, reward) in enumerate([(20.0, 1.0), (60.0, 2.0), (None, None)], start=1)
    ]
    header, line = text_of(render_variants(make_group(seeds), NOW), width=200).splitlines()
    assert header.split()[-3:] == ["progress", "reward", "reason"]
    assert line.split()[-3:] == ["40", "%", "1.50"]
