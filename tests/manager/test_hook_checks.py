"""Hooks that could tell nobody are refused when they are given: at submit, edit and retry."""

from __future__ import annotations

from pathlib import Path

import pytest

from metta_jobs.errors import InvalidInput, UnknownName
from metta_jobs.job import JobConfig
from metta_jobs.manager import JobManager
from metta_jobs.policy import GroupConfig, Hook
from metta_jobs.states import JobState
from tests.processes import until

ADDRESS = "https://127.0.0.1:1/T0-secretpart"


@pytest.fixture
def settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """One webhook in the settings file, another one in the environment."""
    folder = tmp_path / "config" / "metta-jobs"
    folder.mkdir(parents=True)
    (folder / "config.toml").write_text(f"[webhooks]\nTEAM_SLACK = '{ADDRESS}'\n")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(folder.parent))
    monkeypatch.setenv("LAB_ROOM", ADDRESS)


def job(*hooks: Hook, name: str = "a", **fields: object) -> JobConfig:
    return JobConfig(name=name, command=("true",), on_end=hooks, **fields)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("hook", "says"),
    [
        (
            Hook(webhook="TEAM_SLAK"),
            "on_end: the webhook 'TEAM_SLAK' cannot be told: there is no address of that name: put TEAM_SLAK under "
            "[webhooks] in ~/.config/metta-jobs/config.toml, or into the environment of the shell that submits. "
            "Did you mean 'TEAM_SLACK'?",
        ),
        (Hook(webhook="LAB_ROM"), "Did you mean 'LAB_ROOM'?"),
        (Hook(webhook="HOME"), "its address cannot be used: it must begin with https:// or http://."),
        (
            Hook(command=("ehco", "x")),
            "on_end: the command 'ehco' was not found on your PATH. Check its spelling, or give its full path. "
            "Did you mean 'echo'?",
        ),
        (Hook(command=("./tell.sh",)), "on_end: the command './tell.sh' does not exist; hooks run in "),
        (Hook(command=("./plain.txt",)), "on_end: the command './plain.txt' may not be executed; hooks run in "),
    ],
)
def test_who_submits_is_told(manager: JobManager, settings: None, hook: Hook, says: str) -> None:
    (manager.state_dir.parent / "plain.txt").touch()
    for configs, options in (([job(hook)], None), ([job()], GroupConfig(on_end=(hook,)))):
        with pytest.raises(InvalidInput) as refused:
            manager.submit(configs, group="g", options=options)
        assert says in str(refused.value)
        assert "secretpart" not in str(refused.value)
    with pytest.raises(UnknownName):
        manager.group("g")


def test_what_can_be_told_is_taken(manager: JobManager, settings: None, monkeypatch: pytest.MonkeyPatch) -> None:
    script = manager.state_dir.parent / "tell.sh"
    script.write_text("#!/bin/sh\n")
    script.chmod(0o755)
    (manager.state_dir.parent / "elsewhere").mkdir()
    monkeypatch.chdir(manager.state_dir.parent / "elsewhere")  # hooks run in the project, wherever one submits
    hooks = (Hook(webhook="TEAM_SLACK"), Hook(webhook="LAB_ROOM"), Hook(command=("./tell.sh",)), Hook(desktop=True))
    manager.submit([job(*hooks, Hook(command=("true",)), Hook(command=(str(script),)))], group="g")


def test_a_change_is_held_against_what_the_submitter_had(
    manager: JobManager, settings: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPS_WEBHOOK", ADDRESS)  # a secret by its name: stored without its value
    manager.submit([JobConfig(name="hog", command=("sleep", "600"), cpus=4)], group="full")
    until(lambda: manager.job(1).state is JobState.RUNNING)
    manager.submit([job()], group="g")
    for name in ("LAB_ROOM", "OPS_WEBHOOK"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("LATER", ADDRESS)
    for name in ("TEAM_SLACK", "LAB_ROOM", "OPS_WEBHOOK"):
        manager.edit(2, [f'on_end={{"webhook": "{name}"}}'])
        assert manager.edit_group("g", [f'on_end={{"webhook": "{name}"}}']).on_end[0]["webhook"] == name
    wrong = 'on_end={"webhook": "LATER"}'
    with pytest.raises(InvalidInput, match="'LATER' cannot be told"):
        manager.edit(2, [wrong])
    with pytest.raises(InvalidInput, match="'LATER' cannot be told"):
        manager.edit_group("g", [wrong])
    manager.kill([2])
    manager.wait([2], timeout_s=60)
    with pytest.raises(InvalidInput, match="'LATER' cannot be told"):
        manager.retry([2], changes=[wrong])
    assert manager.job(2).state is JobState.KILLED
    monkeypatch.setenv("XDG_CONFIG_HOME", "/nowhere")
    manager.edit_group("g", ["on_end=[]"])
