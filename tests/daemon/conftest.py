from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from metta_jobs.daemon.house import House
from metta_jobs.testing import make_house
from tests.daemon.hook_cases import Slack


@pytest.fixture
def slack(monkeypatch: pytest.MonkeyPatch) -> Iterator[Slack]:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    server = Slack()
    yield server
    server.close()


@pytest.fixture
def house(tmp_path: Path) -> House:
    return make_house(tmp_path / "job_state", cpus=9)
