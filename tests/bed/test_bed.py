"""The bed itself, as far as that goes without SkyPilot: where it cannot be, what it counts as its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.bed.__main__ import CANNOT, main
from tests.bed.bed import Bed, Unavailable
from tests.bed.members import MARK, end, members
from tests.processes import until


@pytest.fixture
def nobody(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """We are not root."""
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setenv("METTA_BED_DIR", str(tmp_path / "bed"))


def test_who_is_not_root_is_told_so_and_nothing_is_written(
    nobody: None, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(Unavailable, match="needs root on Linux"):
        Bed(tmp_path / "bed").up()
    assert main(["up"]) == CANNOT
    assert main(["down"]) == 0
    assert list(tmp_path.iterdir()) == []
    assert "bed: the bed needs root on Linux: it starts slurmd and sshd\n" in capfd.readouterr().err


def test_a_command_that_runs_without_a_bed_knows_why(nobody: None, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "sh", "-c", 'echo "$METTA_BED_MISSING"; exit 3']) == 3
    assert capfd.readouterr().out == "the bed needs root on Linux: it starts slurmd and sshd\n"


def test_a_bed_that_does_not_come_up_is_missing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    def up(bed: Bed) -> None:
        raise RuntimeError("slurmctld does not come up in 60 s:\nits log")

    monkeypatch.setattr(Bed, "up", up)
    monkeypatch.setenv("METTA_BED_DIR", str(tmp_path / "bed"))
    assert main(["run", "sh", "-c", 'echo "$METTA_BED_MISSING"']) == 0
    out, said = capfd.readouterr()
    assert (out, "its log" in said) == ("slurmctld does not come up in 60 s:\n", True)
    monkeypatch.setenv("METTA_BED_REQUIRED", "1")
    assert main(["run", "true"]) == CANNOT


def test_what_is_no_verb_is_answered_with_the_verbs(capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["run"]) == 2
    assert "outage S" in capfd.readouterr().err


def test_members_are_ended_with_their_children_and_nobody_else_is(tmp_path: Path) -> None:
    script = "import signal, subprocess, time; signal.signal(15, signal.SIG_IGN); print(flush=True); "
    ours, other = tmp_path / "ours", tmp_path / "ours-2"
    # A child without the mark, of a parent that ignores SIGTERM.
    parent = script + "subprocess.Popen(['sleep', '600'], env={}); time.sleep(600)"
    started = [
        subprocess.Popen([sys.executable, "-c", text], env={**os.environ, MARK: str(folder)}, stdout=subprocess.PIPE)
        for folder, text in ((ours, parent), (other, script + "time.sleep(600)"))
    ]
    try:
        for process in started:
            assert process.stdout is not None
            process.stdout.readline()
        until(lambda: len(members(ours)) == 2, "the child")
        assert members(ours, "no such command") == []
        end(lambda: members(ours), grace_s=0.2)
        assert (members(ours), started[0].wait(10)) == ([], -9)
        assert members(other) == [started[1].pid]
    finally:
        for process in started:
            process.kill()
            process.communicate()
