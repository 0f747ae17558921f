"""The run's folder, its stop signals, and where its W&B rows go."""

from __future__ import annotations

import os
import re
import signal
from pathlib import Path

import pytest

from recipes.ppo.folder import RunFolder
from recipes.ppo.stop import StopSignals


def test_the_queue_names_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("METTA_JOB_DIR", str(tmp_path / "job"))
    assert RunFolder.of_this_process("arena").root == tmp_path / "job"
    assert (tmp_path / "job").is_dir()


def test_by_hand_each_run_gets_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("METTA_JOB_DIR", raising=False)
    monkeypatch.setenv("WANDB_NAME", "my run/2")
    monkeypatch.chdir(tmp_path)
    first, second = RunFolder.of_this_process("arena").root, RunFolder.of_this_process("arena").root
    assert first != second
    assert first.parent == second.parent == tmp_path / "runs"
    assert re.match(r"my-run-2-\d{8}-\d{6}", first.name)


def test_a_file_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)

    def fail(part: Path) -> None:
        part.write_text("half")
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        folder.add("checkpoints/a.zip", fail)
    assert list((tmp_path / "checkpoints").iterdir()) == []

    def look(part: Path) -> None:
        part.write_text("whole")
        assert folder.checkpoints() == []

    assert folder.add("checkpoints/a.zip", look).read_text() == "whole"
    assert [path.name for path in folder.checkpoints()] == ["a.zip"]


def test_the_first_signal_is_noted_and_the_second_acts() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with StopSignals() as stop:
        assert stop.exit_code == 0
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop.received == signal.SIGTERM
        assert stop.exit_code == 143
        assert signal.getsignal(signal.SIGTERM) == before
    assert signal.getsignal(signal.SIGTERM) == before


@pytest.mark.parametrize(
    ("variables", "netrc", "mode"),
    [
        ({}, None, "offline"),
        ({"WANDB_API_KEY": "x" * 40}, None, "online"),
        ({"WANDB_API_KEY": "x" * 40, "WANDB_MODE": "offline"}, None, "offline"),
        ({}, "machine api.wandb.ai login user password x\n", "online"),
        ({"WANDB_BASE_URL": "https://wandb.example.org"}, "machine api.wandb.ai login user password x\n", "offline"),
        ({}, "this is no netrc\n", "offline"),
    ],
)
def test_rows_go_online_only_when_somebody_is_logged_in(
    tmp_path: Path, variables: dict[str, str], netrc: str | None, mode: str
) -> None:
    from recipes.ppo.runlog import wandb_mode

    if netrc is not None:
        (tmp_path / ".netrc").write_text(netrc)
        (tmp_path / ".netrc").chmod(0o600)
    assert wandb_mode({"HOME": str(tmp_path), **variables}) == mode
