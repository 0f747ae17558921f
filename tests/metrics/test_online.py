"""W&B's server asked by the real client over HTTP: groups, curves, budget, memory, and all that may go wrong."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from wandb_server import Run, Server

from metta_jobs.metrics import Series, read_series
from metta_jobs.metrics.online.answers import BURST, Answers
from metta_jobs.metrics.online.client import WandbClient, WandbError
from metta_jobs.metrics.online.runs import list_runs

LOGGING = """
import os, wandb
run = wandb.init(config={"lr": 0.1, "total_timesteps": 5000})
for i in range(50):
    run.log({"rollout/ep_rew_mean": i / 2, "global_step": 100 * i, "odd": float("nan")})
    if i % 10 == 0:
        run.log({"eval/score": i})
run.finish()
"""


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as server:
        yield server
        assert server.unknown == []


@pytest.fixture
def client(server: Server, tmp_path: Path) -> Iterator[WandbClient]:
    environment = {**os.environ, **server.environment(), "WANDB_SERVICE": "nobody", "WANDB_RUN_ID": "other"}
    client = WandbClient(tmp_path, environment=environment, pauses_s=(0.0,), wait=lambda seconds: None)
    yield client
    client.close()


def add_runs(server: Server, *states: str) -> None:
    for number, state in enumerate(states):
        run = Run("toy", f"r{number}", f"job{number}", "g", ["x"], {"lr": {"value": number}}, state=state)
        run.rows = [{"_step": i, "overview/reward": i * number, "global_step": 10 * i} for i in range(3000)]
        run.summary = {"overview/reward": 2999 * number, "global_step": 29990}
        run.created = 1.75e9 + number
        server.add(run)


def test_a_group_in_one_request_and_its_states_in_our_words(server: Server, client: WandbClient) -> None:
    said = ("running", "finished", "failed", "crashed", "killed", "preempting", "preempted", "pending")
    add_runs(server, *said)
    runs = list_runs(client, "toy", filters={"group": "g"}, order="+created_at")
    assert [run.said for run in runs] == list(said)
    assert [run.state for run in runs] == [
        *("running", "succeeded", "failed", "lost", "killed", "running", "preempted", "pending")
    ]
    assert server.count("Runs") == 1
    assert (runs[1].name, runs[1].config, runs[1].told["tags"]) == ("job1", {"lr": 1}, ["x"])
    assert runs[1].progress.reward == 2999
    assert runs[1].created_at and runs[1].created_at.timestamp() == 1.75e9 + 1
    assert list_runs(client, "toy", filters={"group": "g"}, order="+created_at")[0].told == runs[0].told
    assert server.count("Runs") == 1, "the second time it was remembered"


def test_a_project_or_a_group_that_is_not_there_yet_is_no_error(server: Server, client: WandbClient) -> None:
    assert list_runs(client, "later") == []
    add_runs(server, "running")
    assert list_runs(client, "toy", filters={"group": "later"}) == []
    assert list_runs(client, "later", fresh_s=0) == []


def test_curves_come_one_key_at_a_time_and_are_remembered(server: Server, client: WandbClient) -> None:
    add_runs(server, "running", "running")
    run = list_runs(client, "toy", order="+created_at")[1]
    series = run.history(["overview/reward", "overview/sps", "nope"], samples=100)
    assert len(series["overview/reward"]) == 100
    assert series["overview/reward"].steps[-1] == 29990
    assert series["nope"] == series["overview/sps"] == Series([], [])
    assert server.count("RunSampledHistory") == 1, "what the run has not logged is not asked for"
    assert run.history(["overview/reward"], samples=100)["overview/reward"] == series["overview/reward"]
    assert server.count("RunSampledHistory") == 1
    whole = run.history(["overview/reward"], samples=None)["overview/reward"]
    assert whole == Series([10.0 * i for i in range(3000)], [float(i) for i in range(3000)])


def test_a_run_that_logs_online_gives_what_its_log_on_disk_gives(
    server: Server, client: WandbClient, tmp_path: Path
) -> None:
    env = {key: value for key, value in os.environ.items() if not key.startswith("WANDB_")} | server.environment()
    env |= {"WANDB_MODE": "online", "WANDB_RUN_ID": "g-a-1", "WANDB_RUN_GROUP": "g", "WANDB_NAME": "a"}
    env |= {"WANDB_PROJECT": "toy", "WANDB_TAGS": "one,two", "WANDB_DIR": str(tmp_path), "WANDB_RESUME": "allow"}
    env |= {"WANDB_SILENT": "true", "WANDB_X_DISABLE_STATS": "true", "WANDB_CONSOLE": "off"}
    done = subprocess.run([sys.executable, "-c", LOGGING], env=env, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (run,) = list_runs(client, "toy", filters={"group": "g", "tags": {"$in": ["two"]}, "username": "ann"})
    assert (run.run_id, run.name, run.state) == ("g-a-1", "a", "succeeded")
    assert run.config == {"lr": 0.1, "total_timesteps": 5000}
    keys = ["overview/reward", "eval/score", "odd"]
    online, local = run.history(keys, None), read_series(tmp_path, keys, None)
    assert repr(online) == repr(local)
    assert len(local["overview/reward"]) == 50 and len(local["eval/score"]) == 5
    assert (run.progress.steps, run.progress.total, run.progress.reward) == (4900, 5000, 24.5)


@pytest.mark.parametrize("status", [429, 500, 503])
def test_what_passes_is_tried_again(server: Server, client: WandbClient, status: int) -> None:
    add_runs(server, "running")
    troubles = iter([(status, 0.0)])
    server.fault = lambda name: next(troubles, None) if name == "Runs" else None
    (run,) = list_runs(client, "toy")
    assert run.stale is None
    assert server.count("Runs") >= 2


@pytest.mark.parametrize("trouble", [(429, 0.0), (502, 0.0), (200, 30.0)])
def test_what_does_not_pass_gives_the_old_answer_marked_as_stale(
    server: Server, client: WandbClient, trouble: tuple[int, float]
) -> None:
    add_runs(server, "running")
    list_runs(client, "toy")
    client.timeout_s = 1
    server.fault = lambda name: trouble
    (run,) = list_runs(client, "toy", fresh_s=0)
    assert run.stale and run.name == "job0"
    asked = len(server.asked)
    (again,) = list_runs(client, "toy", fresh_s=0)
    assert again.stale == run.stale
    assert len(server.asked) == asked, "a silent server is left alone for a while"
    with pytest.raises(WandbError, match=r"cannot be asked.*Try again"):
        list_runs(client, "other")


def test_a_wrong_key_is_told_and_not_tried_again(server: Server, tmp_path: Path) -> None:
    environment = {**os.environ, **server.environment(), "WANDB_API_KEY": "9" * 40}
    client = WandbClient(tmp_path, environment=environment)
    try:
        with pytest.raises(WandbError, match=r"refuses.*not logged in.*WANDB_API_KEY"):
            list_runs(client, "toy")
        assert server.count("Viewer") == 1
    finally:
        client.close()


def test_without_a_login_nothing_is_started(tmp_path: Path) -> None:
    client = WandbClient(tmp_path, environment={"HOME": str(tmp_path)})
    assert not client.configured
    with pytest.raises(WandbError, match="wandb login"):
        list_runs(client, "toy")


def test_the_worker_leaves_this_process_as_it_was(server: Server, client: WandbClient) -> None:
    before = dict(os.environ)
    add_runs(server, "running")
    list_runs(client, "toy")
    assert dict(os.environ) == before
    worker = client._worker
    assert worker is not None
    worker._process.kill()
    worker._process.wait()
    assert list_runs(client, "toy", fresh_s=0)[0].stale is None, "another is started"


def test_the_budget_gives_bursts_and_sixty_a_minute_to_all_together(tmp_path: Path) -> None:
    now = [1000.0]
    one, other = (Answers(tmp_path / "metrics.sqlite", lambda: now[0]) for _ in range(2))
    assert all(one.take() == 0 for _ in range(int(BURST) - 1))
    assert other.take() == 0
    assert other.take() == pytest.approx(1.0)
    now[0] += 10
    assert sum(one.take() == 0 for _ in range(20)) == 10
    other.charge(5)
    now[0] += 5
    assert one.take() > 0
    now[0] -= 500
    assert one.take() > 0
    now[0] += 10_000
    assert one.take(100) == 0, "a large question is granted when the budget is full"
    assert one.take() > 60


def test_when_the_budget_is_spent_what_is_known_is_shown_as_stale(server: Server, client: WandbClient) -> None:
    add_runs(server, "running")
    list_runs(client, "toy")
    client.answers.charge(1000)
    (run,) = list_runs(client, "toy", fresh_s=0)
    assert run.stale == "the budget of requests is spent for now"
    assert server.count("Runs") == 1


def test_a_damaged_memory_is_begun_anew_and_an_old_answer_goes(tmp_path: Path) -> None:
    now = [time.time()]
    answers = Answers(tmp_path / "metrics.sqlite", lambda: now[0])
    answers.put("a", [1])
    assert answers.get("a") == (now[0], [1])
    now[0] += 31 * 24 * 3600
    answers.put("b", {"x": None})
    assert answers.get("a") is None
    (tmp_path / "metrics.sqlite").write_bytes(b"no database at all" * 100)
    for end in ("-wal", "-shm"):
        (tmp_path / f"metrics.sqlite{end}").unlink(missing_ok=True)
    assert answers.get("b") is None
    answers.put("b", 2)
    assert answers.get("b") == (now[0], 2)
