"""Hooks: to whom their messages go and how often; and what no hook can do to the queue."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from metta_jobs.daemon import deliver
from metta_jobs.daemon.hooks import OVERDUE_S, Courier
from metta_jobs.daemon.house import House
from metta_jobs.daemon.lock import holder
from metta_jobs.daemon.secrets import Secrets
from metta_jobs.daemon.tick import tick
from metta_jobs.job import JobConfig
from metta_jobs.manager import JobManager
from metta_jobs.policy import GroupConfig, Hook
from metta_jobs.testing import FakeExecutor, ManualClock, add
from tests.daemon.hook_cases import SECRET, Slack, means_of
from tests.processes import kill_daemon, until


@pytest.fixture
def courier(house: House) -> Iterator[Courier]:
    opened = Courier(means_of(house), Secrets())
    yield opened
    opened.close(house.store, house.clock)


def end_all(house: House, *hooks: Hook, jobs: int = 1, code: int = 1, name: str = "j") -> None:
    """Run `jobs` jobs with these hooks to their end."""
    ids = add(house, *(JobConfig(name=f"{name}{i}", command=("x",), on_end=hooks) for i in range(jobs)))
    tick(house)
    executor = house.executors["local"]
    assert isinstance(executor, FakeExecutor)
    for job_id in ids:
        executor.end((job_id, 1), code)
    tick(house)


def manual(house: House) -> ManualClock:
    assert isinstance(house.clock, ManualClock)
    return house.clock


def states(house: House) -> list[str]:
    with house.store.read() as connection:
        return [row["state"] for row in connection.execute("SELECT state FROM deliveries ORDER BY id")]


def error(house: House) -> str | None:
    with house.store.read() as connection:
        (said,) = connection.execute("SELECT error FROM deliveries ORDER BY id DESC").fetchone()
    return None if said is None else str(said)


def tried(house: House) -> int:
    with house.store.read() as connection:
        return int(connection.execute("SELECT sum(tries) FROM deliveries").fetchone()[0])


def tend_until(courier: Courier, house: House, done: Callable[[], Any]) -> None:
    def look() -> Any:
        courier.tend(house.store, house.clock)
        return done()

    until(look, "the courier")


def digest_facts(**fields: Any) -> dict[str, Any]:
    counts = {"succeeded": 5, "failed": 1, "timed_out": 0, "killed": 0, "lost": 0, "skipped": 0}
    failures = [{"job_id": 3, "name": "high_lr", "state": "failed", "exit_code": 1, "reason": "exit code 1"}]
    ours = {"event": "group_ended", "group": "g", "state": "failed", "outcome": "failure"}
    return {**ours, "counts": counts, "failures": failures, "duration_s": 3790.0, **fields}


# ---------------------------------------------------------------------------------------------------- the courier


def test_a_command_gets_the_facts_and_nothing_of_a_job(
    house: House, courier: Courier, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("METTA_ATTEMPT_TOKEN", "of the job that started the daemon")
    monkeypatch.setenv("METTA_JOB_NAME", "another")
    monkeypatch.setenv("TEAM_TOKEN", "needed-by-the-command")
    out = tmp_path / "environment"
    hook = Hook(command=("sh", "-c", f"env -0 > {out}.new && mv {out}.new {out}"))
    end_all(house, hook, name="a=$HOME,".replace("$", ""), code=7)
    tend_until(courier, house, lambda: states(house) == ["delivered"])
    told = dict(part.split("=", 1) for part in out.read_text().split("\0") if part)
    assert "METTA_ATTEMPT_TOKEN" not in told
    assert (told["METTA_ATTEMPT_NONE"], told["TEAM_TOKEN"]) == ("1", "needed-by-the-command")
    assert (told["METTA_EVENT"], told["METTA_GROUP"], told["METTA_JOB_NAME"]) == ("job_ended", "g", "a=HOME,0")
    assert (told["METTA_STATE"], told["METTA_EXIT_CODE"], told["METTA_ATTEMPT"]) == ("failed", "7", "1")
    assert (told["METTA_REASON"], told["METTA_JOB_STATE"]) == ("exit code 7", str(house.state_dir.root))
    assert told["METTA_TEXT"] == "g/a=HOME,0 failed after 0 s: exit code 7"
    assert told["METTA_JOB_DIR"] == str(house.state_dir.attempt(1, 1))


def test_a_server_that_fails_twice_is_told_once_it_can_hear(house: House, slack: Slack) -> None:
    slack.answers = [500, 503]
    courier = Courier(means_of(house, settings_webhook={"TEAM": slack.url}.get), Secrets())
    end_all(house, Hook(webhook="TEAM"))
    for number, status in ((1, "500 (Internal Server Error)"), (2, "503 (Service Unavailable)")):
        tend_until(courier, house, lambda number=number: tried(house) == number)
        assert (states(house), error(house)) == (["waiting"], f"answered {status}")
        courier.tend(house.store, house.clock)
        assert len(slack.heard) == number and courier.busy  # it pauses
        manual(house).advance(31)
    tend_until(courier, house, lambda: states(house) == ["delivered"])
    assert slack.heard == [{"text": "g/j0 failed after 0 s: exit code 1"}] * 3
    courier.tend(house.store, house.clock)
    assert not courier.busy
    courier.close(house.store, house.clock)


def test_one_that_hangs_holds_up_nobody_else_and_is_given_up_in_the_end(
    house: House, courier: Courier, monkeypatch: pytest.MonkeyPatch
) -> None:
    forever = threading.Event()
    asked: list[str] = []

    def stuck(hook: Hook, *_: object) -> None:
        asked.append(str(hook.webhook))
        if hook.webhook == "STUCK":
            forever.wait()

    monkeypatch.setattr(deliver, "deliver", stuck)
    end_all(house, Hook(webhook="STUCK"), Hook(webhook="WELL"), jobs=5)
    tend_until(courier, house, lambda: states(house).count("delivered") == 5)
    assert asked.count("STUCK") == 1
    manual(house).advance(OVERDUE_S + 1)
    tend_until(courier, house, lambda: asked.count("STUCK") == 2)
    assert (tried(house), states(house).count("waiting")) == (6, 5)
    forever.set()  # the first comes back, late: what it says is not believed
    tend_until(courier, house, lambda: asked.count("STUCK") == 5)


def test_messages_of_one_hook_come_in_order_and_one_at_a_time(house: House, courier: Courier, tmp_path: Path) -> None:
    out = tmp_path / "told"
    script = f'test ! -e {out}.busy || exit 9; touch {out}.busy; echo "$METTA_JOB_NAME" >> {out}; rm {out}.busy'
    end_all(house, Hook(command=("sh", "-c", script)), jobs=9)
    tend_until(courier, house, lambda: states(house) == ["delivered"] * 9)
    assert out.read_text().split() == [f"j{i}" for i in range(9)]


def test_a_defect_in_delivering_is_tried_again_and_tells_no_secret(
    house: House, courier: Courier, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError(SECRET)

    monkeypatch.setattr(deliver, "deliver", broken)
    end_all(house, Hook(webhook="TEAM"))
    tend_until(courier, house, lambda: tried(house) == 1)
    assert error(house) == "could not be tried (ZeroDivisionError; see daemon.log)"
    assert "in broken" in caplog.text and SECRET not in caplog.text


def test_a_defect_in_tending_holds_up_the_messages_and_not_the_daemon(
    house: House, courier: Courier, monkeypatch: pytest.MonkeyPatch
) -> None:
    end_all(house, Hook(command=("true",)))
    with monkeypatch.context() as patch:
        patch.setattr("metta_jobs.store.outbox.waiting", lambda *_: 1 // 0)
        assert courier.tend(house.store, house.clock) is False
        assert courier.tend(house.store, house.clock) is False
    manual(house).advance(31)
    tend_until(courier, house, lambda: states(house) == ["delivered"])


def test_a_hook_of_a_later_version_is_given_up_at_once(house: House, courier: Courier) -> None:
    end_all(house, Hook(command=("true",)))
    with house.store.write() as connection:
        connection.execute("""UPDATE deliveries SET hook = '{"pigeon":"Bertha"}'""")
    tend_until(courier, house, lambda: states(house) == ["given_up"])
    assert error(house) == "this version of metta-jobs cannot read the hook"


def test_a_machine_without_a_thread_to_spare_is_no_fault_of_the_message(
    house: House, courier: Courier, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    end_all(house, Hook(command=("true",)))
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        courier.tend(house.store, house.clock)
        assert (tried(house), courier.busy) == (0, True)
    tend_until(courier, house, lambda: states(house) == ["delivered"])


def test_nothing_to_tell_costs_next_to_nothing(house: House, courier: Courier) -> None:
    courier.tend(house.store, house.clock)
    began = time.process_time()
    for _ in range(1000):
        assert courier.tend(house.store, house.clock) is False
    assert time.process_time() - began < 0.5  # measured: 10 µs each


def test_what_a_stopped_daemon_was_about_to_tell_the_next_one_tells(house: House, tmp_path: Path) -> None:
    out, first = tmp_path / "told", tmp_path / "first"
    script = f"if mkdir {first}; then sleep 600; else echo told >> {out}; fi"
    end_all(house, Hook(command=("sh", "-c", script)))
    courier = Courier(means_of(house), Secrets())
    tend_until(courier, house, first.exists)
    courier.close(house.store, house.clock)
    assert (states(house), tried(house)) == (["waiting"], 0)
    courier = Courier(means_of(house), Secrets())
    tend_until(courier, house, lambda: states(house) == ["delivered"])
    assert out.read_text() == "told\n"
    courier.close(house.store, house.clock)


def test_an_ending_daemon_records_what_was_just_delivered(house: House) -> None:
    end_all(house, Hook(command=("true",)))
    courier = Courier(means_of(house), Secrets())
    courier.tend(house.store, house.clock)
    courier.close(house.store, house.clock)
    assert states(house) == ["delivered"]


# ---------------------------------------------------------------------------------------------------- all together


def everything_written(root: Path) -> str:
    return "".join(path.read_bytes().decode(errors="replace") for path in root.rglob("*") if path.is_file())


def test_a_submitter_s_address_reaches_the_server_and_nothing_that_is_written(
    manager: JobManager, slack: Slack, monkeypatch: pytest.MonkeyPatch
) -> None:
    manager.start_daemon()
    monkeypatch.setenv("TEAM_ROOM", slack.url)  # looks like nothing secret, and the daemon does not have it
    slack.answers = [500]
    group = GroupConfig(on_end=(Hook(webhook="TEAM_ROOM"),))
    jobs = [JobConfig(name="good", command=("true",)), JobConfig(name="bad", command=("false",))]
    manager.submit(jobs, group="g", options=group)

    def told() -> list[str | None]:
        return [event.reason for event in manager.events(["g"]) if event.kind == "hook"]

    assert until(told, "the digest") == ["told by the webhook TEAM_ROOM"]
    assert len(slack.heard) == 2
    assert slack.heard[1]["text"].startswith("g: 1 of 2 succeeded, 1 failed in ")
    manager.stop_daemon()
    assert SECRET not in everything_written(manager.state_dir)


def test_a_killed_daemon_s_messages_are_told_by_the_next(manager: JobManager, state_dir: Path, tmp_path: Path) -> None:
    first, out = tmp_path / "first", tmp_path / "told"
    script = f"test ! -e {first} && echo $$ > {first} && exec sleep 600; echo $METTA_STATE $METTA_COUNTS >> {out}"
    group = GroupConfig(on_end=(Hook(command=("sh", "-c", script)),))
    manager.submit([JobConfig(name="a", command=("true",))], group="g", options=group)
    orphan = int(until(lambda: first.exists() and first.read_text(), "the first try"))
    kill_daemon(state_dir)
    manager.start_daemon()
    until(lambda: out.exists() and out.read_text(), "the next try")
    until(lambda: [event for event in manager.events(["g"]) if event.kind == "hook"], "the record of it")
    assert out.read_text().startswith("succeeded {") and out.read_text().count("\n") == 1
    os.kill(orphan, signal.SIGKILL)


def test_a_daemon_does_not_end_itself_while_it_has_something_to_tell(
    manager: JobManager, state_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("METTA_DAEMON_IDLE_EXIT_S", "0.1")
    first, out = tmp_path / "first", tmp_path / "told"
    hook = Hook(command=("sh", "-c", f"mkdir {first} && exit 1; echo told > {out}"))
    manager.submit([JobConfig(name="a", command=("true",), on_end=hook)], group="g")
    until(out.exists, "the second try, 5 s after the first")
    until(lambda: holder(state_dir / "daemon.lock") is None, "the daemon's own end")


def test_a_named_secret_reaches_a_job_though_its_submit_started_the_daemon(
    manager: JobManager, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PLAIN_LOOKING", "value")
    out = tmp_path / "seen"
    command = ("sh", "-c", f"echo $PLAIN_LOOKING > {out}")
    manager.submit([JobConfig(name="a", command=command, secrets=("PLAIN_LOOKING",))], group="g")
    manager.wait(["g"])
    assert out.read_text() == "value\n"


def test_an_address_is_refused_in_a_configuration() -> None:
    with pytest.raises(ValueError, match="given by name"):
        Hook(webhook="https://hooks.slack.com/services/T0/B0/x")
    with pytest.raises(ValueError, match="exactly one"):
        Hook(webhook="A", desktop=True)
