"""What is asked of a run's metrics: criteria that decide its success, rules about its health. Pure."""

from __future__ import annotations

import math
import operator as operators
import re
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from metta_jobs.model import Model

Operator = Literal[">=", ">", "<=", "<", "==", "in"]
_COMPARE = {">=": operators.ge, ">": operators.gt, "<=": operators.le, "<": operators.lt, "==": operators.eq}
_TEXT = re.compile(r"\s*(\S.*?)\s+(>=|>|<=|<|==|in)\s+(\S.*?)\s*")
#: Of fewer speeds a median says nothing about the one that is held against it.
FEWEST_SPEEDS = 3


class AcceptanceCriterion(Model):
    """What the last value of a metric must be for a job to have succeeded: `metric` `operator` `threshold`.

    With "in", `threshold` is the range (low, high), both ends included. A metric that was never logged, or is NaN,
    meets nothing. As text: "overview/reward >= 5", "overview/sps in (1000, 2000)".
    """

    metric: str = Field(min_length=1)
    operator: Operator = ">="
    threshold: float | tuple[float, float]

    @model_validator(mode="after")
    def _threshold(self) -> AcceptanceCriterion:
        if isinstance(self.threshold, tuple) != (self.operator == "in"):
            raise ValueError(
                'a range (low, high) belongs to the operator "in", and a number to each of the others: '
                f"{self.operator!r} cannot be held against {self.threshold}"
            )
        if isinstance(self.threshold, tuple) and self.threshold[0] > self.threshold[1]:
            raise ValueError(f"the range {self.threshold} is empty: its lower end comes first")
        return self

    @classmethod
    def parse(cls, text: str) -> AcceptanceCriterion:
        """Read "METRIC OPERATOR NUMBER" or "METRIC in (LOW, HIGH)"; raise ValueError when it is neither."""
        if (found := _TEXT.fullmatch(text)) is None:
            raise ValueError(f'{text!r} is no criterion; one reads "overview/reward >= 5" or "loss in (0, 1)"')
        metric, operator, said = found.groups()
        parts = said.strip("()[] ").split(",") if operator == "in" else [said]
        try:
            numbers = tuple(float(part) for part in parts)
        except ValueError:
            raise ValueError(f"{said!r} in the criterion {text!r} is no number") from None
        threshold = numbers if operator == "in" else numbers[0]
        return cls.model_validate({"metric": metric, "operator": operator, "threshold": threshold})

    def met(self, value: float | None) -> bool:
        """True when the metric's last value (None: never logged) is as it must be."""
        if value is None or math.isnan(value):
            return False
        if isinstance(self.threshold, tuple):
            return self.threshold[0] <= value <= self.threshold[1]
        return bool(_COMPARE[self.operator](value, self.threshold))

    def words(self, value: float | None) -> str:
        """How the value stands to it: "overview/reward 3.2 is not >= 5", "overview/reward 7 >= 5"."""
        if value is None:
            return f"{self.metric} was never logged, and must be {self}"
        return f"{self.metric} {number(value)} {'' if self.met(value) else 'is not '}{self}"

    def __str__(self) -> str:
        if isinstance(self.threshold, tuple):
            return f"in ({', '.join(map(number, self.threshold))})"
        return f"{self.operator} {number(self.threshold)}"


def _as_criterion(value: Any) -> Any:
    return AcceptanceCriterion.parse(value) if isinstance(value, str) else value


def _as_criteria(value: Any) -> Any:
    return (value,) if isinstance(value, str | Mapping | AcceptanceCriterion) else value


#: One criterion stands for a tuple of one, and text for a criterion.
Criteria = Annotated[
    tuple[Annotated[AcceptanceCriterion, BeforeValidator(_as_criterion)], ...], BeforeValidator(_as_criteria)
]


def judge(criteria: Sequence[AcceptanceCriterion], values: Mapping[str, float]) -> tuple[bool, str]:
    """Whether these last values meet all criteria; and why, in numbers: those not met, or all of them."""
    missed = [criterion for criterion in criteria if not criterion.met(values.get(criterion.metric))]
    said = ", ".join(criterion.words(values.get(criterion.metric)) for criterion in missed or criteria)
    return not missed, said if missed else f"accepted: {said}"


@dataclass(frozen=True)
class Vitals:
    """What a health rule is held against: a run's newest values, for how long (seconds) it has made no new step, and
    the speeds (steps per second) of all runs of its group that have one, its own among them."""

    steps: float | None = None
    sps: float | None = None
    values: Mapping[str, float] = field(default_factory=dict)
    still_s: float = 0
    group_sps: Sequence[float] = ()


class HealthRule(Model):
    """What must not happen to a running job of a group, and what is done then, once for each attempt.

    `when`: "nan" (`metric`, or any that is followed, is NaN or infinite), "stalled" (no new step for `minutes`), "slow"
    (steps per second below `share` of the group's median, of three runs or more), "below" or "above" (`metric` is on
    that side of `threshold`). All but "stalled" look from `after_step` on, and may have to hold for `minutes`.

    `action`: "mark" (an event, shown with the job), "notify" (the group's on_end hooks, too), "kill", or "retry": the
    job is ended and gets another attempt, whose METTA_CHECKPOINT names the newest checkpoint from before; after
    `max_retries` of them since a person last (re)tried it, it is killed.
    """

    when: Literal["nan", "stalled", "slow", "below", "above"]
    metric: str | None = Field(default=None, min_length=1)
    threshold: float | None = None
    share: float | None = Field(default=None, gt=0, lt=1)
    minutes: float = Field(default=0, ge=0)
    after_step: float = Field(default=0, ge=0)
    action: Literal["mark", "notify", "kill", "retry"] = "mark"
    max_retries: int = Field(default=1, ge=1, le=1000)

    @model_validator(mode="after")
    def _fields(self) -> HealthRule:
        needed, allowed = _FIELDS[self.when]
        given = {name for name in ("metric", "threshold", "share", "minutes", "after_step") if getattr(self, name)}
        given |= {"threshold"} if self.threshold is not None else set()
        for name in needed:
            if name not in given:
                raise ValueError(f"a rule {self.when!r} needs {name}")
        for name in sorted(given - {*needed, *allowed}):
            raise ValueError(f"{name} says nothing in a rule {self.when!r}")
        if self.max_retries != 1 and self.action != "retry":
            raise ValueError(f"max_retries says nothing when the action is {self.action!r}")
        return self

    @property
    def hold_s(self) -> float:
        """For how long what is wrong must hold before anything is done (seconds)."""
        return 0 if self.when == "stalled" else 60 * self.minutes

    def problem(self, seen: Vitals) -> str | None:
        """What is wrong by this rule, in numbers; None while nothing is."""
        if self.when == "stalled":
            if seen.still_s < 60 * self.minutes:
                return None
            still = f"for {seen.still_s / 60:.4g} min" if seen.still_s >= 60 else f"for {seen.still_s:.0f} s"
            return f"no step at all {still}" if seen.steps is None else f"no new step {still}{_at(seen)}"
        if (seen.steps or 0) < self.after_step:
            return None
        if self.when == "slow":
            return self._slow(seen)
        values = seen.values if self.metric is None else {self.metric: seen.values.get(self.metric)}
        for name, value in sorted(values.items()):
            if value is None:
                continue
            if self.when == "nan":
                if not math.isfinite(value):
                    return f"{name} was {'NaN' if math.isnan(value) else 'infinite'}{_at(seen)}"
            elif self.threshold is not None and (
                value < self.threshold if self.when == "below" else value > self.threshold
            ):
                return f"{name} was {number(value)}{_at(seen)}, {self.when} {number(self.threshold)}"
        return None

    def _slow(self, seen: Vitals) -> str | None:
        speeds = [speed for speed in seen.group_sps if math.isfinite(speed)]
        if self.share is None or seen.sps is None or len(speeds) < FEWEST_SPEEDS:
            return None
        median = statistics.median(speeds)
        if not seen.sps < self.share * median:
            return None
        rest = f"below {number(self.share)} of the median {median:,.6g} of {len(speeds)} runs"
        return f"SPS was {seen.sps:,.6g}{_at(seen)}, {rest}"


#: What each kind of rule needs, and may have beside it.
_FIELDS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "nan": ((), ("metric", "after_step", "minutes")),
    "stalled": (("minutes",), ()),
    "slow": (("share",), ("after_step", "minutes")),
    "below": (("metric", "threshold"), ("after_step", "minutes")),
    "above": (("metric", "threshold"), ("after_step", "minutes")),
}


def _as_rules(value: Any) -> Any:
    return (value,) if isinstance(value, Mapping | HealthRule) else value


#: One rule stands for a tuple of one.
HealthRules = Annotated[tuple[HealthRule, ...], BeforeValidator(_as_rules)]


def number(value: float) -> str:
    """A number as it is told in a reason: short, and never rounded to what it is held against."""
    return f"{value:.12g}"


def _at(seen: Vitals) -> str:
    return "" if seen.steps is None else f" at step {seen.steps:,.0f}"
