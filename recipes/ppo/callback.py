"""What happens between two rollouts: a row in the log, a checkpoint, a look at the stop signals."""

from __future__ import annotations

import math
import time

from stable_baselines3.common.callbacks import BaseCallback

from metta_jobs.errors import RunFailed
from recipes.ppo.folder import RunFolder
from recipes.ppo.runlog import REWARD, SPS, RunLog
from recipes.ppo.stop import StopSignals


def diverged(step: int) -> RunFailed:
    """The error for a training whose loss or weights are NaN or infinite."""
    return RunFailed(
        f"The training diverged: the loss is no longer finite at step {step:,}. Lower trainer.learning_rate."
    )


class Progress(BaseCallback):
    """Logs one row per rollout and the update that followed it; saves checkpoints; stops when asked to."""

    def __init__(
        self, log: RunLog, folder: RunFolder, stop: StopSignals, total: int, checkpoint_every: int, keep: int
    ) -> None:
        super().__init__()
        self._log = log
        self._folder = folder
        self._stop = stop
        self._total = total
        self._every = checkpoint_every
        self._keep = keep
        self._next_checkpoint = self._row_step = 0
        self._row_time = 0.0

    def save(self) -> None:
        """Save a checkpoint, named by its agent steps, and drop the oldest."""
        name = f"checkpoints/step-{self.model.num_timesteps:012d}.zip"
        self._folder.add(name, self.model.save)
        for old in self._folder.checkpoints()[: -self._keep]:
            old.unlink()

    def _on_training_start(self) -> None:
        self._row_time = time.monotonic()
        self._row_step = self.model.num_timesteps  # not 0 where it goes on from a checkpoint
        self._next_checkpoint = (self._row_step // self._every + 1) * self._every

    def _on_step(self) -> bool:
        return self._stop.received is None

    def _on_rollout_start(self) -> None:
        self._row()
        if self.model.num_timesteps >= self._next_checkpoint:
            self.save()
            self._next_checkpoint = (self.model.num_timesteps // self._every + 1) * self._every

    def _on_training_end(self) -> None:
        if self._stop.received is None:  # else the rollout was cut short, and its speed would leave out the update
            self._row()

    def _row(self) -> None:
        step = self.model.num_timesteps
        if step == self._row_step:
            return
        now = time.monotonic()
        sps = (step - self._row_step) / max(now - self._row_time, 1e-9)
        self._row_step, self._row_time = step, now
        losses = {
            name: float(value)
            for name, value in self.model.logger.name_to_value.items()
            if name.startswith("train/") and isinstance(value, int | float)
        }
        if not math.isfinite(losses.get("train/loss", 0.0)):
            raise diverged(step)
        values = {SPS: sps, **losses}
        line = f"step {step:,} of {self._total:,}"
        if episodes := self.model.ep_info_buffer:
            values[REWARD] = sum(episode["r"] for episode in episodes) / len(episodes)
            line += f" · reward {values[REWARD]:.2f}"
        self._log.row(step, {name: value for name, value in values.items() if math.isfinite(value)})
        print(f"{line} · {sps:,.0f} steps/s", flush=True)
