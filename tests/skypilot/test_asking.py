"""The worker and its client with a real SkyPilot: one job on Slurm, from its launch to its cancellation."""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import Any

import pytest

from tests.processes import until
from tests.skypilot.asker import PATIENCE_S, Asker

pytestmark = [pytest.mark.skypilot, pytest.mark.timeout(1500), pytest.mark.xdist_group("skypilot-1")]


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
    assert "slurm" in asker.value("check")["enabled"]
    asker.client.close()
    monkeypatch.setenv("SKYPILOT_API_SERVER_ENDPOINT", "http://127.0.0.1:9")
    for do, fields in (("queue", {}), ("launch", {"name": "metta-test-none", "task": {"run": "true"}}), ("check", {})):
        assert asker.answer(do, **fields).kind == "unreachable"
