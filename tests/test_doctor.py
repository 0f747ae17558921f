"""`metta doctor`: what it finds, what it says to do, and that it changes nothing."""

from __future__ import annotations

import json
import os
import signal
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from metta_jobs import __version__
from metta_jobs.daemon import control
from metta_jobs.daemon.lock import DaemonLock
from metta_jobs.job import JobConfig
from metta_jobs.manager import JobManager
from metta_jobs.paths import StateDir
from metta_jobs.store.migrate import HEAD
from metta_jobs.upkeep.attendance import last_error
from metta_jobs.upkeep.findings import Finding, Verdict
from tests.patients import Case, examine
from tests.processes import metta, until
from tests.store.rows import ENDED_WELL, NOW, RUNNING

OK, WARNING, BROKEN = Verdict.OK, Verdict.WARNING, Verdict.BROKEN


@pytest.fixture
def case(tmp_path: Path) -> Case:
    return Case(tmp_path / "job_state")


def test_a_healthy_folder_is_fine_in_every_respect_and_left_as_it_is(case: Case) -> None:
    group = case.rows.group("g")
    case.rows.job(group, "done", *ENDED_WELL)
    case.folder(1)
    case.rows.store.close()
    before = {path: (path.stat().st_mtime, path.read_bytes()) for path in case.dir.root.rglob("*") if path.is_file()}
    found = examine(case.dir, NOW)
    assert [finding for finding in found if finding.verdict is not OK] == []
    assert [finding.check for finding in found] == [
        *("versions", "state folder", "file system", "disk space", "settings", "database", "queue", "hooks"),
        *("folders", "daemon", "GPUs", "clock", "sizes", "wandb"),
    ]
    after = {path: (path.stat().st_mtime, path.read_bytes()) for path in case.dir.root.rglob("*") if path.is_file()}
    assert after == before
    assert f"1 job, 4 events, schema {HEAD}, no damage" in case.find("database").says


def test_where_there_is_no_queue_nothing_is_made(tmp_path: Path) -> None:
    found = examine(StateDir(tmp_path / "none"), NOW)
    assert {finding.verdict for finding in found} == {OK}
    assert [finding.check for finding in found] == [
        *("versions", "state folder", "disk space", "settings", "GPUs", "clock", "wandb")
    ]
    assert "no job was ever submitted" in found[1].says
    assert not (tmp_path / "none").exists()


# ------------------------------------------------------------------------------------------------ the database


def damage(path: Path, page: int) -> None:
    data = bytearray(path.read_bytes())
    data[(page - 1) * 4096 : page * 4096] = bytes(4096)
    path.write_bytes(data)


@pytest.mark.parametrize("page", [1, 2, 11, 25])
def test_a_damaged_database_is_broken_and_everything_else_is_looked_at_all_the_same(case: Case, page: int) -> None:
    damage(case.dir.database, page)
    found = case.find("database")
    assert found.verdict is BROKEN
    assert "is damaged" in found.says
    assert found.remedy is not None
    assert "metta doctor --repair" in found.remedy
    assert case.find("sizes").verdict is OK
    assert "cannot be read" in case.find("daemon").says


def test_a_database_that_is_gone_is_broken_only_where_there_was_one(case: Case) -> None:
    case.dir.database.unlink()
    assert case.find("database").says == "there is none yet"
    case.folder(3)
    found = case.find("database")
    assert (found.verdict, "the folder of 1 job lies beside it" in found.says) == (BROKEN, True)
    assert not case.dir.database.exists()


def test_an_older_schema_is_no_trouble_and_not_migrated_by_looking(case: Case) -> None:
    case.rows.run("UPDATE alembic_version SET version_num = '0001'")
    assert f"schema 0001 (the next command migrates it to {HEAD})" in case.find("database").says
    case.rows.run("UPDATE alembic_version SET version_num = '9999'")
    found = case.find("database")
    assert (found.verdict, found.remedy) == (BROKEN, "upgrade metta-jobs")


def test_a_broken_promise_is_broken_and_a_lowered_setting_is_not(case: Case) -> None:
    case.rows.capacity(cpus=1)
    group = case.rows.group("g")
    for name in "ab":
        case.rows.job(group, name, *RUNNING)
    found = case.find("slots")
    assert (found.verdict, found.details) == (WARNING, ("Running jobs hold 2 CPU slots, but there are 1.",))
    case.rows.run("UPDATE jobs SET attempt = 7 WHERE id = 1")
    found = case.find("queue")
    assert found.verdict is BROKEN
    assert "Job 1 counts 7 attempts, but 1 are recorded, up to number 1." in found.details


def test_folders_that_belong_to_nobody(case: Case) -> None:
    case.rows.job(case.rows.group("g"), "a", *ENDED_WELL)
    case.rows.job(1, "b", *ENDED_WELL)
    case.rows.run("DELETE FROM events WHERE job_id = 1")
    case.rows.run("DELETE FROM attempts WHERE job_id = 1")
    case.rows.run("DELETE FROM jobs WHERE id = 1")
    case.folder(1)
    case.folder(2)
    found = case.find("folders")
    assert (found.verdict, found.says) == (WARNING, "1 folder in jobs/ without a stored job: 1")
    assert any(detail.startswith("folders without a job ") for detail in case.find("sizes").details)
    case.folder(99)
    found = case.find("folders")
    assert found.verdict is BROKEN
    assert "there is a folder of job 99, but only ids up to 2 were ever given" in found.says


def test_messages_that_cannot_be_delivered_are_told_with_whose_they_are_and_whom_they_are_for(case: Case) -> None:
    group = case.rows.group("g")
    job = case.rows.job(group, "a", *ENDED_WELL)
    message = {"group_id": group, "facts": '{"state": "failed"}', "state": "waiting", "created_at": "x"}
    webhook, command = '{"webhook": "SLACK"}', '{"command": ["notify.sh", "x"]}'
    case.rows.insert("deliveries", **message, hook=webhook)
    assert case.find("hooks").says == "1 message to be delivered"
    case.rows.insert("deliveries", **message, hook=webhook, tries=2, error="no route to host")
    case.rows.insert("deliveries", **message, hook=command, job_id=job, tries=1, error="exit code 3")
    long_ago, lately = (NOW - timedelta(days=3)).isoformat(), (NOW - timedelta(hours=1)).isoformat()
    for when in (long_ago, lately):
        ended = message | {"state": "given_up", "finished_at": when}
        case.rows.insert("deliveries", **ended, hook=command, tries=5, error="exit code 4")
    found = case.find("hooks")
    assert found.verdict is WARNING
    assert found.says == "2 messages could not be delivered yet, 1 message given up within a day"
    assert found.details == (
        "group g failed, to the webhook SLACK: no route to host (tried 2 times)",
        f"job {job} (g/a) failed, to the command notify.sh: exit code 3 (tried once)",
        "group g failed, to the command notify.sh: exit code 4 (given up, tried 5 times)",
    )
    assert found.remedy is not None
    assert "the address of SLACK" in found.remedy
    assert str(case.dir.root / "hooks.log") in found.remedy


# ------------------------------------------------------------------------------------------------ the daemon


def test_jobs_that_wait_for_a_daemon(case: Case) -> None:
    case.rows.job(case.rows.group("g"), "a")
    found = case.find("daemon")
    assert found.verdict is WARNING
    assert found.says == "none runs, and 1 job has not ended"
    assert found.remedy is not None
    assert "daemon start" in found.remedy


def test_what_the_log_complained_of_last(case: Case) -> None:
    local = NOW.astimezone().replace(tzinfo=None)
    lines = [
        f"{local - timedelta(hours=2):%Y-%m-%d %H:%M:%S},123 ERROR the disk is full",
        f"{local - timedelta(hours=1):%Y-%m-%d %H:%M:%S},123 ERROR it is still full: ERROR",
        "Traceback (most recent call last):",
        f"{local:%Y-%m-%d %H:%M:%S},123 INFO all is well, no ERROR here",
    ]
    case.dir.daemon_log.write_text("\n".join(lines))
    assert last_error(case.dir.daemon_log) == (NOW - timedelta(hours=1), "it is still full: ERROR")
    assert case.find("daemon").details == ("last error, 2026-11-21 11:00:00 UTC: it is still full: ERROR",)
    assert case.find("daemon", NOW + timedelta(days=2)).details == ()


def test_a_daemon_of_another_version_or_one_that_is_deaf(case: Case) -> None:
    for version, words in (("0.0.9", "it is of version 0.0.9"), (__version__, "it does not hear its doorbell")):
        lock = DaemonLock(case.dir.daemon_lock)
        assert lock.acquire({"pid": os.getpid(), "started_at": NOW.isoformat(), "version": version})
        found = case.find("daemon")
        assert found.verdict is WARNING
        assert found.says.startswith(words)
        lock.release()


def test_a_real_daemon_running_stopped_complaining_and_gone(manager: JobManager) -> None:
    manager.submit([JobConfig(name="a", command=("true",))], group="g")
    manager.wait(["g"])
    state = StateDir(manager.state_dir)

    def find(check: str = "daemon") -> Finding:
        return {finding.check: finding for finding in examine(state, datetime.now(UTC))}[check]

    holder = control.status(state)
    assert holder is not None
    assert find().verdict is OK
    assert find().says.startswith(f"it runs (pid {holder.pid}, since ")
    assert find("queue").verdict is OK
    os.kill(holder.pid, signal.SIGSTOP)
    try:
        until(lambda: "somebody has stopped it" in find().says, "the stop")
        assert find().remedy == f"`kill -CONT {holder.pid}`"
    finally:
        os.kill(holder.pid, signal.SIGCONT)
    until(lambda: find().verdict is OK, "its waking")
    now = datetime.now() + timedelta(seconds=1)  # noqa: DTZ005  (logs are in local time)
    with state.daemon_log.open("a") as log:
        log.write(f"{now:%Y-%m-%d %H:%M:%S},000 ERROR something is wrong\n")
    assert "has complained" in find().says
    assert find().details[0].endswith("something is wrong")


# ------------------------------------------------------------------------------------------------ the command line


def run(case: Case, *arguments: str) -> tuple[int, str, str]:
    done = metta("--state-dir", case.dir.root, "doctor", *arguments)
    return done.returncode, done.stdout, done.stderr


def test_the_command_prints_a_line_for_each_thing_and_ends_with_0_or_1(case: Case) -> None:
    case.rows.job(case.rows.group("g"), "a")
    code, out, _ = run(case)
    assert code == 0
    lines = out.splitlines()
    assert any(line.startswith("ok       database      1 job,") for line in lines)
    warned = lines.index(next(line for line in lines if line.startswith("warning  daemon")))
    assert lines[warned + 1].strip() == "→ `metta daemon start`."
    damage(case.dir.database, 11)
    code, out, _ = run(case)
    assert code == 1
    assert "broken   database" in out


def test_the_command_speaks_json(case: Case) -> None:
    code, out, _ = run(case, "--json")
    told = json.loads(out)
    assert (code, told["verdict"]) == (0, "ok")
    assert set(told["checks"][0]) == {"check", "verdict", "says", "remedy", "details"}
    damage(case.dir.database, 11)
    code, out, _ = run(case, "--json", "--repair")
    told = json.loads(out)
    assert (code, told["verdict"]) == (0, "ok")
    assert told["repaired"][0].startswith("jobs.sqlite is damaged")


def test_repair_at_the_command_line_saves_looks_again_and_the_queue_goes_on(manager: JobManager) -> None:
    manager.submit([JobConfig(name="a", command=("true",)), JobConfig(name="b", command=("sleep", "600"))], group="g")
    until(lambda: [job.state.value for job in manager.group("g").jobs] == ["succeeded", "running"], "the run")
    state = StateDir(manager.state_dir)
    done = metta("--state-dir", state.root, "doctor", "--repair")
    assert done.returncode == 2
    assert "metta daemon stop" in done.stderr
    manager.stop_daemon()
    manager.close()
    damage(state.database, 1)
    done = metta("--state-dir", state.root, "job", "list")
    assert done.returncode == 2
    assert "metta doctor --repair" in done.stderr
    done = metta("--state-dir", state.root, "doctor", "--repair")
    assert done.returncode == 0, done
    assert "jobs: 2 rows saved" in done.stdout
    assert "ok       queue" in done.stdout
    with JobManager(state.root) as again:
        again.start_daemon()
        assert [job.state.value for job in again.group("g").jobs] == ["succeeded", "running"]
        again.kill(["g"])
        assert again.wait(["g"], timeout_s=60)[1].state.value == "killed"


def test_there_is_nothing_to_repair_where_there_is_nothing(tmp_path: Path) -> None:
    done = metta("--state-dir", tmp_path / "none", "doctor", "--repair")
    assert (done.returncode, "There is nothing to repair" in done.stderr) == (2, True)
