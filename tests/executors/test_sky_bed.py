"""The worker and its client with a real SkyPilot: one job on Slurm, from its launch to its cancellation."""

from __future__ import annotations

import os
import select
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from metta_jobs.executors.sky.client import Answer, SkyClient
from metta_jobs.executors.sky.python import find_python
from tests.processes import until

pytestmark = [pytest.mark.skypilot, pytest.mark.timeout(1500), pytest.mark.xdist_group("skypilot")]
# Tests have a home of their own; SkyPilot's address book lies in the real one.
PYTHON, HOME = os.environ.get("METTA_TEST_SKY_PYTHON"), os.environ.get("HOME", "")
#: A step of SkyPilot takes tens of seconds, minutes on a machine that is busy.
PATIENCE_S = 600.0


class Asker:
    """A client whose answers are waited for."""

    def __init__(self, folder: Path) -> None:
        self.client = SkyClient(lambda: find_python(PYTHON), folder / "sky.log")
        self.come: dict[int, Answer] = {}

    def answer(self, do: str, **fields: Any) -> Answer:
        ticket = self.client.ask(do, **fields)

        def found() -> Answer | None:
            if (fd := self.client.fileno()) is not None:
                select.select([fd], [], [], 0.5)
            self.come.update((answer.ticket, answer) for answer in self.client.answers())
            return self.come.get(ticket)

        return until(found, f"the answer to {do}", PATIENCE_S)

    def value(self, do: str, **fields: Any) -> dict[str, Any]:
        answer = self.answer(do, **fields)
        assert answer.value is not None, answer
        return answer.value


@pytest.fixture
def asker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Asker]:
    if not PYTHON:
        pytest.skip("METTA_TEST_SKY_PYTHON does not name a Python with sky")
    monkeypatch.setenv("HOME", HOME)
    asker = Asker(tmp_path)
    answer = asker.answer("check")
    if answer.value is None or "slurm" not in answer.value["enabled"]:
        asker.client.close()
        pytest.skip(f"SkyPilot has no Slurm here: {answer.error or answer.value}")
    yield asker
    asker.client.close()


def test_a_job_is_launched_found_read_and_cancelled(asker: Asker, tmp_path: Path) -> None:
    name = f"metta-test-{uuid.uuid4().hex[:12]}"
    task = {
        "run": 'echo "hello $WHO"; sleep 3600',
        "setup": None,
        "envs": {"WHO": "you"},
        "secrets": {"KEY": "value"},
        "num_nodes": 1,
        "workdir": None,
        "file_mounts": {},
        "resources": {"infra": "slurm", "cpus": 1, "memory": 1},
    }
    request_id = asker.value("launch", name=name, task=task)["request_id"]

    def request() -> dict[str, Any]:
        return asker.value("requests", ids=[request_id, "unknown"])

    found = until(lambda: (said := request())[request_id]["status"] == "SUCCEEDED" and said, "the launch", PATIENCE_S)
    assert list(found) == [request_id]
    (job_id,) = found[request_id]["job_ids"]

    def record(**choice: Any) -> dict[str, Any]:
        (one,) = asker.value("queue", **choice)["records"]
        return one

    try:
        assert record(name_match=name)["job_id"] == job_id
        path = tmp_path / "output.log"
        until(lambda: record(job_ids=[job_id])["status"] == "RUNNING", "its start", PATIENCE_S)
        until(lambda: asker.value("log", job_id=job_id, path=str(path), tail=None)["bytes"], "its log", PATIENCE_S)
        assert "hello you\n" in path.read_text().splitlines(keepends=True)
    finally:
        asker.value("cancel", job_ids=[job_id])
    ended = until(lambda: (one := record(job_ids=[job_id]))["status"] == "CANCELLED" and one, "its end", PATIENCE_S)
    assert ended["end_at"] is not None
    assert asker.value("queue", job_ids=[job_id], skip_finished=True)["records"] == []


def test_what_does_not_exist_is_refused(asker: Asker) -> None:
    task = {"run": "true", "resources": {"infra": "nowhere"}}
    answer = asker.answer("launch", name="metta-test-refused", task=task)
    assert (answer.kind, answer.value) == ("refused", None)


def test_an_api_server_that_is_not_there_is_unreachable(asker: Asker, monkeypatch: pytest.MonkeyPatch) -> None:
    asker.client.close()
    monkeypatch.setenv("SKYPILOT_API_SERVER_ENDPOINT", "http://127.0.0.1:9")
    for do, fields in (("queue", {}), ("launch", {"name": "metta-test-none", "task": {"run": "true"}}), ("check", {})):
        assert asker.answer(do, **fields).kind == "unreachable"
