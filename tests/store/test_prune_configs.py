"""The configuration of a training is kept as long as a stored job names it."""

from __future__ import annotations

import os
from pathlib import Path

from metta_jobs.experiment import SkypilotJobConfig, TrainingJobConfig, TrainingRunConfig
from tests.store.rows import ENDED_WELL, ago
from tests.store.world import World


def kept(world: World, group: str | None, seed: int, days: float, *, remote: bool) -> Path:
    """A configuration last used so many days ago, and the ended job that was told by it."""
    training = TrainingRunConfig(seed=seed)
    where = SkypilotJobConfig(remote=remote, gpus=0)
    config, path = TrainingJobConfig(skypilot=where, training=training).job(
        "train", ("true",), world.dir.root.parent, folder=world.dir.configs
    )
    os.utime(path.parent, (ago(days=days).timestamp(),) * 2)
    os.utime(path, (ago(days=days).timestamp(),) * 2)
    if group is not None:
        row = world.rows.group(group, at=ago(days=days))
        world.rows.job(row, "train", *ENDED_WELL, at=ago(days=days), config=config)
    return path


def test_it_goes_with_the_last_job_that_names_it(tmp_path: Path) -> None:
    world = World(tmp_path / "job_state")
    shared = kept(world, "old", 1, 50, remote=False)
    assert kept(world, "young", 1, 1, remote=False) == shared
    os.utime(shared.parent, (ago(days=50).timestamp(),) * 2)
    local, remote = kept(world, "older", 2, 60, remote=False), kept(world, "oldest", 3, 61, remote=True)
    previewed, today = kept(world, None, 4, 50, remote=False), kept(world, None, 5, 0, remote=False)
    done = world.prune()
    assert {group.row.name for group in done.groups} == {"old", "older", "oldest"}
    assert [path.exists() for path in (shared, local, remote, previewed, today)] == [True, False, False, False, True]
