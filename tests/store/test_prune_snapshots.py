"""Removing frozen working trees once the last job that names them is gone."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from metta_jobs.code.snapshot import Snapshot, freeze
from metta_jobs.job import JobConfig
from metta_jobs.remote import RemoteConfig
from metta_jobs.upkeep import prune
from tests.store.rows import ENDED_WELL, ago
from tests.store.world import World


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path / "job_state")


def frozen(world: World, text: str, days: float) -> Snapshot:
    """A snapshot with one file, last used so many days ago."""
    project = world.dir.root.parent / "project"
    project.mkdir(exist_ok=True)
    (project / "a.py").write_text(text)
    made = freeze(project, world.dir.snapshots)
    for path in (*made.path.iterdir(), made.path):
        os.utime(path, (ago(days=days).timestamp(),) * 2)
    return made


def job(world: World, group: str, days: float, snapshot: Snapshot) -> None:
    """An ended group of one job that runs this code."""
    config = JobConfig(name=group, command=("true",), remote=RemoteConfig(workdir=snapshot.path))
    world.rows.job(world.rows.group(group, at=ago(days=days)), group, *ENDED_WELL, at=ago(days=days), config=config)


def left(world: World) -> set[str]:
    return {path.name for path in world.dir.snapshots.iterdir()}


def test_a_snapshot_goes_when_the_last_job_that_names_it_is_gone(world: World) -> None:
    shared, alone = frozen(world, "shared", 50), frozen(world, "alone", 50)
    job(world, "old", 50, shared)
    job(world, "older", 60, alone)
    job(world, "young", 1, shared)
    done = world.prune()
    assert [group.row.name for group in done.groups] == ["old", "older"]
    assert left(world) == {shared.id}
    assert done.size > 0
    assert done.troubles == []


def test_one_that_nobody_names_is_planned_measured_and_removed(world: World) -> None:
    nobody, recent = frozen(world, "nobody", 40), frozen(world, "recent", 20)
    planned = world.plan()
    assert planned.orphans.keys() == {nobody.path}
    assert planned.size == planned.orphans[nobody.path] > 0
    assert world.prune().size == planned.size
    assert left(world) == {recent.id}


def test_one_that_is_used_after_the_plan_stays(world: World) -> None:
    made = frozen(world, "again", 40)
    planned = world.plan()
    assert freeze(world.dir.root.parent / "project", world.dir.snapshots) == made
    prune.carry_out(world.dir, world.dir.database, planned)
    assert left(world) == {made.id}
