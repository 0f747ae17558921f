"""Acceptance criteria and health rules: what they take, what they say."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from metta_jobs.criteria import AcceptanceCriterion, HealthRule, Vitals, judge
from metta_jobs.job import JobConfig
from metta_jobs.policy import GroupConfig, RetryPolicy, cause_of
from metta_jobs.states import JobState


def criterion(text: str) -> AcceptanceCriterion:
    return AcceptanceCriterion.parse(text)


@pytest.mark.parametrize(
    ("text", "value", "met", "words"),
    [
        ("overview/reward >= 5", 3.2, False, "overview/reward 3.2 is not >= 5"),
        ("overview/reward >= 5", 5.0, True, "overview/reward 5 >= 5"),
        ("overview/reward > 5", 5.0, False, "overview/reward 5 is not > 5"),
        ("loss <= 0.1", 0.1, True, "loss 0.1 <= 0.1"),
        ("loss < 0.1", 0.1000001, False, "loss 0.1000001 is not < 0.1"),
        ("done == 1", 1.0, True, "done 1 == 1"),
        ("loss in (0, 1)", 0.5, True, "loss 0.5 in (0, 1)"),
        ("loss in [0,1]", 1.5, False, "loss 1.5 is not in (0, 1)"),
        ("reward >= 5", math.nan, False, "reward nan is not >= 5"),
        ("reward >= 5", None, False, "reward was never logged, and must be >= 5"),
        ("my reward (mean) > -1e3", 0.0, True, "my reward (mean) 0 > -1000"),
    ],
)
def test_a_criterion_says_in_numbers_how_a_value_stands_to_it(
    text: str, value: float | None, met: bool, words: str
) -> None:
    assert (criterion(text).met(value), criterion(text).words(value)) == (met, words)


@pytest.mark.parametrize("text", ["reward", "reward >= many", "reward => 5", "reward in 5", "loss in (1, 0)", ">= 5"])
def test_what_is_no_criterion_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        criterion(text)


@pytest.mark.parametrize("fields", [{"operator": "in", "threshold": 5}, {"threshold": (0, 1)}, {"threshold": math.inf}])
def test_a_threshold_belongs_to_its_operator(fields: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        AcceptanceCriterion.model_validate({"metric": "reward", **fields})


def test_a_job_takes_criteria_as_text_as_objects_and_as_one() -> None:
    one = criterion("reward >= 5")
    for given_ in ("reward >= 5", ["reward >= 5"], one, (one,), {"metric": "reward", "threshold": 5}):
        config = JobConfig.model_validate({"name": "a", "command": ["x"], "acceptance": given_})
        assert config.acceptance == (one,)
        assert JobConfig.model_validate_json(config.model_dump_json()) == config
    ranged = JobConfig.model_validate({"name": "a", "command": ["x"], "acceptance": "loss in (0, 1)"})
    assert JobConfig.model_validate_json(ranged.model_dump_json()) == ranged


@given(st.floats(), st.floats(allow_nan=False, allow_infinity=False), st.sampled_from([">=", ">", "<=", "<", "=="]))
def test_met_or_not_and_the_words_agree(value: float, threshold: float, operator: str) -> None:
    asked = AcceptanceCriterion.model_validate({"metric": "m", "operator": operator, "threshold": threshold})
    met, why = judge([asked], {"m": value})
    assert met is asked.met(value)
    assert ("is not" in why) is not met
    assert why.startswith("accepted: ") is met
    if math.isnan(value):
        assert not met


def test_all_that_is_not_met_is_told() -> None:
    both = [criterion("a >= 1"), criterion("b >= 1"), criterion("c >= 1")]
    assert judge(both, {"a": 0, "b": 2}) == (False, "a 0 is not >= 1, c was never logged, and must be >= 1")
    assert judge(both, {"a": 1, "b": 2, "c": 3}) == (True, "accepted: a 1 >= 1, b 2 >= 1, c 3 >= 1")


def rule(**fields: object) -> HealthRule:
    return HealthRule.model_validate(fields)


def seen(**fields: object) -> Vitals:
    return Vitals(**{"steps": 40_960.0, **fields})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("asked", "vitals", "said"),
    [
        (rule(when="nan"), seen(values={"b": math.nan, "a": 1}), "b was NaN at step 40,960"),
        (rule(when="nan", metric="b"), seen(values={"b": -math.inf}), "b was infinite at step 40,960"),
        (rule(when="nan", metric="a"), seen(values={"b": math.nan, "a": 1}), None),
        (rule(when="nan", after_step=50_000), seen(values={"b": math.nan}), None),
        (rule(when="stalled", minutes=10), seen(still_s=599), None),
        (rule(when="stalled", minutes=10), seen(still_s=630), "no new step for 10.5 min at step 40,960"),
        (rule(when="stalled", minutes=0.1), seen(still_s=9.6), "no new step for 10 s at step 40,960"),
        (rule(when="stalled", minutes=10), seen(steps=None, still_s=600), "no step at all for 10 min"),
        (rule(when="slow", share=0.5), seen(sps=400, group_sps=(400, 1000)), None),
        (rule(when="slow", share=0.5), seen(sps=500, group_sps=(500, 1000, 1000)), None),
        (
            rule(when="slow", share=0.5),
            seen(sps=400, group_sps=(400, 1000, 1200)),
            "SPS was 400 at step 40,960, below 0.5 of the median 1,000 of 3 runs",
        ),
        (rule(when="below", metric="r", threshold=1), seen(values={"r": 1}), None),
        (rule(when="below", metric="r", threshold=0), seen(values={"r": -1}), "r was -1 at step 40,960, below 0"),
        (rule(when="above", metric="r", threshold=1), seen(values={"r": 1.5}), "r was 1.5 at step 40,960, above 1"),
        (rule(when="above", metric="r", threshold=1), seen(values={}), None),
        (rule(when="above", metric="r", threshold=1), seen(values={"r": math.nan}), None),
    ],
)
def test_a_rule_says_in_numbers_what_is_wrong(asked: HealthRule, vitals: Vitals, said: str | None) -> None:
    assert asked.problem(vitals) == said


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"when": "stalled"}, "needs minutes"),
        ({"when": "below", "metric": "a"}, "needs threshold"),
        ({"when": "below", "threshold": 0}, "needs metric"),
        ({"when": "slow"}, "needs share"),
        ({"when": "slow", "share": 0.5, "metric": "a"}, "metric says nothing"),
        ({"when": "stalled", "minutes": 1, "after_step": 3}, "after_step says nothing"),
        ({"when": "nan", "threshold": 0}, "threshold says nothing"),
        ({"when": "nan", "action": "kill", "max_retries": 2}, "max_retries says nothing"),
        ({"when": "sad"}, "nan"),
    ],
)
def test_a_rule_that_makes_no_sense_is_refused(fields: dict[str, object], says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        HealthRule.model_validate(fields)


def test_a_group_takes_one_rule_for_many() -> None:
    assert GroupConfig.model_validate({"health": {"when": "nan"}}).health == (rule(when="nan"),)


def test_rejected_is_tried_again_only_where_it_is_named() -> None:
    assert cause_of(JobState.FAILED, 0) == "rejected"
    assert not RetryPolicy().wants("rejected", 1)
    assert "only where it is named" in (RetryPolicy().refuses("rejected", 1) or "")
    assert RetryPolicy(on=("rejected",)).wants("rejected", 1)
    assert not RetryPolicy(on=("rejected",)).wants(1, 1)
