"""Shared fixtures: an environment of its own for every test, and a manager whose daemon ends with the test."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

# How the tests are started changes nothing of what they see: neither `uv run`, which our advice names, nor a shell
# that runs them in the background, where Ctrl-C is ignored.
os.environ.pop("UV_RUN_RECURSION_DEPTH", None)
signal.signal(signal.SIGINT, signal.default_int_handler)

from metta_jobs.executors import processes  # noqa: E402
from metta_jobs.manager import JobManager  # noqa: E402

_LEAKY = ("METTA_", "WANDB_", "CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES")


@pytest.fixture(autouse=True)
def own_environment(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """No setting, login or GPU of the machine reaches a test; no test logs in anywhere."""
    for name in list(os.environ):
        if name.startswith(_LEAKY):
            monkeypatch.delenv(name)
    home = tmp_path_factory.mktemp("home")
    monkeypatch.setenv("UV_HOME", os.environ.get("HOME", ""))  # where uv keeps its cache
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(home / ".config"))
    monkeypatch.setenv("METTA_GPUS", "")


@pytest.fixture
def own_recipes(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What a test imports from a project of its own is forgotten afterwards."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    others = _forget_recipes()
    yield
    _forget_recipes()
    sys.modules.update(others)


def _forget_recipes() -> dict[str, ModuleType]:
    names = [name for name in sys.modules if name in ("recipes", "elsewhere") or name.startswith("recipes.")]
    return {name: sys.modules.pop(name) for name in names}


@pytest.fixture
def state_dir(tmp_path: Path) -> Iterator[Path]:
    """An empty state folder; afterwards its daemon and all processes of its jobs are ended."""
    root = tmp_path / "job_state"
    yield root
    if root.exists():
        clean_up(root)


@pytest.fixture
def manager(state_dir: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[JobManager]:
    """A manager with room for 4 parallel jobs, whatever the machine has."""
    monkeypatch.setenv("METTA_CPUS", "4")
    with JobManager(state_dir) as opened:
        yield opened


def clean_up(root: Path) -> None:
    """End the daemon, every runner and every process of every attempt of a state folder."""
    from tests.processes import kill_daemon, processes_of, runners

    kill_daemon(root)
    for runner in runners(root):
        processes.send(processes.members(runner.pid, runner.start, "-"), 9)
    processes.send(processes_of(root), 9)
