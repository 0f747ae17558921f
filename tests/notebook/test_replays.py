"""Replays that the real arena wrote, as they are shown."""

from __future__ import annotations

import io
import json
import logging
import os
import zlib
from dataclasses import replace
from pathlib import Path

import pytest
from group_views import group_of, job
from PIL import Image

from metta_jobs.errors import InvalidInput, UnknownName
from metta_jobs.metrics import find_artifacts
from metta_jobs.notebook import failure_digest, get_available_replays, show_replay
from metta_jobs.notebook.animation import MOST_BYTES, animate
from metta_jobs.notebook.replay_file import expand, read_replay
from metta_jobs.states import JobState
from metta_jobs.views import GroupView
from recipes.ppo.config import ArenaConfig
from recipes.ppo.folder import RunFolder
from recipes.ppo.play import RandomPlayer
from recipes.ppo.replay import write_replay
from recipes.ppo.vec_arena import VecArena


@pytest.fixture(scope="session")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The replay of an episode of 24 steps, played at random."""
    config = ArenaConfig(max_steps=24)
    env = VecArena(config, seed=1)
    player = RandomPlayer(env.action_space, seed=1)
    env.close()
    return write_replay(player, config, 1, RunFolder(tmp_path_factory.mktemp("played")))


@pytest.fixture
def played(tmp_path: Path, written: Path) -> GroupView:
    """A run with a replay, one that goes on, one that has none, one that never ran."""
    folders = [tmp_path / "jobs" / str(number) / "1" for number in (1, 2, 3)]
    for folder in folders:
        folder.mkdir(parents=True)
    (folders[0] / "replays").mkdir()
    (folders[0] / "replays" / "final.json.z").write_bytes(written.read_bytes())
    return group_of(
        job(1, "good", JobState.SUCCEEDED, folders[0], exit_code=0),
        job(2, "runs", JobState.RUNNING, folders[1]),
        job(3, "gym", JobState.SUCCEEDED, folders[2], exit_code=0),
        job(4, "waits", JobState.PENDING, None),
    )


def test_a_replay_is_read_as_the_file_says(written: Path) -> None:
    raw, replay = json.loads(zlib.decompress(written.read_bytes())), read_replay(written)
    assert (replay.steps, len(replay.agents), replay.item) == (24, 8, "heart")
    assert replay.available == 20 * 5
    assert len(replay.walls) == sum(thing["type_name"] == "wall" for thing in raw["objects"])
    left = sum(altar.amounts[-1] for altar in replay.objects)
    assert replay.collected(23) == 100 - left
    for agent in replay.agents:
        assert not replay.walls & set(agent.cells)


def test_constants_and_series_are_told_apart() -> None:
    assert expand(3, 2) == [3, 3]
    assert expand([[0, "a"], [2, "b"]], 4) == ["a", "a", "b", "b"]
    assert expand([[1, "a"], [2, "b"], [9, "c"]], 4) == ["a", "a", "b", "b"]


def test_the_animation_is_small_and_moves(written: Path) -> None:
    content = animate(read_replay(written), "good")
    picture = Image.open(io.BytesIO(content))
    assert len(content) < MOST_BYTES
    assert picture.format == "GIF" and picture.n_frames > 40 and picture.info["loop"] == 0
    first = picture.convert("RGB").tobytes()
    picture.seek(picture.n_frames - 1)
    assert picture.convert("RGB").tobytes() != first


def test_a_run_is_shown_and_its_animation_kept_until_the_replay_changes(played: GroupView) -> None:
    shown = show_replay("good", played)
    assert shown.gif is not None and shown.gif.startswith(b"GIF89a")
    assert '<img alt="Replay of good"' in shown._repr_html_()
    assert "final.json.z" in repr(shown)
    folder = played.jobs[0].folder
    assert folder is not None
    [kept] = (folder / "replays").glob(".*.gif")
    assert [a.label for a in find_artifacts(folder) if a.kind == "replay"] == ["final.json.z"]
    stamp = kept.stat().st_mtime_ns
    kept.write_bytes(b"kept")
    os.utime(kept, ns=(stamp, stamp))
    assert show_replay(played.jobs[0]).gif == b"kept"
    os.utime(folder / "replays" / "final.json.z", ns=(1, 1))
    assert show_replay(played.jobs[0]).gif == shown.gif


@pytest.mark.parametrize(
    ("name", "said"), [("runs", "yet: it is running"), ("gym", "Gymnasium tasks have none"), ("waits", "not run")]
)
def test_a_run_without_a_replay_says_so(played: GroupView, name: str, said: str, tmp_path: Path) -> None:
    shown = show_replay(name, played)
    assert shown.gif is None and said in shown.note and said in shown._repr_html_()
    with pytest.raises(InvalidInput, match=said):
        shown.save(tmp_path / "x.gif")


def test_the_replays_of_a_group_are_listed(played: GroupView) -> None:
    found = get_available_replays(played)
    assert [(replay.run, replay.path.name, replay.attempt) for replay in found] == [("good", "final.json.z", 1)]
    assert "| good | final.json.z | 1 |" in found._repr_markdown_()
    assert len(found.without) == 3


def test_a_retry_that_has_none_yet_shows_that_of_the_attempt_before(played: GroupView) -> None:
    first = played.jobs[0]
    assert first.folder is not None
    again = replace(first, attempt=2, state=JobState.RUNNING, folder=first.folder.with_name("2"))
    shown = show_replay(again)
    assert shown.gif is not None and "running" in shown.note


def test_what_is_no_replay_is_told_in_a_sentence(played: GroupView, written: Path, tmp_path: Path) -> None:
    half = tmp_path / "half.json.z"
    half.write_bytes(written.read_bytes()[:2000])
    assert "cut off at its end" in show_replay(half).note
    odd = tmp_path / "odd.json"
    odd.write_text('{"version": 99}')
    assert "is no MettaScope replay that this version understands" in show_replay(odd).note
    assert "cannot be read" in show_replay(tmp_path / "none.json.z").note
    with pytest.raises(UnknownName, match="Did you mean"):
        show_replay("goo", played)


def test_a_folder_that_cannot_be_written_to_shows_all_the_same(
    played: GroupView, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(path: Path, content: bytes) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with caplog.at_level(logging.INFO):
        assert show_replay("good", played).gif is not None
    assert "is not kept" in caplog.text


def test_the_failures_of_a_group_in_a_notebook(group: GroupView) -> None:
    told = failure_digest(group)
    assert repr(told) == "1 of 5 failed: exit code 3 — failed\n1 of 5 failed: timed out — mute"
    assert "2 of 5 failed" in told._repr_html_()
    assert repr(failure_digest(group_of(group.jobs[0]))) == "No run has failed."
