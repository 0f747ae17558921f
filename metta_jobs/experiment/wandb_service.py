"""get_wandb_service(): the runs of this queue and of W&B, for notebooks and programs."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

from metta_jobs.environment import wandb_run_id
from metta_jobs.errors import InvalidInput, UnknownName, nearest
from metta_jobs.manager import JobManager
from metta_jobs.metrics import MetricsSource, Progress, Series, discover, read_series
from metta_jobs.metrics.names import REWARD_KEYS, SPS_KEYS
from metta_jobs.metrics.online.client import WandbClient, WandbError
from metta_jobs.metrics.online.runs import STATES, OnlineRun, list_runs
from metta_jobs.metrics.progress import ProgressReader
from metta_jobs.paths import StateDir
from metta_jobs.views import JobView

REWARD, SPS = REWARD_KEYS[0], SPS_KEYS[0]
#: What runs may be ordered by; a "-" before it puts the last first.
ORDERS = ("created_at", "name", "state")


@dataclass(frozen=True)
class RunRecord:
    """One run: a job of this queue ("local"), or a run that only W&B knows ("wandb").

    `state` is a job's state, or W&B's in our words: "succeeded" for finished, "lost" for crashed, "preempted" as it is.
    `run_id` is the id of its W&B run. `stale` says why what W&B told is old, None when it is not. Times are UTC.
    """

    name: str
    group: str | None
    state: str
    source: Literal["local", "wandb"]
    run_id: str
    author: str | None
    tags: tuple[str, ...]
    created_at: datetime | None
    job_id: int | None = None
    folder: Path | None = None
    url: str | None = None
    stale: str | None = None
    online: OnlineRun | None = field(default=None, repr=False, compare=False)


Run = RunRecord | int | str
"""A record, a job's id, "group/job", or the id of a W&B run, of this project or as "entity/project/id"."""


class WandbService:
    """Finds runs and reads their metrics: jobs of this queue first, from what they left on disk, then W&B.

    `project` and `entity` name the project on W&B (default: WANDB_PROJECT and WANDB_ENTITY); without a project, or
    without a login, only this queue is looked at. Use it in a `with` block, or `close` it. Belongs to one thread.
    """

    def __init__(
        self,
        project: str | None = None,
        entity: str | None = None,
        *,
        state_dir: Path | str | None = None,
        client: WandbClient | None = None,
    ) -> None:
        self._manager = JobManager(state_dir)
        self.client = client or WandbClient(self._manager.state_dir)
        self.project = project or os.environ.get("WANDB_PROJECT")
        self.entity = entity or os.environ.get("WANDB_ENTITY")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the process that asks W&B, if there is one."""
        self.client.close()
        self._manager.close()

    @property
    def online(self) -> bool:
        """True when W&B can be asked: there is a login, and a project is named."""
        return self.client.configured and self.project is not None

    def find_training_jobs(
        self,
        author: str | None = None,
        tags: Sequence[str] = (),
        state: str | None = None,
        group: str | None = None,
        created_after: datetime | str | None = None,
        created_before: datetime | str | None = None,
        order: str = "-created_at",
        limit: int = 50,
    ) -> list[RunRecord]:
        """Return the runs that meet every condition, of this queue and of W&B, at most `limit`.

        `tags`: one of them is enough. `state`: "running", "succeeded", "failed", … Times are datetimes or ISO texts,
        UTC where they name no zone. `order`: "created_at", "name" or "state", with "-" for the last first. A group that
        is not there yet has no runs. Raises InvalidInput; where W&B cannot be asked and has said nothing before,
        WandbError.
        """
        field_name = order.lstrip("+-")
        if field_name not in ORDERS:
            raise InvalidInput(f"Runs can be ordered by {', '.join(ORDERS)}, not by {field_name!r}.")
        if limit < 1:
            raise InvalidInput(f"limit={limit}: at least one run must be asked for.")
        states = {*STATES.values(), "timed_out", "skipped", "launching"}
        if state is not None and state not in states:
            raise InvalidInput(f"There is no state {state!r}: {', '.join(sorted(states))}.{nearest(state, states)}")
        after, before = _moment(created_after), _moment(created_before)

        def wanted(run: RunRecord) -> bool:
            at = run.created_at
            return (
                (author is None or run.author == author)
                and (not tags or bool(set(tags) & set(run.tags)))
                and (state is None or run.state == state)
                and (group is None or run.group == group)
                and (after is None or (at is not None and at >= after))
                and (before is None or (at is not None and at <= before))
            )

        local = self._local(group)
        known = {run.run_id for run in local}
        found = [run for run in local if wanted(run)]
        if self.online:
            filters = _filters(author, tags, state, group, after, before)
            there = self._listed(filters, "-created_at" if field_name != "created_at" else order, limit)
            found += [run for run in there if run.run_id not in known and wanted(run)]
        found.sort(key=lambda run: _sortable(run, field_name), reverse=order.startswith("-"))
        return found[:limit]

    def get_run(self, run: Run) -> RunRecord:
        """Return one run. Raises UnknownName when neither this queue nor W&B has it."""
        if isinstance(run, RunRecord):
            return run
        if isinstance(run, int) or run.isdigit():
            return self._record(self._manager.job(int(run)))
        parts = run.split("/")
        local = self._local(parts[0] if len(parts) == 2 else None)
        for record in local:
            if run in (record.run_id, f"{record.group}/{record.name}") or parts[-1] == record.run_id:
                return record
        named = len(parts) == 3 or self.project is not None
        if self.client.configured and named:
            entity, project = (parts[0], parts[1]) if len(parts) == 3 else (self.entity, self.project)
            found = list_runs(self.client, str(project), entity, filters={"name": parts[-1]}, limit=1)
            if found:
                return _of_online(found[0])
        known = [f"{record.group}/{record.name}" for record in local]
        hint = nearest(run, [*known, *(r.run_id for r in local)])
        if not self.client.configured:
            hint += " W&B was not asked, for there is no login: `wandb login`."
        elif not named:
            hint += " W&B was not asked, for no project is named: get_wandb_service(project=…)."
        raise UnknownName(f"There is no run {run!r}.{hint}")

    def get_run_metrics(
        self, run: Run, keys: Sequence[str] = (REWARD, SPS), samples: int | None = 1000
    ) -> dict[str, Series]:
        """Return one series per key, empty when it was never logged, of at most `samples` points (None: all)."""
        record = self.get_run(run)
        if record.folder is not None and discover(record.folder):
            return read_series(record.folder, keys, samples)
        source = self._online(record)
        return source.history(keys, samples) if source else {key: Series([], []) for key in keys}

    def get_run_config(self, run: Run) -> dict[str, Any]:
        """Return the configuration that the run has logged, {} as long as it has logged none."""
        source = self._source(self.get_run(run))
        return dict(source.config) if source else {}

    def get_run_summary(self, run: Run) -> dict[str, Any]:
        """Return the last value of every metric, and what the run has put into its summary."""
        source = self._source(self.get_run(run))
        return dict(source.summary) if source else {}

    def get_run_progress(self, run: Run) -> Progress:
        """Return the newest values of a run."""
        record = self.get_run(run)
        if record.folder is not None and discover(record.folder, earlier=False):
            return ProgressReader(record.folder).poll()
        source = self._online(record)
        return source.progress if source else Progress()

    def get_run_statuses(self, runs: Sequence[Run]) -> dict[str, str]:
        """Return the states of these runs, by what they were asked for (a record by its name).

        Those of one group on W&B are asked for together. Raises UnknownName.
        """
        return {run.name if isinstance(run, RunRecord) else str(run): self._now(run).state for run in runs}

    def _now(self, run: Run) -> RunRecord:
        """The run as it is now, also when a record of it is given that may be old."""
        if not isinstance(run, RunRecord):
            return self.get_run(run)
        if run.job_id is not None:
            return self._record(self._manager.job(run.job_id))
        filters = {"group": run.group} if run.group else {"name": run.run_id}
        told = run.online.told if run.online else {}
        there = list_runs(self.client, told.get("project") or str(self.project), told.get("entity"), filters=filters)
        return next((_of_online(one) for one in there if one.run_id == run.run_id), run)

    def _source(self, record: RunRecord) -> MetricsSource | None:
        """The best source of a run: what it left on disk, else W&B; None where there is neither (yet)."""
        if record.folder is not None and (found := discover(record.folder)):
            return found[0]
        return self._online(record)

    def _online(self, record: RunRecord) -> OnlineRun | None:
        if record.online or not self.online:
            return record.online
        found = list_runs(self.client, str(self.project), self.entity, filters={"name": record.run_id}, limit=1)
        return found[0] if found else None

    def _listed(self, filters: Mapping[str, Any], order: str, limit: int) -> list[RunRecord]:
        found = list_runs(self.client, str(self.project), self.entity, filters=filters, order=order, limit=limit)
        return [_of_online(run) for run in found]

    def _local(self, group: str | None) -> list[RunRecord]:
        names = [one.name for one in self._manager.groups() if group is None or one.name == group]
        return [self._record(job) for name in names for job in self._manager.group(name).jobs if job.kind != "notebook"]

    def _record(self, job: JobView) -> RunRecord:
        env: Mapping[str, str] = job.config.get("env") or {}
        remote: Mapping[str, Any] = job.config.get("remote") or {}
        env = {**env, **(remote.get("env") or {})}
        mark = StateDir(self._manager.state_dir).mark
        return RunRecord(
            name=job.name,
            group=job.group,
            state=job.state.value,
            source="local",
            run_id=env.get("WANDB_RUN_ID") or wandb_run_id(mark, job.group, job.name, job.id),
            author=_owner(self._manager.state_dir),
            tags=tuple(tag for tag in env.get("WANDB_TAGS", "").split(",") if tag),
            created_at=job.created_at,
            job_id=job.id,
            folder=job.folder,
        )


def get_wandb_service(
    project: str | None = None, entity: str | None = None, *, state_dir: Path | str | None = None
) -> WandbService:
    """Open the service: `project` and `entity` on W&B (default: WANDB_PROJECT, WANDB_ENTITY), the queue in `state_dir`.

    >>> with get_wandb_service("arena") as runs:
    ...     for run in runs.find_training_jobs(group="lr", state="running"):
    ...         print(run.name, runs.get_run_progress(run).reward)
    """
    return WandbService(project, entity, state_dir=state_dir)


def _of_online(run: OnlineRun) -> RunRecord:
    told = run.told
    return RunRecord(
        name=run.name,
        group=told.get("group"),
        state=run.state,
        source="wandb",
        run_id=run.run_id,
        author=told.get("author"),
        tags=tuple(told.get("tags") or ()),
        created_at=run.created_at,
        url=told.get("url"),
        stale=run.stale,
        online=run,
    )


def _filters(
    author: str | None,
    tags: Sequence[str],
    state: str | None,
    group: str | None,
    after: datetime | None,
    before: datetime | None,
) -> dict[str, Any]:
    """The conditions as W&B takes them, so that it sends no more than is wanted."""
    filters: dict[str, Any] = {}
    if author is not None:
        filters["username"] = author
    if tags:
        filters["tags"] = {"$in": list(tags)}
    if state is not None:
        filters["state"] = {"$in": [said for said, ours in STATES.items() if ours == state]}
    if group is not None:
        filters["group"] = group
    limits = {"$gte": after, "$lte": before}
    if times := {test: at.strftime("%Y-%m-%dT%H:%M:%S") for test, at in limits.items() if at is not None}:
        filters["created_at"] = times
    return filters


def _moment(given: datetime | str | None) -> datetime | None:
    if given is None:
        return None
    try:
        at = datetime.fromisoformat(given) if isinstance(given, str) else given
    except ValueError:
        raise InvalidInput(f"{given!r} is no time: write it like 2026-01-31 or 2026-01-31T12:00:00.") from None
    return (at if at.tzinfo else at.replace(tzinfo=UTC)).astimezone(UTC)


def _sortable(run: RunRecord, by: str) -> tuple[bool, Any, int]:
    """Jobs that were submitted together are in the order of their ids; what has no value comes first."""
    value = getattr(run, by)
    return value is not None, value or "", run.job_id or 0


def _owner(folder: Path) -> str | None:
    try:
        return folder.owner()
    except (KeyError, OSError):
        return None  # a user that this machine has no name for, as in containers


__all__ = ["RunRecord", "WandbError", "WandbService", "get_wandb_service"]
