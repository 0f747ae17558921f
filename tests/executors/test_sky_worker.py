"""The life of the worker: threads, deadlines, deaths, restarts. A stand-in for SkyPilot's package answers, or hangs."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest

from metta_jobs.errors import MettaError
from metta_jobs.executors.sky import client as client_module
from metta_jobs.executors.sky.client import SkyClient, pause_s
from tests.executors.sky_stand_in import TASK, Bed
from tests.processes import until


def gone(pid: int) -> bool:
    return not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


def test_polls_launches_cancels_and_logs_do_not_wait_for_each_other(bed: Bed) -> None:
    go = bed.hold("queue_v2")
    slow = bed.client.ask("queue")
    bed.begun("queue_v2")
    for do, fields in (("launch", {"name": "n", "task": TASK}), ("cancel", {"job_ids": [1]}), ("check", {})):
        assert bed.ask(do, **fields).kind is None
    assert slow not in bed.come
    bed.says(queue_v2={"value": [[], 0, {}, 0]})
    go.touch()
    bed.answer(slow)


def test_a_line_that_cannot_be_understood_ends_nothing(bed: Bed) -> None:
    assert bed.ask("dance").kind == "error"
    assert bed.ask("cancel").kind == "error"
    assert bed.ask("cancel", job_ids=[1]).value == {}


def test_more_than_a_pipe_holds_is_asked_without_waiting(bed: Bed) -> None:
    bed.says(launch={"value": "r"}, **{"import": {"until": str(bed.folder / "go")}})
    large = {**TASK, "run": "x" * 3_000_000}
    tickets = [bed.client.ask("launch", name="n", task=large) for _ in range(2)]
    (bed.folder / "go").touch()
    assert [bed.answer(ticket).value for ticket in tickets] == [{"request_id": "r"}] * 2


def test_a_worker_that_dies_answers_for_what_it_had_begun_alone(bed: Bed) -> None:
    bed.hold("launch")
    begun = [bed.client.ask("launch", name=f"n{i}", task=TASK) for i in range(4)]
    until(lambda: (bed.collect(), len(bed.calls("launch")) == 4)[1], "four launches")
    behind = bed.client.ask("launch", name="behind", task=TASK)
    pid = bed.begun("launch")
    bed.says(launch={"value": "r"})
    psutil.Process(pid).kill()
    assert [bed.answer(ticket).kind for ticket in begun] == ["died"] * 4
    assert bed.answer(behind).value == {"request_id": "r"}
    assert [call["name"] for call in bed.calls("launch")].count("behind") == 1
    assert len(bed.calls("import")) == 2


def test_a_worker_that_owes_an_answer_for_too_long_is_ended(bed: Bed, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(client_module._DEADLINES_S, "queue", 0.3)
    bed.hold("queue_v2")
    overdue = bed.client.ask("queue")
    pid = bed.begun("queue_v2")
    answer = bed.answer(overdue)
    assert answer.kind == "died" and "no answer to 'queue'" in str(answer.error)
    until(lambda: gone(pid), "its end")
    assert bed.client.fileno() is None
    assert bed.ask("cancel", job_ids=[1]).value == {}


def test_a_launch_is_not_cut_short_for_a_poll_that_hangs(bed: Bed, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(client_module._DEADLINES_S, "queue", 0.0)
    bed.says(launch={"until": str(bed.folder / "go"), "value": "r"}, queue_v2={"until": str(bed.folder / "never")})
    launch = bed.client.ask("launch", name="n", task=TASK)
    bed.begun("launch")
    poll = bed.client.ask("queue")
    bed.begun("queue_v2")
    until(lambda: (bed.collect(), bed.client._worker and bed.client._worker.condemned)[1], "the poll to be overdue")
    later = bed.client.ask("cancel", job_ids=[1])
    (bed.folder / "go").touch()
    assert bed.answer(launch).value == {"request_id": "r"}
    assert bed.answer(poll).kind == "died"
    assert bed.answer(later).value == {}
    assert len({call["pid"] for call in bed.calls("import")}) == 2


@pytest.mark.parametrize("how", [{"exit": 3}, {"raise": ["ImportError", "no grpc"]}])
def test_a_worker_that_cannot_import_sky_answers_that_it_is_missing(bed: Bed, how: dict[str, Any]) -> None:
    bed.says(**{"import": how})
    answer = bed.ask("queue")
    assert answer.kind == "missing" and str(bed.log) in str(answer.error)
    bed.says(queue_v2={"value": [[], 0, {}, 0]})
    assert bed.ask("queue").value is not None  # waits for its time to be started again


def test_pauses_grow() -> None:
    assert [pause_s(deaths) for deaths in range(1, 9)] == [1, 2, 4, 8, 16, 32, 60, 60]
    assert pause_s(10_000) == 60


def test_without_an_interpreter_all_is_answered_at_once(tmp_path: Path) -> None:
    def find() -> str:
        raise MettaError("SkyPilot is not installed.")

    client = SkyClient(find, tmp_path / "sky.log")
    ticket = client.ask("queue")
    (answer,) = client.answers()
    assert (answer.ticket, answer.kind, answer.error) == (ticket, "missing", "SkyPilot is not installed.")
    client = SkyClient(lambda: str(tmp_path / "no-python"), tmp_path / "sky.log")
    client.ask("queue")
    assert [answer.kind for answer in client.answers()] == ["missing"]


def test_close_ends_the_worker_and_its_children(bed: Bed) -> None:
    bed.ask("cancel", job_ids=[1])
    pid = bed.begun("cancel")
    bed.client.close()
    until(lambda: gone(pid), "its end")
    assert bed.client.fileno() is None


def test_the_worker_ends_with_the_one_who_asks(bed: Bed, sky_python: str) -> None:
    program = (
        "import sys, time\nfrom pathlib import Path\nfrom metta_jobs.executors.sky.client import SkyClient\n"
        "client = SkyClient(lambda: sys.argv[1], Path(sys.argv[2]))\nclient.ask('cancel', job_ids=[1])\n"
        "time.sleep(600)\n"
    )
    argv = [sys.executable, "-c", program, sky_python, str(bed.log)]
    with subprocess.Popen(argv, env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}) as asker:
        pid = bed.begun("cancel")
        asker.kill()
    until(lambda: gone(pid), "the worker's end")


def test_the_worker_s_log_is_bounded_and_private(bed: Bed, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_module, "_LOG_BYTES", 2000)
    monkeypatch.setattr(client_module, "_KEPT_LOG_BYTES", 500)
    bed.says(cancel={"print": "x" * 300})
    for _ in range(10):
        bed.ask("cancel", job_ids=[1])
    assert bed.log.stat().st_size <= 3000
    assert bed.log.read_text().startswith("... the beginning was dropped")
    assert bed.log.stat().st_mode & 0o777 == 0o600
