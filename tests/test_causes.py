"""Which failures count as one cause."""

from __future__ import annotations

import pytest

from metta_jobs.causes import cause_of, common, names, share_causes
from metta_jobs.states import JobState


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (
            "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB (GPU 3; 79.15 GiB total capacity)",
            "RuntimeError: CUDA out of memory. Tried to allocate 512.00 MiB. Process 12 has 3 GiB. Process 9 has 1 GiB",
        ),
        ("ValueError: NaN at step 1,024", "ValueError: NaN at step 98_304"),
        ("No such file or directory: '/data/a/b.npz'", "No such file or directory: '/home/x/c-2.npz'"),
        ("ConnectionError: http://node-3:2379/v1", "ConnectionError: http://node-17:2379/v2?x=1"),
        ("segfault at 0x7ffe12 in worker 3", "segfault at 0x55aa in worker 12"),
        ("run 1a2b3c4d failed after 3.2 s", "run 99ff00aa failed after 110 ms"),
        ("size mismatch: [64, 3] and [128, 3, 3]", "size mismatch: [8, 8, 2, 2] and [1]"),
        ("2026-11-21 12:30:01,123 ERROR: no map", "2026-11-22 02:03:04,005 ERROR: no map"),
    ],
)
def test_what_differs_between_equal_failures_does_not_count(one: str, other: str) -> None:
    assert common(one) == common(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("KeyError: 'reward'", "KeyError: 'action'"),
        ("ValueError: NaN at step 3", "RuntimeError: NaN at step 3"),
        ("Input should be a valid integer", "Input should be a valid number"),
    ],
)
def test_different_failures_stay_apart(one: str, other: str) -> None:
    assert common(one) != common(other)


def test_the_name_of_the_job_does_not_count() -> None:
    assert common("cannot open run a.s1!", "a.s1") == common("cannot open run b.s2!", "b.s2")


@pytest.mark.parametrize(
    ("state", "code", "reason", "error", "said"),
    [
        (JobState.FAILED, 1, "exit code 1", "ValueError: no", "ValueError: no"),
        (JobState.FAILED, 3, "exit code 3", None, "exit code 3"),
        (JobState.FAILED, 127, "sh: not found", None, "sh: not found"),
        (JobState.FAILED, 139, "exit code 139", None, "exit code 139: segmentation fault (SIGSEGV)"),
        (JobState.FAILED, 0, "overview/reward 1.2 is not >= 5", "some error", "overview/reward 1.2 is not >= 5"),
        (JobState.FAILED, None, "no capacity in us-east-1", None, "no capacity in us-east-1"),
        (JobState.TIMED_OUT, 143, "time limit of 600 s reached", "KeyError: x", "time limit of 600 s reached"),
        (JobState.LOST, None, "its processes are gone", None, "its processes are gone"),
        (JobState.LOST, None, None, None, "lost"),
    ],
)
def test_why_a_job_failed(state: JobState, code: int | None, reason: str | None, error: str | None, said: str) -> None:
    assert cause_of("a", state, code, reason, error).error == said


def test_sigkill_is_told_in_words_whatever_the_log_said_last() -> None:
    told = cause_of("a", JobState.FAILED, 137, "exit code 137", None).error
    assert told == "exit code 137: killed by the kernel or somebody (SIGKILL), often out of memory"


def test_exit_codes_and_states_stay_apart() -> None:
    codes = [cause_of("a", JobState.FAILED, code, f"exit code {code}", None).key for code in (1, 2, 3)]
    states = [cause_of("a", state, None, "gone", None).key for state in (JobState.LOST, JobState.TIMED_OUT)]
    assert len({*codes, *states}) == 5


def test_the_commonest_cause_comes_first_with_a_line_as_it_was() -> None:
    told = [("a", "KeyError: 1"), ("b", "NaN at 7"), ("c", "NaN at 8"), ("d", "NaN at 9")]
    first, second = share_causes((name, cause_of(name, JobState.FAILED, 1, None, line)) for name, line in told)
    assert first.to_dict() == {"error": "NaN at 7", "jobs": ["b", "c", "d"], "count": 3}
    assert (second.jobs, names(first), names(first, 2)) == (("a",), "b, c, d", "b, c and 1 more")
