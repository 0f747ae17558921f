"""Groups, jobs and snapshots for the tests of the display. Run as a program, it writes the expected frames anew."""

from __future__ import annotations

import io
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from rich.console import Console, RenderableType

from metta_jobs.display.frame import render_monitor
from metta_jobs.display.snapshot import Detail, Snapshot
from metta_jobs.metrics.artifacts import Artifact
from metta_jobs.metrics.progress import Progress
from metta_jobs.states import JobState
from metta_jobs.views import GroupView, JobView

NOW = datetime(2026, 11, 21, 12, 30, 5, tzinfo=UTC)
FRAMES = Path(__file__).parent / "frames"
SIZES = [(80, 24), (120, 30), (200, 50), (40, 10)]


def make_job(job_id: int, name: str, state: JobState, **fields: Any) -> JobView:
    ran = state not in (JobState.PENDING, JobState.SKIPPED)
    values: dict[str, Any] = {
        "id": job_id,
        "group": "arena_experiment",
        "name": name,
        "state": state,
        "command": ("metta", "run", "arena.train"),
        "attempt": int(ran),
        "exit_code": None,
        "reason": None,
        "created_at": NOW - timedelta(minutes=12),
        "started_at": NOW - timedelta(minutes=11) if ran else None,
        "finished_at": NOW - timedelta(seconds=job_id) if state.terminal else None,
        "duration_s": 600.0 + job_id if ran else None,
        "kill_requested": False,
        "executor": "local",
        "kind": "run",
        "gpus": 1.0,
        "cpus": 2.0,
        "memory_gb": 0.0,
        "priority": 0,
        "queue_timeout_s": None,
        "max_attempts": 1,
        "timeout_s": None,
        "grace_s": 10.0,
        "metrics": (),
        "parents": (),
        "folder": None,
    }
    return JobView(**(values | fields))


def make_group(jobs: Iterable[JobView], name: str = "arena_experiment") -> GroupView:
    return GroupView(name, NOW - timedelta(minutes=12), tuple(jobs))


def full_snapshot() -> Snapshot:
    """A group with something of everything."""
    jobs = [
        make_job(1, "baseline.seed0", JobState.SUCCEEDED, exit_code=0),
        make_job(2, "baseline.seed1", JobState.RUNNING),
        make_job(3, "baseline.seed2", JobState.FAILED, exit_code=1, reason="exit code 1"),
        make_job(4, "large_network.seed0", JobState.RUNNING),
        make_job(5, "large_network.seed1", JobState.TIMED_OUT, reason="ran longer than its 10 min", attempt=2),
        make_job(6, "large_network.seed2", JobState.RUNNING),
        make_job(7, "curriculum_from_scratch.seed0", JobState.LAUNCHING, duration_s=None),
        make_job(8, "curriculum_from_scratch.seed1", JobState.PENDING, reason="no free GPU (2 of 2 in use by 2, 4)"),
        make_job(9, "curriculum_from_scratch.seed2", JobState.PENDING, reason="no free GPU (2 of 2 in use by 2, 4)"),
        make_job(10, "notebook", JobState.PENDING, reason="waits for baseline.seed1 (running) and 5 more"),
        make_job(11, "smoke", JobState.SUCCEEDED, exit_code=0),
        make_job(12, "old", JobState.KILLED, reason="killed"),
    ]
    artifacts = (
        Artifact("wandb", "W&B run", "https://wandb.ai/team/metta/runs/a1b2c3d4"),
        Artifact("checkpoint", "policy_1000000.zip", "/project/job_state/jobs/1/1/checkpoints/policy_1000000.zip"),
        Artifact("replay", "last.json.z", "/project/job_state/jobs/1/1/replays/last.json.z"),
    )
    log = ("loading the arena", "update 12", "step 580000 [red]loss[/red] 0.0123 entropy 1.204")
    details = {
        1: Detail(Progress(1e6, 1e6, 7.31, 36214.0), artifacts=artifacts),
        2: Detail(Progress(580_321.0, 1e6, 3.214, 36214.0), log=log),
        3: Detail(error=("RuntimeError: CUDA error: device-side assert", 'File "recipes/arena.py", line 88, in train')),
        4: Detail(Progress(1.25e6, 1e7, -12.3, 9120.0), log=log),
        5: Detail(error=("eval 3 of 10",)),
        6: Detail(Progress(), log=("importing torch",)),
    }
    return Snapshot(make_group(jobs), NOW, "No daemon is running; `metta daemon start` starts one.", details)


def text_of(renderable: RenderableType, width: int = 80, height: int = 24, **options: Any) -> str:
    """What the renderable looks like on a terminal without colours."""
    console = Console(
        file=io.StringIO(), width=width, height=height, color_system=None, force_terminal=True, _environ={}
    )
    console.print(renderable, highlight=False, **options)
    return console.file.getvalue()


def frame_lines(snapshot: Snapshot, width: int, height: int, **options: Any) -> list[str]:
    """The lines of a frame, printed on a console wider than it, so that a line that is too long stays so."""
    text = text_of(render_monitor(snapshot, width, height, **options), width=2 * width + 200, height=height)
    return text.split("\n")[:-1]


def frame_path(width: int, height: int) -> Path:
    return FRAMES / f"{width}x{height}.txt"


if __name__ == "__main__":
    for size in SIZES:
        frame_path(*size).write_text("\n".join(frame_lines(full_snapshot(), *size, fill=True)) + "\n")
