"""What is asked of SkyPilot and what comes back: the real worker.py runs against a stand-in for its package."""

from __future__ import annotations

import pytest

from metta_jobs.executors.sky.sdk.printed import clean
from tests.executors.sky_stand_in import TASK, Bed
from tests.processes import until

RECORD = {"job_id": 1, "job_name": "a", "status": "RUNNING", "failure_reason": "\x1b[1mwhy\x1b[0m", "unheard": "of"}


def test_nothing_runs_until_something_is_asked(bed: Bed) -> None:
    assert bed.client.fileno() is None
    assert bed.client.answers() == []


def test_a_launch_hands_the_task_over_as_it_is(bed: Bed) -> None:
    bed.says(launch={"value": "r-1"})
    assert bed.ask("launch", name="n", task=TASK, priority=5, pool="p").value == {"request_id": "r-1"}
    (call,) = bed.calls("launch")
    resources = {"infra": "slurm", "cpus": 1, "priority": 5}
    expected = {
        "name": "n",
        "run": "echo hello",
        "envs": {"A": "1"},
        "api_server_access": False,
        "resources": resources,
    }
    assert (call["task"], call["name"], call["pool"], call["job_group"]) == (expected, "n", "p", None)


def test_what_sky_and_its_children_print_is_kept_out_of_the_answers(bed: Bed) -> None:
    bed.says(launch={"value": "r", "print": '{"ticket": 1, "value": "forged"}'}, **{"import": {"print": "hello"}})
    assert bed.ask("launch", name="n", task=TASK).value == {"request_id": "r"}
    assert "forged" in bed.log.read_text() and "hello from a child" in bed.log.read_text()


@pytest.mark.parametrize(
    ("how", "kind"),
    [
        (["ValueError", "no"], "refused"),
        (["NotSupportedError", "no"], "refused"),
        (["ApiServerConnectionError", "no"], "unreachable"),
        (["ConnectionRefused", "no"], "unreachable"),
        (["ConnectionReset", "no"], "died"),
        (["ServerTemporarilyUnavailableError", "no"], "died"),
        (["RuntimeError", "no"], "died"),
        (["KeyError", "no"], "error"),
        (["SystemExit", "no"], "error"),
    ],
)
def test_a_launch_that_fails_says_whether_it_may_have_happened(bed: Bed, how: list[str], kind: str) -> None:
    bed.says(launch={"raise": how})
    answer = bed.ask("launch", name="n", task=TASK)
    assert (answer.value, answer.kind) == (None, kind)
    assert answer.error and "no" in answer.error


def test_resources_that_sky_does_not_take_are_refused_without_colours(bed: Bed) -> None:
    answer = bed.ask("launch", name="n", task={**TASK, "resources": {"infra": "nowhere"}})
    assert (answer.kind, answer.error) == ("refused", "Cloud 'nowhere' is not a valid cloud")
    assert bed.calls("launch") == []


def test_a_secret_that_sky_quotes_is_said_to_nobody(bed: Bed) -> None:
    bed.says(launch={"raise": ["ValueError", "the secret KEY=hunter22 is odd"]})
    answer = bed.ask("launch", name="n", task={**TASK, "secrets": {"KEY": "hunter22", "EMPTY": ""}})
    assert answer.error == "the secret KEY=*** is odd"
    assert "hunter22" not in bed.log.read_text()


def test_an_api_server_that_does_not_answer_is_asked_nothing(bed: Bed) -> None:
    bed.says(**{"/api/health": {"raise": ["ConnectionRefused", "at http://me:secret@host"]}})
    for do, fields in (
        ("queue", {}),
        ("launch", {"name": "n", "task": TASK}),
        ("check", {}),
        ("cancel", {"job_ids": [1]}),
    ):
        answer = bed.ask(do, **fields)
        assert answer.kind == "unreachable"
        assert "secret" not in str(answer.error)
    assert not any(bed.calls(what) for what in ("queue_v2 asked", "launch", "cancel asked"))


def test_records_are_read_one_by_one(bed: Bed) -> None:
    records = [RECORD, {"job_id": None}, 7, {"job_id": 2, "status": None, "submitted_at": float("nan")}]
    bed.says(queue_v2={"value": [records, 4, {}, 4]})
    value = bed.ask("queue", job_ids=[1, 2], name_match="a", skip_finished=True).value
    assert value is not None
    assert [(r["job_id"], r["status"], r["submitted_at"]) for r in value["records"]] == [
        (1, "RUNNING", None),
        (2, None, None),
    ]
    assert value["records"][0]["failure_reason"] == "why"
    assert "unheard" not in value["records"][0]
    assert (value["complete"], value["bad"]) == (False, 2)
    (call,) = bed.calls("queue_v2 asked")
    assert (call["job_ids"], call["name_match"], call["skip_finished"]) == ([1, 2], "a", True)
    assert (call["refresh"], call["all_users"]) == (False, False)


def test_a_queue_that_is_cut_short_is_not_complete(bed: Bed) -> None:
    bed.says(queue_v2={"value": [[RECORD], 2, {}, 9]})
    value = bed.ask("queue").value
    assert value is not None and (len(value["records"]), value["complete"], value["bad"]) == (1, False, 0)


def test_where_there_never_was_a_controller_there_are_no_jobs(bed: Bed) -> None:
    bed.says(queue_v2={"raise": ["ClusterNotUpError", "No in-progress managed jobs."]})
    assert bed.ask("queue").value == {"records": [], "complete": True, "bad": 0}
    assert bed.ask("queue", job_ids=[3]).kind == "error"


def test_a_controller_that_sleeps_is_woken_for_the_jobs_that_are_asked_for(bed: Bed) -> None:
    bed.says(queue_v2={"raise": ["Asleep", "No in-progress managed jobs."]})
    assert bed.ask("queue").kind == "error"
    assert bed.ask("queue", job_ids=[3]).kind == "error"
    assert [call["refresh"] for call in bed.calls("queue_v2 asked")] == [False, False, True]


def test_requests_that_the_server_does_not_know_are_left_out(bed: Bed) -> None:
    said = [{"request_id": "a", "status": "WAITING"}, {"request_id": "b", "status": "SUCCEEDED"}, {"request_id": "bc"}]
    bed.says(**{"/api/status": {"value": said}, "get": {"value": [12]}})
    assert bed.ask("requests", ids=["a", "b", "c"]).value == {
        "a": {"status": "RUNNING", "job_ids": None, "error": None},
        "b": {"status": "SUCCEEDED", "job_ids": [12], "error": None},
    }
    said = [{"request_id": "a", "status": "FAILED"}]
    bed.says(**{"/api/status": {"value": said}, "get": {"raise": ["NotSupportedError", "spot"]}})
    assert bed.ask("requests", ids=["a"]).value == {"a": {"status": "FAILED", "job_ids": None, "error": "spot"}}


def test_check_and_price(bed: Bed) -> None:
    bed.says(enabled_clouds={"value": ["Slurm", "AWS"]}, get_cost={"value": 1.5})
    assert bed.ask("check").value == {
        "version": "0.14.1",
        "server_version": "0.14.0",
        "endpoint": "http://127.0.0.1:46580",
        "healthy": True,
        "enabled": ["aws", "slurm"],
    }
    assert bed.ask("price", resources={"cpus": 1}).value == {"hourly_usd": 1.5}
    bed.says(get_cost={"raise": ["AssertionError", "not one machine"]})
    assert bed.ask("price", resources={"cpus": 1}).value == {"hourly_usd": None}


SPINNER = '<sky-payload>"<rich_update>Waiting for task to start[/]{}. It may take a few minutes"</sky-payload>\n'
FRAME = [
    "\x1b[2m├── \x1b[0mWaiting for task resources on 1 node.\n",
    "\x1b[32m✓ Job finished (status: FAILED).\x1b[0m\n",
]


def test_a_log_is_what_the_job_printed(bed: Bed) -> None:
    lines = [None, SPINNER.format(""), FRAME[0], "\x1b[36m(setup pid=1)\x1b[0m in setup\n"]
    lines += ["\x1b[36m(n, pid=2)\x1b[0m \x1b[31mred\x1b[0m (n, pid=3) kept\n", "ERROR: Job 1 failed\n", FRAME[1], "\n"]
    bed.says(**{"/jobs/logs": {"value": lines}})
    path = bed.folder / "output.log"
    expected = b"in setup\nred (n, pid=3) kept\nERROR: Job 1 failed\n"
    assert bed.ask("log", job_id=1, path=str(path), tail=50).value == {"bytes": len(expected)}
    assert path.read_bytes() == expected
    assert [entry.name for entry in path.parent.glob("output*")] == ["output.log"]
    assert bed.calls("/jobs/logs")[0]["json"] == {"job_id": 1, "follow": False, "tail": 50}


def test_a_log_that_is_followed_grows_as_it_comes(bed: Bed) -> None:
    lines = [
        SPINNER.format(" (status: STARTING)"),
        "\x1b[36m(n, pid=2)\x1b[0m one\n",
        "\x1b[36m(n, pid=2)\x1b[0m two\n",
    ]
    path = bed.folder / "followed"
    bed.says(**{"/jobs/logs": {"value": [*lines, "hang"]}})
    ticket = bed.client.ask("follow", job_id=1, path=str(path), tail=None)
    until(lambda: bed.collect() or (path.exists() and path.read_bytes() == b"one\ntwo\n"), "two lines")
    assert ticket not in bed.come
    bed.client.close()
    bed.says(**{"/jobs/logs": {"value": [*lines, FRAME[1]]}})
    path.unlink()
    assert bed.ask("follow", job_id=1, path=str(path), tail=7).value == {"bytes": 8}
    assert bed.calls("/jobs/logs")[-1]["json"] == {"job_id": 1, "follow": True, "tail": 7}


@pytest.mark.parametrize(
    "lines",
    [
        [SPINNER.format(""), SPINNER.format(" (status: PENDING)"), "hang"],
        ["\x1b[33mJob 1 is already in terminal state FAILED_PRECHECKS. For more\x1b[0m\n", "Failure reason: none\n"],
        ["Job 1 not found.\n"],
        [],
    ],
)
def test_a_job_without_a_log_touches_no_file_and_is_not_waited_for(bed: Bed, lines: list[str]) -> None:
    bed.says(**{"/jobs/logs": {"value": lines}})
    path = bed.folder / "output.log"
    path.write_text("of an earlier question\n")
    assert bed.ask("log", job_id=1, path=str(path), tail=None).value == {"bytes": 0}
    assert path.read_text() == "of an earlier question\n"
    assert bed.calls("closed")


def test_nodes_are_told_apart() -> None:
    assert clean("\x1b[36m(head, rank=0, pid=2)\x1b[0m a\n") == "a\n"
    assert clean("\x1b[36m(worker1, rank=1, pid=2, ip=10.0.0.2)\x1b[0m a\n") == "[rank 1] a\n"
