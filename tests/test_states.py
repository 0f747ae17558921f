from __future__ import annotations

import re

import pytest

from metta_jobs import states
from metta_jobs.states import ARROWS, LIVE, TERMINAL, UNSUCCESSFUL, DependencyKind, JobState


def test_every_state_has_its_arrows_and_a_sentence() -> None:
    assert set(ARROWS) == set(JobState)
    for state in JobState:
        assert re.search(rf"^{state.name} +\w", states.__doc__ or "", re.MULTILINE), state


def test_success_is_never_left_and_every_other_end_only_by_a_retry() -> None:
    assert ARROWS[JobState.SUCCEEDED] == frozenset()
    for state in UNSUCCESSFUL:
        assert ARROWS[state] == {JobState.PENDING}


def test_states_are_pending_live_or_terminal_and_nothing_twice() -> None:
    assert {JobState.PENDING} | LIVE | TERMINAL == set(JobState)
    assert not LIVE & TERMINAL
    assert JobState.PENDING not in LIVE | TERMINAL


@pytest.mark.parametrize("kind", DependencyKind)
@pytest.mark.parametrize("parent", JobState)
def test_a_dependency_is_met_or_impossible_only_when_the_parent_has_ended(
    kind: DependencyKind, parent: JobState
) -> None:
    assert (kind.met(parent) or kind.impossible(parent)) == parent.terminal
    assert not (kind.met(parent) and kind.impossible(parent))


def test_dependency_kinds() -> None:
    assert DependencyKind.AFTEROK.met(JobState.SUCCEEDED)
    assert DependencyKind.AFTEROK.impossible(JobState.KILLED)
    assert DependencyKind.AFTERANY.met(JobState.LOST)
    assert DependencyKind.AFTERNOTOK.met(JobState.FAILED)
    assert DependencyKind.AFTERNOTOK.impossible(JobState.SUCCEEDED)
