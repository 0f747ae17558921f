"""What is found in a job's folder."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from metta_jobs.metrics import Artifact, find_artifacts

URL = "https://wandb.example/team/toy/runs/abc123"


def test_an_offline_run_is_its_local_folder(run_folder: Path) -> None:
    found = {artifact.kind: artifact for artifact in find_artifacts(run_folder)}
    assert Path(found["wandb"].target).parent == run_folder / "wandb"
    assert found["wandb"].label == Path(found["wandb"].target).name
    assert not found["wandb"].is_url
    assert found["log"] == Artifact("log", "output.log", str(run_folder / "output.log"))


def test_of_a_resumed_run_the_newest_folder(resumed_folder: Path) -> None:
    newest = max((resumed_folder / "wandb").glob("offline-run-*"), key=lambda path: path.stat().st_mtime_ns)
    assert find_artifacts(resumed_folder)[0].label == newest.name


@pytest.mark.parametrize("padding", [0, 3_000_000])
def test_the_url_that_wandb_printed(tmp_path: Path, padding: int) -> None:
    printed = f"wandb: 🚀 View run \x1b[33mbaseline at noon\x1b[0m at: \x1b[34m{URL}\x1b[0m\n"
    (tmp_path / "output.log").write_text("x" * 10 + "\n" + printed + "y\n" * padding)
    assert find_artifacts(tmp_path)[0] == Artifact("wandb", "W&B run", URL)


def test_a_local_line_is_no_url(tmp_path: Path) -> None:
    (tmp_path / "output.log").write_text("wandb: View this run in the terminal with `wandb leet`\n")
    assert [artifact.kind for artifact in find_artifacts(tmp_path)] == ["log"]


def test_links_json_wins(tmp_path: Path) -> None:
    (tmp_path / "output.log").write_text("wandb: View run x at: https://other.example/x\n")
    (tmp_path / "links.json").write_text(f'{{"wandb": "{URL}"}}')
    assert find_artifacts(tmp_path)[0].target == URL


@pytest.mark.parametrize("text", ["", "{", "[]", '{"wandb": 3}', '{"wandb": "javascript:alert(1)"}', "\x00\xff"])
def test_a_bad_links_json_says_nothing(tmp_path: Path, text: str) -> None:
    (tmp_path / "links.json").write_bytes(text.encode("latin-1"))
    assert find_artifacts(tmp_path) == []


def test_the_newest_checkpoint_and_every_replay(tmp_path: Path) -> None:
    for folder, names in {"checkpoints": ["a.pt", "b.pt", "c.pt.tmp", ".d.pt"], "replays": ["1.z", "2.z"]}.items():
        (tmp_path / folder).mkdir()
        for age, name in enumerate(names):
            (tmp_path / folder / name).touch()
            os.utime(tmp_path / folder / name, (1000 - age, 1000 - age))
    assert find_artifacts(tmp_path) == [
        Artifact("checkpoint", "a.pt", str(tmp_path / "checkpoints" / "a.pt")),
        Artifact("replay", "2.z", str(tmp_path / "replays" / "2.z")),
        Artifact("replay", "1.z", str(tmp_path / "replays" / "1.z")),
    ]


def test_nothing_there(tmp_path: Path) -> None:
    assert find_artifacts(tmp_path) == []
    assert find_artifacts(tmp_path / "nowhere") == []
