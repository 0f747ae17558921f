"""Runs on W&B: listed many at a time, each a source of metrics."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from metta_jobs.metrics.base import Progress, Row, RunInfo, Series
from metta_jobs.metrics.names import STEP_KEYS, first_of, spellings
from metta_jobs.metrics.online.client import WandbClient
from metta_jobs.metrics.reading import find_total, progress_of
from metta_jobs.metrics.series import collect, thin

#: How old an answer may be (seconds): about what goes on, and about runs that have ended, which may still be resumed.
FRESH_S = 30.0
FRESH_ENDED_S = 600.0
#: W&B's words for runs that may still log. One that was preempted may go on, elsewhere.
GOING_ON = frozenset({"pending", "running", "preempting", "preempted"})
#: W&B's words for the state of a run, in ours. It says "crashed" when a run has not been heard of for minutes.
STATES = {
    "pending": "pending",
    "running": "running",
    "preempting": "running",
    "preempted": "preempted",
    "finished": "succeeded",
    "failed": "failed",
    "crashed": "lost",
    "killed": "killed",
}


@dataclass
class OnlineRun:
    """One run as W&B told it at `at` (seconds since the epoch): a `MetricsSource`.

    `state` is in our words, `said` in W&B's. `stale` says why W&B could not be asked again, None when it could.
    """

    client: WandbClient = field(repr=False)
    told: Mapping[str, Any] = field(repr=False)
    at: float
    stale: str | None = None
    kind = "wandb-api"

    @property
    def run_id(self) -> str:
        return str(self.told["run"])

    @property
    def name(self) -> str:
        return str(self.told["name"])

    @property
    def said(self) -> str:
        return str(self.told["state"])

    @property
    def state(self) -> str:
        return STATES.get(self.said, self.said)

    @property
    def created_at(self) -> datetime | None:
        text = self.told.get("created_at")
        if not text:
            return None
        moment = datetime.fromisoformat(str(text))
        return moment if moment.tzinfo else moment.replace(tzinfo=UTC)

    @property
    def summary(self) -> Mapping[str, Any]:
        found: Mapping[str, Any] = self.told["summary"]
        return found

    @property
    def config(self) -> Mapping[str, Any]:
        found: Mapping[str, Any] = self.told["config"]
        return found

    @property
    def progress(self) -> Progress:
        return progress_of(self.summary, find_total(self.config))

    def history(self, run_keys: Sequence[str], samples: int | None = 1000) -> dict[str, Series]:
        """As `MetricsSource.history`: W&B picks the points, evenly; one request for each key that the run has."""
        names = {key: first_of(spellings(key), self.summary) for key in run_keys}
        axis = first_of(STEP_KEYS[:-1], self.summary)
        asked = sorted({name for name in names.values() if name})
        if not asked:
            return {key: Series([], []) for key in run_keys}
        answer = self.client.ask(
            "history",
            fresh_s=FRESH_S if self.said in GOING_ON else FRESH_ENDED_S,
            cost=len(asked),
            entity=self.told["entity"],
            project=self.told["project"],
            run=self.run_id,
            keys=[[name, None if name == axis else axis] for name in asked],
            samples=samples,
        )
        self.stale = answer.stale or self.stale
        rows: Mapping[str, list[Row]] = answer.value or {}
        series = {name: collect(_Rows(rows.get(name, [])), [name])[name] for name in asked}
        return {key: thin(series[name], samples) if name else Series([], []) for key, name in names.items()}


class _Rows:
    """Rows that are here already."""

    def __init__(self, given: Sequence[Row]) -> None:
        self._given = given

    def rows(self, keys: object = None) -> Any:
        """All of them."""
        return iter(self._given)

    def info(self) -> RunInfo:
        """Nothing."""
        return RunInfo()


def list_runs(
    client: WandbClient,
    project: str,
    entity: str | None = None,
    *,
    filters: Mapping[str, Any] | None = None,
    order: str = "-created_at",
    limit: int = 100,
    fresh_s: float = FRESH_S,
) -> list[OnlineRun]:
    """Return the runs of a W&B project, at most `limit`, in one request for each hundred.

    `filters` are W&B's own, such as {"group": "arena"} or {"name": RUN_ID}. A project that is not there yet has none.
    Raises WandbError.
    """
    answer = client.ask(
        "runs",
        fresh_s=fresh_s,
        cost=max(1, limit // 100),
        entity=entity,
        project=project,
        filters=dict(filters or {}),
        order=order,
        limit=limit,
    )
    return [OnlineRun(client, told, answer.at, answer.stale) for told in answer.value or []]
