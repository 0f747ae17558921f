from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from metta_jobs.errors import InvalidInput, UnknownName
from metta_jobs.job import JobConfig
from metta_jobs.policy import GroupConfig, Hook, Model, RetryPolicy
from metta_jobs.recipe.build import override
from metta_jobs.remote import RemoteConfig
from metta_jobs.states import LONGEST_PAUSE_S

JOB = JobConfig(name="a", command=("x",))
DESKTOP = Hook(desktop=True)


# --------------------------------------------------------------------------------------------------- retries


@pytest.mark.parametrize(
    ("policy", "wanted", "unwanted"),
    [
        (RetryPolicy(), [1, 137, "timeout", "lost", "no_capacity", "preempted"], []),
        (RetryPolicy(on=(137,)), [137], [1, 0, "lost"]),
        (RetryPolicy(on=("lost",)), ["lost"], ["timeout", "no_capacity", "preempted", 137]),
        (RetryPolicy(on=("timeout", "preempted", 2)), ["timeout", "preempted", 2], ["lost", 1]),
        (RetryPolicy(never_on=(2, "timeout")), [1, "lost"], [2, "timeout"]),
        (RetryPolicy(on=(1, 2), never_on=(2,)), [1], [2, 3]),  # never_on wins
        (RetryPolicy(on=("lost",), never_on=("lost",)), [], ["lost", 1]),
        (RetryPolicy(max_attempts=1), [], [1, "lost"]),
    ],
)
def test_which_ends_are_worth_another_attempt(
    policy: RetryPolicy, wanted: list[int | str], unwanted: list[int | str]
) -> None:
    assert [cause for cause in [*wanted, *unwanted] if policy.wants(cause, 1)] == wanted


@pytest.mark.parametrize(("most", "granted"), [(1, 0), (2, 1), (3, 2), (1000, 999)])
def test_there_are_so_many_attempts_and_no_more(most: int, granted: int) -> None:
    policy = RetryPolicy(max_attempts=most)
    assert sum(policy.wants(1, had) for had in range(1, 1100)) == granted


@pytest.mark.parametrize(
    ("policy", "pauses"),
    [
        (RetryPolicy(), [10, 20, 40, 80]),
        (RetryPolicy(backoff_s=60, factor=1), [60, 60, 60]),
        (RetryPolicy(backoff_s=0.5, factor=3), [0.5, 1.5, 4.5]),
        (RetryPolicy(backoff_s=0), [0, 0, 0]),
        (RetryPolicy(backoff_s=50_000), [50_000, LONGEST_PAUSE_S, LONGEST_PAUSE_S]),
        (RetryPolicy(backoff_s=1e300, factor=1e300), [LONGEST_PAUSE_S] * 3),
        (RetryPolicy(backoff_s=0, factor=1e300), [0, 0, 0]),
    ],
)
def test_pauses_grow_by_the_factor_up_to_a_day(policy: RetryPolicy, pauses: list[float]) -> None:
    assert [policy.pause_s(had) for had in range(1, len(pauses) + 1)] == pauses


@pytest.mark.parametrize(("backoff_s", "pause"), [(0, 0), (1, LONGEST_PAUSE_S)])
def test_the_last_of_a_thousand_attempts_has_a_pause_too(backoff_s: float, pause: float) -> None:
    assert RetryPolicy(backoff_s=backoff_s, factor=9, max_attempts=1000).pause_s(999) == pause


# --------------------------------------------------------------------------------------------------- what is refused


@pytest.mark.parametrize(
    ("model", "argument", "says"),
    [
        (
            JOB,
            "retry.max_attempts=0",
            "retry.max_attempts=0: it must be a whole number from 1 to 1000.",
        ),
        (JOB, "retry.max_attempts=1001", "a whole number from 1 to 1000."),
        (JOB, "retry.backoff_s=-1", "retry.backoff_s=-1: it must be a number of seconds, at least 0."),
        (JOB, "retry.backoff_s=nan", "retry.backoff_s=nan: "),
        (JOB, "retry.factor=0.5", "it must be a number, at least 1."),
        (JOB, "retry.factor=two", "retry.factor=two: it must be a number, at least 1."),
        (
            JOB,
            'retry.on=["tiemout"]',
            "retry.on[0]='tiemout': it must be a whole number, 'timeout', 'lost', 'no_capacity', 'preempted', 'setup' "
            "or 'rejected'. Did you mean 'timeout'?",
        ),
        (JOB, "retry.on=lost", "retry.on=lost: it must be a list ([…]), each part of it a whole number, 'timeout'"),
        (JOB, "retry.on=[1.5]", "retry.on[0]=1.5: it must be a whole number, 'timeout', "),
        (JOB, "retry=3", "retry=3: it must be a dictionary ({…}) with any of backoff_s, factor, max_attempts, "),
        (
            JOB,
            'retry={"attempts": 3}',
            "There is no field 'retry.attempts' in RetryPolicy. Did you mean 'max_attempts'?",
        ),
        (JOB, "retry.on.x=1", "retry.on has no fields: it must be a list ([…])"),
        (JOB, "command=echo hi", 'command=echo hi: it must be a list like ["a", "b"].'),
        (JOB, "command=[]", "command=[]: it must not be empty."),
        (JOB, "env=A", 'env=A: it must be a dictionary like {"NAME": "value"}.'),
        (JOB, "timeout_s=10m", "timeout_s=10m: it must be a number of seconds, greater than 0, or null."),
        (JOB, "memory_gb=64GB", "memory_gb=64GB: it must be a number of GB, at least 0."),
        (JOB, "depends_on=a", "depends_on=a: it must be a list ([…]), each part of it a job or a group (NAME, "),
        (JOB, 'depends_on=[{"job": "a", "kind": "afterokk"}]', "or 'afternotok'. Did you mean 'afterok'?"),
        (JOB, "remote.gpus=x", "remote.gpus=x: it must be a whole number, at least 0."),
        (JOB, "remote.infra=slrum", "remote.infra: SkyPilot knows no infra 'slrum'. Did you mean 'slurm'?"),
        (JOB, 'on_end={"webhok": "A"}', "There is no field 'on_end[0].webhok' in Hook. Did you mean 'webhook'?"),
        (JOB, 'on_end={"desktop":true,"webhook":"TEAM"}', "exactly one of command, webhook and desktop."),
        (JOB, "on_end={}", "a hook is exactly one of command, webhook and desktop"),
        (GroupConfig(), "max_parallel=0", "max_parallel=0: it must be a whole number, at least 1, or null."),
        (GroupConfig(), "max_failures=0", "max_failures=0: it must be a whole number, at least 1, or null."),
        (GroupConfig(), "priority=1000001", "a whole number from -1000000 to 1000000, or null."),
        (GroupConfig(), "priority=1.5", "priority=1.5: it must be a whole number from -1000000 to 1000000"),
        (GroupConfig(), 'on_end={"desktop":true,"on":"never"}', "'any', 'failure' or 'success'"),
    ],
)
def test_what_cannot_be_is_refused_in_a_sentence(model: Model, argument: str, says: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        override(model, [argument])
    assert says in str(refused.value)
    assert str(refused.value).endswith((".", "?"))
    assert "\n" not in str(refused.value)


def test_what_may_be_a_secret_is_not_repeated() -> None:
    for argument in ('env={"MY_TOKEN": "abcdefgh"}', 'setup="x" ghp_abcdefghijklmnop0123'):
        with pytest.raises(InvalidInput) as refused:
            override(JOB if argument.startswith("env") else RemoteConfig(), [argument])
        assert "looks like a secret" in str(refused.value)
        assert "abcdefgh" not in str(refused.value)


@pytest.mark.parametrize(
    ("model", "argument", "says"),
    [
        (JOB, "retry.backof_s=1", "Did you mean 'backoff_s'"),
        (GroupConfig(), "paralel=1", "Did you mean 'max_parallel'"),
        (GroupConfig(), "depends_on=1", "It has: health, max_failures, max_parallel, on_end, priority."),
    ],
)
def test_a_field_that_does_not_exist_gets_the_nearest(model: Model, argument: str, says: str) -> None:
    with pytest.raises(UnknownName) as refused:
        override(model, [argument])
    assert says in str(refused.value)


@pytest.mark.parametrize("number", ["inf", "Infinity", "1e999"])
@pytest.mark.parametrize(
    "field",
    [
        *("retry.factor", "retry.backoff_s", "grace_s", "timeout_s", "queue_timeout_s", "max_log_mb"),
        *("gpus", "cpus", "memory_gb"),
    ],
)
def test_an_infinite_number_is_refused_because_it_could_not_be_read_back(field: str, number: str) -> None:
    with pytest.raises(InvalidInput, match=f"^{field}=inf: it must be a finite number.*[.]$"):
        override(JOB, [f"{field}={number}"])


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({}, "exactly one"),
        ({"command": ("x",), "desktop": True}, "exactly one"),
        ({"command": ()}, "is empty"),
        ({"command": (" ", "x")}, "is empty"),
        ({"command": ("echo", "a\0b")}, "NUL"),
        ({"command": ("curl", "--token=hf_abcdefghijklmnopqrstuvwxyz012345")}, "looks like a secret"),
        ({"webhook": "https://hooks.example/T0/x"}, "given by name"),
        ({"webhook": ""}, "given by name"),
        ({"webhook": "TEAM\n"}, "given by name"),
        ({"webhook": "1TEAM"}, "given by name"),
        ({"desktop": True, "on": "sometimes"}, "'any', 'failure' or 'success'"),
        ({"desktop": True, "sound": True}, "Extra inputs"),
    ],
)
def test_a_hook_tells_one_whom_and_no_secret(fields: dict[str, Any], says: str) -> None:
    with pytest.raises(ValidationError, match=says) as refused:
        Hook(**fields)
    assert len(refused.value.errors()) == 1


# --------------------------------------------------------------------------------------------------- as it is stored


@pytest.mark.parametrize(
    ("text", "hooks"),
    [
        ('{"desktop": true}', (DESKTOP,)),
        ('[{"desktop": true}]', (DESKTOP,)),
        ("[]", ()),
        (
            '[{"command": ["say", "done"], "on": "failure"}, {"webhook": "TEAM", "on": "success"}]',
            (Hook(command=("say", "done"), on="failure"), Hook(webhook="TEAM", on="success")),
        ),
    ],
)
def test_one_hook_stands_for_a_tuple_of_one(text: str, hooks: tuple[Hook, ...]) -> None:
    assert override(GroupConfig(), [f"on_end={text}"]).on_end == hooks
    assert override(JOB, [f"on_end={text}"]).on_end == hooks


def test_a_hook_may_be_given_alone_in_python_too() -> None:
    assert GroupConfig.model_validate({"on_end": DESKTOP}).on_end == (DESKTOP,)
    assert GroupConfig.model_validate({"on_end": None}).on_end is None


def test_a_policy_begins_with_its_defaults_where_a_part_of_it_is_given() -> None:
    assert override(JOB, ["retry.max_attempts=5"]).retry == RetryPolicy(max_attempts=5)
    assert override(JOB, ['retry.on=["lost", 137, "2"]']).retry == RetryPolicy(on=("lost", 137, 2))


@pytest.mark.parametrize(
    "model",
    [
        RetryPolicy(),
        RetryPolicy(max_attempts=7, backoff_s=0.1, factor=1.5, on=(1, "lost", 137), never_on=("timeout", 2)),
        DESKTOP,
        Hook(command=("sh", "-c", 'echo "ä\n🙂"'), on="success"),
        Hook(webhook="TEAM_ROOM", on="failure"),
        GroupConfig(),
        GroupConfig(priority=-3, max_parallel=1, max_failures=2, on_end=(DESKTOP, Hook(webhook="A"))),
        GroupConfig(on_end=()),
        JobConfig(name="a", command=("x",), cwd=Path("/tmp"), retry=RetryPolicy(on=(1,)), on_end=(DESKTOP,)),
    ],
)
def test_what_is_stored_as_json_comes_back_the_same(model: Model) -> None:
    assert type(model).model_validate_json(model.model_dump_json()) == model
    assert type(model).model_validate(model.model_dump(mode="json")) == model


@pytest.mark.parametrize(
    ("model", "field"), [(RetryPolicy(), "factor"), (DESKTOP, "desktop"), (GroupConfig(), "priority")]
)
def test_nothing_of_it_can_be_changed_afterwards(model: Model, field: str) -> None:
    with pytest.raises(ValidationError, match="frozen"):
        setattr(model, field, 2)
