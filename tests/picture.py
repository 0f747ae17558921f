"""The pictures of the README, made by the program itself: `make picture`.

Runs a real group of jobs in a temporary state folder (two trainings, a run that fails, one that waits), draws the
monitor as SVG in the middle of it, then writes the notebook and photographs it with Chromium.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from metta_jobs import JobConfig, JobManager
from metta_jobs.clock import SystemClock
from metta_jobs.display.frame import render_monitor
from metta_jobs.display.picture import save_svg
from metta_jobs.display.snapshot import MonitorState
from metta_jobs.display.source import Source
from metta_jobs.notebook import write_notebook
from metta_jobs.states import JobState
from tests.conftest import clean_up
from tests.processes import until

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
WIDTH, HEIGHT = 100, 28
GROUP = "arena_demo"


def _train(name: str, *arguments: str, **fields: object) -> JobConfig:
    command = (sys.executable, "-m", "metta_jobs", "run", *arguments)
    metrics = ("overview/reward", "overview/sps")
    return JobConfig(name=name, command=command, cwd=ROOT, metrics=metrics, **fields)  # type: ignore[arg-type]


def _jobs() -> list[JobConfig]:
    arena = ("arena.train", "trainer.total_timesteps=300000")
    return [
        _train("smoke", "arena.train", "trainer.total_timesteps=20000"),
        _train("no_checkpoint", "arena.evaluate", "checkpoint=runs/gone.zip", depends_on=("smoke",)),
        _train("baseline", *arena, depends_on=("afterany:no_checkpoint",)),
        _train("high_lr", *arena, "trainer.learning_rate=0.001", depends_on=("afterany:no_checkpoint",)),
        _train("evaluate", "arena.evaluate", depends_on=("baseline", "high_lr")),
    ]


def main() -> None:
    """Draw both."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder).resolve() / "job_state"
        os.chdir(root.parent)
        os.environ["METTA_CPUS"] = "2"
        try:
            with JobManager(root) as manager:
                manager.submit(_jobs(), group=GROUP)
                _draw_monitor(manager)
                manager.wait([GROUP])
                path = Path(folder) / "notebooks" / f"{GROUP}.ipynb"
                write_notebook(manager.group(GROUP), path, root)
                _photograph(path, DOCS / "notebook.png")
        finally:
            clean_up(root)


def _draw_monitor(manager: JobManager) -> None:
    def half_way() -> bool:
        states = {job.name: job.state for job in manager.group(GROUP).jobs}
        logs = [manager.log_path(manager.jobs([f"{GROUP}/{name}"])[0].id) for name in ("baseline", "high_lr")]
        going = all(log.exists() and log.read_text().count("step ") > 25 for log in logs)
        return states["baseline"] is JobState.RUNNING and going

    until(half_way, "two trainings at half way", patience_s=300)
    snapshot = Source(lambda: MonitorState(manager.group(GROUP)), SystemClock(), logs=True).snapshot(HEIGHT)
    frame = render_monitor(snapshot, WIDTH, HEIGHT, fill=True)
    save_svg(frame, DOCS / "monitor.svg", WIDTH, HEIGHT, f"metta job monitor {GROUP}")


def _photograph(notebook: Path, picture: Path) -> None:
    subprocess.run([sys.executable, "-m", "nbconvert", "--to", "html", str(notebook)], check=True, capture_output=True)
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        sys.exit("Chromium is needed to photograph the notebook, and is not installed.")
    options = (
        "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
        "--disable-component-update --disable-sync --hide-scrollbars --window-size=1000,1700"
    )
    with tempfile.TemporaryDirectory() as profile:
        subprocess.run(
            [
                chromium,
                *options.split(),
                f"--user-data-dir={profile}",
                f"--screenshot={picture}",
                notebook.with_suffix(".html").as_uri(),
            ],
            check=True,
            capture_output=True,
        )


if __name__ == "__main__":
    main()
