"""Run as a program: logs runs with the real wandb, offline, the way a training script does.

    log_with_wandb.py FOLDER [--rows N] [--starts N] [--pause S] [--plain] [--wide N]

FOLDER plays the attempt folder (WANDB_DIR). Every start logs N rows under the same run id, each a quarter overlapping
the steps of the start before, as a run does that resumes from a checkpoint.
"""

from __future__ import annotations

import argparse
import math
import os
import time
from pathlib import Path

import wandb

parser = argparse.ArgumentParser()
parser.add_argument("folder", type=Path)
parser.add_argument("--rows", type=int, default=300)
parser.add_argument("--starts", type=int, default=1)
parser.add_argument("--pause", type=float, default=0.0)
parser.add_argument("--plain", action="store_true", help="log the reward only, with no step of its own")
parser.add_argument("--wide", type=int, default=0, help="how many further metrics each row has")
parser.add_argument("--kill-at", type=int, default=-1)
args = parser.parse_args()

args.folder.mkdir(parents=True, exist_ok=True)
config = {"trainer": {"total_timesteps": 100 * args.rows, "lr": 3e-4}, "name": "toy"}
for start in range(args.starts):
    run = wandb.init(
        project="toy", id="toy-run-7", dir=args.folder, mode="offline", config={} if args.plain else config
    )
    first = start * (args.rows - args.rows // 4)
    for i in range(first, first + args.rows):
        if args.plain:
            run.log({"overview/reward": float(i)})
            continue
        run.log(
            {
                "overview/reward": math.tanh(i / args.rows) + 10 * start,
                "overview/sps": 1000.0 + i,
                "metric/agent_step": 100 * (i + 1),
                **{f"losses/loss_{n}": i / (n + 1) for n in range(args.wide)},
            }
        )
        if i % 10 == 0:
            run.log({"eval/score": i // 10, "eval/text": "no number", "eval/flag": i % 20 == 0})
        if i == 7:
            run.log({"odd": float("nan"), "metric/agent_step": 1})
            run.log({"odd": float("inf"), "metric/agent_step": 2})
            run.log({"odd": -3, "metric/agent_step": 3, "nested": {"inner": 5}})
        if i == args.kill_at:
            time.sleep(args.pause)
            os.kill(os.getpid(), 9)
        time.sleep(args.pause)
    run.finish()
