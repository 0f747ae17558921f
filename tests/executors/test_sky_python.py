"""Which interpreter has SkyPilot."""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path

import pytest

from metta_jobs.errors import MettaError
from metta_jobs.executors.sky.python import find_python


def program(path: Path, text: str = "") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)
    return path


@pytest.fixture
def tool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of a tool's own, `bin` of which is on PATH beside nothing else; this environment has no sky."""
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    program(tmp_path / "a tool" / "bin" / "python")
    return tmp_path


def test_the_setting_comes_first(tool: Path) -> None:
    python = tool / "a tool" / "bin" / "python"
    assert find_python(str(python)) == str(python)
    with pytest.raises(MettaError, match="sky_python"):
        find_python(str(tool / "none"))


def test_this_environment_s_sky(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "sky", raising=False)
    (tmp_path / "sky").mkdir()
    (tmp_path / "sky" / "__init__.py").write_text("raise AssertionError('it is not imported')")
    importlib.invalidate_caches()
    assert find_python() == sys.executable


@pytest.mark.parametrize(
    "head",
    [
        "#!{python}\nimport sys\n",
        "#!/bin/sh\n'''exec' '{python}' \"$0\" \"$@\"\n' '''\n",
        "#!/bin/sh\n'''exec' \"{python}\" \"$0\" \"$@\"\n' '''\n",
        "#!/bin/sh\n'''exec' \"$(dirname -- \"$(realpath -- \"$0\")\")\"/'python' \"$0\" \"$@\"\n' '''\n",
    ],
)
def test_the_interpreter_behind_sky(tool: Path, head: str) -> None:
    python = tool / "a tool" / "bin" / "python"
    script = program(tool / "a tool" / "bin" / "sky", head.format(python=python))
    (tool / "bin").mkdir()
    (tool / "bin" / "sky").symlink_to(script)
    assert find_python() == str(python)


def test_the_interpreter_that_env_finds(tool: Path) -> None:
    program(tool / "bin" / "python3.11")
    program(tool / "bin" / "sky", "#!/usr/bin/env -S FOO=1 python3.11 -u\n")
    assert find_python() == str(tool / "bin" / "python3.11")


@pytest.mark.parametrize("head", ["", "\x7fELF", "#!", "#!/bin/sh\nnothing\n", "#!/gone/python\n", "#!/bin/sh 'open\n"])
def test_what_is_no_such_script(tool: Path, head: str) -> None:
    program(tool / "bin" / "sky", head)
    with pytest.raises(MettaError, match="sky_python"):
        find_python()


def test_no_sky_at_all_says_what_to_do(tool: Path) -> None:
    with pytest.raises(MettaError, match="uv tool install"):
        find_python()


def test_a_folder_called_sky_is_no_package(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("PATH", os.defpath)
    (tmp_path / "sky").mkdir()
    importlib.invalidate_caches()
    with pytest.raises(MettaError):
        find_python()
