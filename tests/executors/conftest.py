"""An interpreter that has a stand-in for SkyPilot, and a client of it."""

from __future__ import annotations

import sysconfig
import venv
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.executors.sky_stand_in import FAKE, Bed


@pytest.fixture(scope="session")
def sky_python(tmp_path_factory: pytest.TempPathFactory) -> str:
    """An interpreter that has the stand-in installed, as the worker runs isolated from PYTHONPATH."""
    folder = tmp_path_factory.mktemp("sky-python")
    venv.EnvBuilder(symlinks=True, with_pip=False).create(folder)
    site = sysconfig.get_path("purelib", "venv", vars={"base": str(folder), "platbase": str(folder)})
    Path(site, "fake.pth").write_text(f"{FAKE}\n")
    return str(folder / "bin" / "python")


@pytest.fixture
def bed(tmp_path: Path, sky_python: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bed]:
    monkeypatch.setenv("FAKE_SKY", str(tmp_path / "book.json"))
    bed = Bed(tmp_path, sky_python)
    yield bed
    bed.client.close()
