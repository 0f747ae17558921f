"""Half a minute of the soak; ten minutes of it are `make soak`."""

from __future__ import annotations

from pathlib import Path

from tests.proof.soak import soak


def test_a_daemon_that_is_killed_again_and_again_keeps_every_promise(state_dir: Path, tmp_path: Path) -> None:
    wrong, ends = soak(state_dir, tmp_path / "witness", minutes=0.4, jobs=320, seed=3)
    assert wrong == []
    assert ends["daemon killed"] >= 5
    assert min(ends["succeeded"], ends["failed"], ends["skipped"], ends["killed"]) > 0
