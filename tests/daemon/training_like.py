"""A training as far as the queue can see: logs with wandb, saves checkpoints, goes on from one; its first attempt goes
wrong at step 500 of 1000.

`python training_like.py nan` waits there for a file "go-wrong" in its folder, then logs NaN and never ends; a later
attempt, which is to begin from a checkpoint, logs its way to step 1000 with a reward of step / 100.
"""

from __future__ import annotations

import math
import os
import sys
import time
from pathlib import Path

import wandb

folder = Path(os.environ["METTA_JOB_DIR"])
checkpoint = os.environ.get("METTA_CHECKPOINT")
begin = int(Path(checkpoint).stem.removeprefix("step-")) if checkpoint else 0
sick = sys.argv[1] == "nan" and not checkpoint
(folder / "checkpoints").mkdir(parents=True)
with wandb.init(config={"total_timesteps": 1000}) as run:
    step = begin
    while step < 1000 or sick:
        step += 100
        wrong = sick and step >= 500
        while wrong and not (folder / "go-wrong").exists():
            time.sleep(0.05)
        run.log({"global_step": step, "overview/reward": math.nan if wrong else step / 100, "overview/sps": 100.0})
        if not wrong:
            (folder / "checkpoints" / f"step-{step}.zip").touch()
        time.sleep(0.2 if sick else 0)
