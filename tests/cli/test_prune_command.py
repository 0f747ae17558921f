"""`metta job prune`: what it shows, asks, and says."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from tests.processes import metta
from tests.store.rows import ENDED_WELL, RUNNING
from tests.store.world import World


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path / "job_state")


def run(world: World, *arguments: str, input: str = "", code: int = 0) -> tuple[str, str]:
    done = metta("--state-dir", world.dir.root, "job", "prune", *arguments, input=input)
    assert done.returncode == code, done
    return done.stdout, done.stderr


def test_the_command_shows_asks_and_removes(world: World) -> None:
    world.group("old", 4000, ENDED_WELL, ENDED_WELL)
    world.group("needed", 4000, ENDED_WELL)
    child = world.rows.job(world.rows.group("young"), "child", *RUNNING)
    world.rows.depends(child, 3)
    world.folder(77, 4000)
    shown, _ = run(world, "--older-than", "1000d", "--dry-run")
    assert re.match(r"old +2 jobs +ended \d+ d \d\d h ago +2\d\d kB\n", shown)
    assert "1 folder of jobs that are not stored (any more): 77" in shown
    assert "needed stays: a job of young depends on it." in shown
    assert re.search(r"In all 1 group with 2 jobs and 1 folder, 3\d\d kB of files\.", shown)
    _, said = run(world, "--older-than", "1000d", input="n\n", code=2)
    assert "Nothing was done." in said
    _, said = run(world, "--older-than", "1000d", code=2)
    assert "--yes" in said
    assert len(world.names()) == 3
    shown, _ = run(world, "--older-than", "1000d", input="y\n")
    assert "Removed old." in shown
    assert re.search(r"3\d\d kB of files are gone\.", shown)
    assert world.names() == ["needed", "young"]
    assert world.folders() == {3}
    shown, _ = run(world, "--older-than", "1000d", "--yes")
    assert shown.endswith("Nothing is that old, or nothing of it may go.\n")


def test_the_command_speaks_json(world: World) -> None:
    world.group("old", 4000, ENDED_WELL)

    def told(*arguments: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(run(world, "--older-than", "1000d", "--json", *arguments)[0])
        return found

    planned = told("--dry-run")
    assert planned["groups"][0]["group"] == "old"
    assert planned["groups"][0]["bytes"] == planned["bytes"] > 100_000
    assert planned["removed"] is False
    removed = told("--yes")
    assert removed == planned | {"removed": True}
    assert world.names() == []


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--older-than", "soon"], "'soon' is no span of time: say 45s, 90m, 12h, 30d or 2w."),
        (["--older-than", "9999999d"], "Nothing is that old."),
        (["--older-than", "3d", "--keep-last", "-1"], "keep-last"),
        ([], "older-than"),
    ],
)
def test_nonsense_ends_with_2_and_a_sentence(world: World, arguments: list[str], sentence: str) -> None:
    world.group("old", 40, ENDED_WELL)
    _, said = run(world, *arguments, code=2)
    assert sentence in said
    assert world.names() == ["old"]


def test_where_there_are_no_jobs_there_is_nothing_to_remove(tmp_path: Path) -> None:
    done = metta("--state-dir", tmp_path / "none", "job", "prune", "--older-than", "1d")
    assert (done.returncode, done.stdout) == (0, "There are no jobs yet, so there is nothing to remove.\n")
    assert not (tmp_path / "none").exists()
