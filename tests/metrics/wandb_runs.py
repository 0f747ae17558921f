"""Starts programs that log with the real wandb, offline, into a folder of their own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

PROGRAM = Path(__file__).with_name("log_with_wandb.py")


def start_logging(folder: Path, *args: str) -> subprocess.Popen[str]:
    """Start the logging program; its output goes to `output.log` as a job's does."""
    folder.mkdir(parents=True, exist_ok=True)
    env = {key: value for key, value in os.environ.items() if not key.startswith("WANDB_")}
    with (folder / "output.log").open("w") as output:
        return subprocess.Popen(
            [sys.executable, str(PROGRAM), str(folder), *args],
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**env, "WANDB_CONSOLE": "off", "WANDB_X_DISABLE_STATS": "true"},
            text=True,
        )


def log(folder: Path, *args: str) -> Path:
    """Log a run to its end and return its folder."""
    process = start_logging(folder, *args)
    assert process.wait(timeout=120) == 0, (folder / "output.log").read_text()
    return folder
