"""Run as a program: a training that logs with the real wandb, offline: `logged_run.py FOLDER ROWS`."""

import sys

import wandb

folder, rows = sys.argv[1], int(sys.argv[2])
run = wandb.init(project="bench", id="bench", dir=folder, mode="offline", config={"total_timesteps": 100 * rows})
for step in range(rows):
    losses = {f"losses/loss_{n}": step / (n + 1) for n in range(10)}
    run.log({"overview/reward": step / rows, "overview/sps": 1000.0 + step, "global_step": 100 * step, **losses})
run.finish()
