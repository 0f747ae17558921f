"""What readers get to see: immutable snapshots of groups, jobs and events, and their stable JSON keys."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from metta_jobs.states import FAILURES, DependencyKind, JobState


@dataclass(frozen=True)
class ParentView:
    """One dependency of a job: the parent and what is waited for in it."""

    job_id: int
    group: str
    name: str
    state: JobState
    kind: DependencyKind


@dataclass(frozen=True)
class RemoteView:
    """What is known of a job that runs through SkyPilot: of its newest attempt, but `cost_usd` of all of them.

    `managed_id` and `managed_name` are SkyPilot's id and name of it, `status` and `detail` its own words, `recoveries`
    how often it found new machines after a preemption. `hourly_usd` is the price of all its machines (None where
    SkyPilot knows none, as on Slurm), and `cost_usd` that times the hours they have run.
    """

    managed_id: int | None
    managed_name: str | None
    status: str | None
    detail: str | None
    recoveries: int
    infra: str | None
    resources: str | None
    hourly_usd: float | None
    cost_usd: float | None


@dataclass(frozen=True)
class Progress:
    """The newest values a run has logged, None where it logged none.

    `steps` of `total` are done; `reward` and `sps` (steps per second) are the last ones; `updated_at` is when the
    last row was logged, in seconds since the epoch. `values` holds the last value of each other key that is followed.
    """

    steps: float | None = None
    total: float | None = None
    reward: float | None = None
    sps: float | None = None
    updated_at: float | None = None
    values: Mapping[str, float] = field(default_factory=dict, hash=False)

    def by_name(self) -> dict[str, float]:
        """All values by the names under which they were logged: reward and speed, too."""
        named = {"overview/reward": self.reward, "overview/sps": self.sps}
        return {**{name: value for name, value in named.items() if value is not None}, **self.values}

    def to_dict(self) -> dict[str, Any]:
        """The stable JSON form; what is NaN or infinite is a text there, as loggers write it."""
        return {
            "steps": json_number(self.steps),
            "total": json_number(self.total),
            "reward": json_number(self.reward),
            "sps": json_number(self.sps),
            "updated_at": self.updated_at,
            "metrics": {name: json_number(value) for name, value in self.values.items()},
        }


def json_number(value: float | None) -> float | str | None:
    """A number as JSON can hold it: "NaN", "Infinity" and "-Infinity" are texts."""
    if value is None or math.isfinite(value):
        return value
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"


@dataclass(frozen=True)
class JobView:
    """One job as the store holds it. Times are UTC; durations are seconds.

    `attempt` is the number of the newest attempt (0 before the first). `reason` says why the job is pending, or why
    it ended as it did. `duration_s` is the running time of the newest attempt, None before it runs. `folder` is that of
    the newest attempt (output.log and what the job leaves; gone when it left nothing), None before there is one.
    `priority` is its own plus its group's. `max_attempts` is what its retry policy allows. `kind` is "run" for a
    person's job and "notebook" for a group's follow-up. `tries` counts the attempts since a person last (re)tried it.
    `devices` are the GPUs that the newest attempt has or had, `device_share` how much of each. `config` is the
    configuration as it is stored. `variant` and `seed` say which cell of an experiment's matrix it is, None where there
    is no matrix. `progress` is what the daemon last read of the newest attempt's metrics, None where it read none.
    `health` is what the group's rules have found wrong with that attempt.
    """

    id: int
    group: str
    name: str
    state: JobState
    command: tuple[str, ...]
    attempt: int
    exit_code: int | None
    reason: str | None
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    duration_s: float | None
    kill_requested: bool
    executor: str
    kind: str
    gpus: float
    cpus: float
    memory_gb: float
    priority: int
    timeout_s: float | None
    queue_timeout_s: float | None
    grace_s: float
    max_attempts: int
    metrics: tuple[str, ...]
    parents: tuple[ParentView, ...]
    folder: Path | None
    tries: int = 0
    devices: tuple[str, ...] = ()
    device_share: float = 1
    config: Mapping[str, Any] = field(default_factory=dict, hash=False)
    remote: RemoteView | None = None
    progress: Progress | None = None
    health: tuple[str, ...] = ()
    variant: str | None = None
    seed: int | None = None

    @property
    def unsuccessful(self) -> bool:
        """True when it ended as nobody wished: not when it was there for a failure that did not happen."""
        unneeded = self.state is JobState.SKIPPED and any(
            parent.kind is DependencyKind.AFTERNOTOK and parent.state is JobState.SUCCEEDED for parent in self.parents
        )
        return self.state.terminal and self.state is not JobState.SUCCEEDED and not unneeded

    @property
    def elsewhere(self) -> bool:
        """True while it runs, or is started, on another machine."""
        return self.state.live and self.executor != "local"

    def to_dict(self) -> dict[str, Any]:
        """The stable JSON form."""
        return {
            "id": self.id,
            "group": self.group,
            "name": self.name,
            "state": self.state.value,
            "exit_code": self.exit_code,
            "attempt": self.attempt,
            "reason": self.reason,
            "command": list(self.command),
            "kind": self.kind,
            "variant": self.variant,
            "seed": self.seed,
            "executor": self.executor,
            "gpus": self.gpus,
            "cpus": self.cpus,
            "memory_gb": self.memory_gb,
            "priority": self.priority,
            "timeout_s": self.timeout_s,
            "queue_timeout_s": self.queue_timeout_s,
            "max_attempts": self.max_attempts,
            "grace_s": self.grace_s,
            "kill_requested": self.kill_requested,
            "depends_on": [
                {"id": p.job_id, "group": p.group, "name": p.name, "kind": p.kind.value, "state": p.state.value}
                for p in self.parents
            ],
            "created_at": _iso(self.created_at),
            "started_at": _iso(self.started_at),
            "finished_at": _iso(self.finished_at),
            "duration_s": self.duration_s,
            "folder": str(self.folder) if self.folder else None,
            "remote": vars(self.remote) if self.remote else None,
            "progress": self.progress.to_dict() if self.progress else None,
            "health": list(self.health),
        }

    def to_whole_dict(self) -> dict[str, Any]:
        """The stable JSON form of one job alone: with its configuration, and the GPUs of its newest attempt."""
        return self.to_dict() | {
            "config": dict(self.config),
            "gpu_devices": list(self.devices),
            "gpu_share": self.device_share,
        }


@dataclass(frozen=True)
class Counts:
    """How many jobs of a group are in each family of states."""

    total: int
    running: int
    launching: int
    pending: int
    completed: int
    failed: int
    killed: int
    skipped: int

    @classmethod
    def of(cls, states: Counter[JobState]) -> Counts:
        """Count from a tally of states: timed out and lost count as failed."""
        return cls(
            total=states.total(),
            running=states[JobState.RUNNING],
            launching=states[JobState.LAUNCHING],
            pending=states[JobState.PENDING],
            completed=states[JobState.SUCCEEDED],
            failed=sum(states[s] for s in FAILURES),
            killed=states[JobState.KILLED],
            skipped=states[JobState.SKIPPED],
        )

    @property
    def unfinished(self) -> int:
        """Jobs that have not ended."""
        return self.running + self.launching + self.pending


@dataclass(frozen=True)
class GroupSummary:
    """One line of `metta job list`."""

    name: str
    created_at: datetime
    counts: Counts
    paused: bool = False

    def to_dict(self) -> dict[str, Any]:
        """The stable JSON form."""
        return {"group": self.name, "created_at": _iso(self.created_at), "paused": self.paused, **vars(self.counts)}


@dataclass(frozen=True)
class GroupView:
    """One group with all its jobs, in the order of their ids, and how it shares the machine."""

    name: str
    created_at: datetime
    jobs: tuple[JobView, ...]
    priority: int = 0
    max_parallel: int | None = None
    max_failures: int | None = None
    paused_at: datetime | None = None
    on_end: tuple[Mapping[str, Any], ...] = field(default=(), hash=False)
    health: tuple[Mapping[str, Any], ...] = field(default=(), hash=False)

    @property
    def counts(self) -> Counts:
        """Jobs per family of states."""
        return Counts.of(Counter(job.state for job in self.jobs))

    @property
    def cost_usd(self) -> float | None:
        """What its jobs have cost elsewhere, all attempts, in US dollars; None where no price is known."""
        known = [job.remote.cost_usd for job in self.jobs if job.remote and job.remote.cost_usd is not None]
        return sum(known) if known else None

    @property
    def elsewhere(self) -> bool:
        """True while some of its jobs run, or are started, on other machines."""
        return any(job.elsewhere for job in self.jobs)

    @property
    def finished(self) -> bool:
        """True when no job of the group can change without a retry."""
        return all(job.state.terminal for job in self.jobs)

    def to_dict(self) -> dict[str, Any]:
        """The stable JSON form: {"group": ..., "jobs": [...]}."""
        return {
            "group": self.name,
            "created_at": _iso(self.created_at),
            "priority": self.priority,
            "max_parallel": self.max_parallel,
            "max_failures": self.max_failures,
            "paused_at": _iso(self.paused_at),
            "on_end": [dict(hook) for hook in self.on_end],
            "health": [dict(rule) for rule in self.health],
            "counts": vars(self.counts),
            "cost_usd": self.cost_usd,
            "jobs": [job.to_dict() for job in self.jobs],
        }


@dataclass(frozen=True)
class EventView:
    """One thing that happened to a job, or to a group as a whole (then `job_id` and `name` are None).

    `id` grows with time. `kind` is submitted, state, wish, edit, note, hook or
    health.
    """

    id: int
    at: datetime
    job_id: int | None
    group: str
    name: str | None
    attempt: int | None
    kind: str
    from_state: JobState | None
    to_state: JobState | None
    reason: str | None

    def to_dict(self) -> dict[str, Any]:
        """The stable JSON form."""
        return {
            "id": self.id,
            "at": _iso(self.at),
            "job_id": self.job_id,
            "group": self.group,
            "name": self.name,
            "attempt": self.attempt,
            "kind": self.kind,
            "from": self.from_state.value if self.from_state else None,
            "to": self.to_state.value if self.to_state else None,
            "reason": self.reason,
        }


@dataclass(frozen=True)
class Silence:
    """Who runs jobs elsewhere and has not answered since then: what is known of those jobs is old. `why` is the last
    error."""

    who: str
    since: datetime
    why: str


def hook_words(hook: Mapping[str, Any]) -> str:
    """Whom a stored hook tells: "the command notify.sh", "the webhook TEAM_SLACK", "a desktop notification"."""
    if hook.get("command"):
        return f"the command {hook['command'][0]}"
    return f"the webhook {hook['webhook']}" if hook.get("webhook") else "a desktop notification"


def hooks_words(hooks: Sequence[Mapping[str, Any]]) -> str:
    """All that are told of an end, and of which: "the webhook TEAM_SLACK (on failure), a desktop notification"."""
    told = [hook_words(hook) + ("" if hook.get("on", "any") == "any" else f" (on {hook['on']})") for hook in hooks]
    return ", ".join(told) or "nobody"


def criterion_words(criterion: Mapping[str, Any]) -> str:
    """A stored acceptance criterion: "overview/reward >= 5", "loss in (0, 1)"."""
    threshold = criterion["threshold"]
    said = f"({threshold[0]:g}, {threshold[1]:g})" if isinstance(threshold, list) else f"{threshold:g}"
    return f"{criterion['metric']} {criterion['operator']} {said}"


def rule_words(rule: Mapping[str, Any]) -> str:
    """A stored health rule in short: "nan overview/reward → kill", "stalled 10 min → retry"."""
    parts = [rule["when"], rule.get("metric")]
    parts += [f"{rule[name]:g}" for name in ("threshold", "share") if rule.get(name) is not None]
    parts += [f"after step {rule['after_step']:,.0f}"] if rule.get("after_step") else []
    parts += [f"for {rule['minutes']:g} min"] if rule.get("minutes") else []
    return f"{' '.join(filter(None, parts))} → {rule.get('action', 'mark')}"


def _iso(moment: datetime | None) -> str | None:
    return moment.isoformat() if moment else None
