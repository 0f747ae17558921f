"""Views of jobs and groups made by hand."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from metta_jobs.states import JobState
from metta_jobs.views import GroupView, JobView

#: The program that logs runs with the real wandb.
LOGGER = Path(__file__).parent.parent / "metrics" / "log_with_wandb.py"
_EPOCH = datetime(2026, 1, 1, tzinfo=UTC)


def job(
    job_id: int,
    name: str,
    state: JobState,
    folder: Path | None,
    *,
    exit_code: int | None = None,
    duration_s: float | None = None,
    kind: str = "run",
    metrics: tuple[str, ...] = (),
) -> JobView:
    return JobView(
        id=job_id,
        group="sweep-1",
        name=name,
        state=state,
        command=("python", "train.py", "--token=hunter2secret"),
        attempt=1 if folder else 0,
        exit_code=exit_code,
        reason=None,
        created_at=_EPOCH,
        started_at=None,
        finished_at=None,
        duration_s=duration_s,
        kill_requested=False,
        executor="local",
        kind=kind,
        gpus=0,
        cpus=1,
        memory_gb=0,
        priority=0,
        queue_timeout_s=None,
        max_attempts=1,
        timeout_s=None,
        grace_s=10.0,
        metrics=metrics,
        parents=(),
        folder=folder,
    )


def group_of(*jobs: JobView, created_at: datetime = _EPOCH) -> GroupView:
    return GroupView(name="sweep-1", created_at=created_at, jobs=jobs)
