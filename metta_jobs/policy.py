"""What a person wishes beside the command itself: when to try again, whom to tell, how a group shares the machine."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, field_validator, model_validator

from metta_jobs.criteria import HealthRules
from metta_jobs.environment import secret_argument
from metta_jobs.model import Model as Model
from metta_jobs.states import LONGEST_PAUSE_S, JobState

Cause = Literal["timeout", "lost", "no_capacity", "preempted", "setup", "rejected"]
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def cause_of(state: JobState, exit_code: int | None) -> int | str | None:
    """What a retry policy calls this end; None for those that are never tried again."""
    if state is JobState.FAILED:
        if exit_code == 0:
            return "rejected"  # only its acceptance criteria make that a failure
        return exit_code if exit_code is not None else "lost"
    return {JobState.TIMED_OUT: "timeout", JobState.LOST: "lost"}.get(state)


class RetryPolicy(Model):
    """When a job that ended without success is tried again by itself.

    `max_attempts` counts the first one, too; a retry by hand begins to count anew. The pause before attempt n + 1 is
    `backoff_s` * `factor`^(n - 1) seconds, at most a day. `on` names what is worth another attempt: exit codes,
    "timeout", "lost", and of jobs elsewhere "no_capacity", "preempted", "setup" (their setup failed); empty means all
    of these. "rejected" (its acceptance criteria are not met) must be named: the same training again mostly ends the
    same. `never_on` takes out of that. What a person killed is never tried again.
    """

    max_attempts: int = Field(default=3, ge=1, le=1000)
    backoff_s: float = Field(default=10, ge=0)
    factor: float = Field(default=2, ge=1)
    on: tuple[int | Cause, ...] = ()
    never_on: tuple[int | Cause, ...] = ()

    def wants(self, cause: int | str, attempts: int) -> bool:
        """True when a job that has had `attempts` attempts, the last ended by `cause`, gets another one."""
        return self.refuses(cause, attempts) is None

    def refuses(self, cause: int | str, attempts: int) -> str | None:
        """Why a job that has had `attempts` attempts, the last ended by `cause`, gets no other; None when it does."""
        what = f"exit code {cause}" if isinstance(cause, int) else f"{cause!r}"
        if attempts >= self.max_attempts:
            return f"it has had {attempts} of at most {self.max_attempts} attempts"
        if cause in self.never_on:
            return f"{what} is among never_on"
        if cause == "rejected" and not self.on:
            return f"{what} is tried again only where it is named (on)"
        if self.on and cause not in self.on:
            return f"{what} is not among on ({', '.join(map(str, self.on))})"
        return None

    def pause_s(self, attempts: int) -> float:
        """Seconds before the next attempt of a job that has had `attempts`."""
        try:
            return min(float(self.backoff_s * self.factor ** (attempts - 1)), LONGEST_PAUSE_S)
        except OverflowError:
            return LONGEST_PAUSE_S if self.backoff_s else 0.0


class Hook(Model):
    """Whom to tell when a job or a group has ended: exactly one of `command`, `webhook`, `desktop`.

    `command` is an argv list, run with the facts in its environment: METTA_EVENT, METTA_TEXT, METTA_GROUP, METTA_STATE;
    of a job METTA_JOB_NAME, METTA_JOB_ID, METTA_JOB_DIR, METTA_ATTEMPT, METTA_EXIT_CODE, METTA_REASON, of a group
    METTA_COUNTS (JSON). `webhook` names where to post Slack-compatible JSON: an entry of [webhooks] in the settings
    file, or an environment variable of the submitter; an address itself is refused, because it is a secret and
    configurations are stored. `desktop` shows a notification. `on` says which ends are told: "any", "failure" or
    "success".
    """

    command: tuple[str, ...] | None = None
    webhook: str | None = None
    desktop: bool = False
    on: Literal["any", "failure", "success"] = "any"

    @field_validator("command")
    @classmethod
    def _command(cls, command: tuple[str, ...] | None) -> tuple[str, ...] | None:
        if command is not None:
            if not command or not command[0].strip():
                raise ValueError("the command of a hook is empty")
            if any("\0" in part for part in command):
                raise ValueError("a command cannot hold a NUL character")
            if found := secret_argument(command):
                raise ValueError(f"{found} looks like a secret, and hooks are stored: read it from the environment")
        return command

    @field_validator("webhook")
    @classmethod
    def _webhook(cls, webhook: str | None) -> str | None:
        if webhook is not None and not _NAME.fullmatch(webhook):
            raise ValueError(
                "a webhook is given by name, because its address is a secret and hooks are stored: put the address "
                "into an environment variable or into [webhooks] of ~/.config/metta-jobs/config.toml, and give its name"
            )
        return webhook

    @model_validator(mode="after")
    def _one(self) -> Hook:
        if sum((self.command is not None, self.webhook is not None, self.desktop)) != 1:
            raise ValueError("a hook is exactly one of command, webhook and desktop")
        return self


def as_tuple(value: Any) -> Any:
    """Let one hook stand for a tuple of one."""
    return (value,) if isinstance(value, dict | Hook) else value


Hooks = Annotated[tuple[Hook, ...], BeforeValidator(as_tuple)]


class GroupConfig(Model):
    """How a group shares the machine. A field that is None at submit leaves the group's earlier setting as it is.

    `priority` is added to that of each of its jobs; higher starts first. `max_parallel` limits its running jobs.
    `max_failures`: after so many failed, timed out or lost jobs the rest is stopped. `on_end` tells once when no job
    of the group is left to run. `health` are rules that its running jobs are held against.
    """

    priority: int | None = Field(default=None, ge=-1_000_000, le=1_000_000)
    max_parallel: int | None = Field(default=None, ge=1)
    max_failures: int | None = Field(default=None, ge=1)
    on_end: Hooks | None = None
    health: HealthRules | None = None
