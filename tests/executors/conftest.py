"""An interpreter that has a stand-in for SkyPilot, and a client of it."""

from __future__ import annotations

import sysconfig
import venv
from collections.abc import Iterator
from pathlib import Path

import pytest

from metta_jobs.daemon.house import House
from metta_jobs.testing import make_house
from tests.executors.seam_fake import FakeSky
from tests.executors.sky_rounds import restart
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


@pytest.fixture
def sky() -> FakeSky:
    return FakeSky()


@pytest.fixture
def house(tmp_path: Path, sky: FakeSky) -> House:
    """A daemon whose remote jobs go to that stand-in."""
    made = make_house(tmp_path)
    restart(made, sky)
    return made
