"""What `metta doctor` says of the machine, and of errors that a check meets."""

from __future__ import annotations

import errno
import logging
import os
import socket
import sqlite3
from collections import namedtuple
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from metta_jobs import __version__, filesystem
from metta_jobs.daemon.lock import DaemonLock
from metta_jobs.errors import InvalidInput, StoreTooNew
from metta_jobs.settings import Settings
from metta_jobs.store.migrate import HEAD
from metta_jobs.upkeep import doctor, machine, sizes
from metta_jobs.upkeep.findings import Finding, Verdict
from metta_jobs.upkeep.patient import Patient
from tests.patients import Case
from tests.store.rows import ENDED_WELL, NOW

OK, WARNING, BROKEN = Verdict.OK, Verdict.WARNING, Verdict.BROKEN
Statvfs = namedtuple("Statvfs", "f_bavail f_frsize f_blocks f_files f_favail")


@pytest.fixture
def case(tmp_path: Path) -> Case:
    return Case(tmp_path / "job_state")


def test_a_folder_that_others_may_look_into(case: Case) -> None:
    case.dir.root.chmod(0o755)
    found = case.find("state folder")
    assert (found.verdict, found.remedy) == (WARNING, f"`chmod 700 {case.dir.root}`")
    case.dir.root.chmod(0o700)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(case.dir.doorbell))
        case.dir.doorbell.chmod(0o666)
        assert case.find("state folder").remedy == f"`chmod 600 {case.dir.doorbell}`"
        case.dir.doorbell.chmod(0o600)
        assert case.find("state folder").verdict is OK


@pytest.mark.skipif(os.geteuid() != 0, reason="gives a folder away")
def test_a_folder_of_another_user(case: Case) -> None:
    os.chown(case.dir.root, 12345, -1)
    found = case.find("state folder")
    assert (found.verdict, "belongs to another user" in found.says) == (WARNING, True)


def test_a_network_file_system(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(filesystem, "kind", lambda _: "nfs4")
    found = case.find("file system")
    assert found.verdict is BROKEN
    assert found.says.startswith("nfs4 is a network file system")
    monkeypatch.setenv("METTA_ALLOW_NETWORK_FS", "1")
    assert case.find("file system").verdict is WARNING


@pytest.mark.parametrize(
    ("free", "inodes", "verdict"),
    [(10**12, 10**6, OK), (5 * 10**8, 10**6, WARNING), (10**6, 10**6, BROKEN), (10**12, 3, BROKEN)],
)
def test_a_disk_that_fills_up(
    case: Case, monkeypatch: pytest.MonkeyPatch, free: int, inodes: int, verdict: Verdict
) -> None:
    monkeypatch.setattr(os, "statvfs", lambda _: Statvfs(free, 1, 10**12, 10**7, inodes))
    assert case.find("disk space").verdict is verdict


def test_settings_that_cannot_be_read(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("METTA_CPUS", "many")
    found = case.find("settings")
    assert (found.verdict, "cpus='many'" in found.says) == (BROKEN, True)
    assert case.find("sizes").verdict is OK


def test_gpus(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("METTA_GPUS", "0,GPU-x,amd:1")
    assert case.find("GPUs").says == "3 by the settings: 0, GPU-x, amd:1"
    case.rows.capacity(gpus=("7",))  # of a daemon that has ended
    assert case.find("GPUs").says == "3 by the settings: 0, GPU-x, amd:1"
    lock = DaemonLock(case.dir.daemon_lock)
    assert lock.acquire({"pid": os.getpid(), "started_at": NOW.isoformat(), "version": __version__})
    found = case.find("GPUs")
    assert (found.verdict, found.says) == (WARNING, "1 given out by the daemon: 7")
    assert found.details[-1].startswith("in this shell: 3 by the settings: 0, GPU-x, amd:1")
    monkeypatch.setenv("METTA_GPUS", "7")
    assert case.find("GPUs").verdict is OK
    lock.release()


def test_a_driver_that_does_not_answer_is_told(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("METTA_GPUS")

    def find(settings: Settings) -> tuple[str, ...]:
        logging.getLogger("metta_jobs.daemon").warning("the driver hangs")
        return ()

    monkeypatch.setattr(machine, "find_gpus", find)
    found = case.find("GPUs")
    assert (found.verdict, found.says, found.details) == (WARNING, "none found", ("the driver hangs",))


@pytest.mark.parametrize("gpus", ["two", "0,-1", "GPU-", "amd:", "1.0", "0 1"])
def test_what_names_no_gpu_is_refused(case: Case, monkeypatch: pytest.MonkeyPatch, gpus: str) -> None:
    monkeypatch.setenv("METTA_GPUS", gpus)
    found = case.find("settings")
    assert (found.verdict, "is the name of no GPU" in found.says) == (BROKEN, True)
    assert case.find("GPUs").says == "not looked for: the settings cannot be read"


def sqlite_error(name: str) -> sqlite3.Error:
    error = sqlite3.OperationalError("words")
    error.sqlite_errorname = name
    return error


@pytest.mark.parametrize(
    ("error", "advice"),
    [
        (PermissionError(errno.EACCES, "denied"), "permissions"),
        (OSError(errno.ENOSPC, "full"), "job prune"),
        (OSError(errno.EMFILE, "too many"), "ulimit"),
        (OSError(errno.EIO, "bad"), "dmesg"),
        (sqlite_error("SQLITE_BUSY_RECOVERY"), "another program"),
        (sqlite_error("SQLITE_FULL"), "job prune"),
        (sqlite3.DatabaseError("malformed"), "--repair"),
        (InvalidInput("The setting 'cpus' cannot be used."), "do as it says"),
        (StoreTooNew("newer"), "upgrade"),
    ],
)
def test_the_advice_follows_from_what_went_wrong(
    case: Case, monkeypatch: pytest.MonkeyPatch, error: Exception, advice: str
) -> None:
    def fail(_: Patient) -> Iterator[Finding]:
        raise error
        yield

    monkeypatch.setattr(doctor, "_CHECKS", (("x", fail),))
    found = case.find("x")
    assert found.verdict is BROKEN
    assert advice in (found.remedy or "")


def test_a_clock_that_was_set_back(case: Case) -> None:
    case.rows.job(case.rows.group("g"), "a", *ENDED_WELL)
    assert case.find("clock").verdict is OK
    found = case.find("clock", NOW - timedelta(hours=3))
    assert (found.verdict, "2026-11-21 12:00 UTC, which is yet to come" in found.says) == (WARNING, True)
    assert case.find("clock", datetime(1970, 1, 2, tzinfo=UTC)).verdict is BROKEN


def test_sizes_name_the_largest(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(7):
        job = case.rows.job(case.rows.group(f"g{number}"), "a", *ENDED_WELL)
        case.folder(job, 100_000 * (number + 1))
    (case.dir.root / f"jobs.sqlite.before-{HEAD}").write_bytes(b"x" * 5000)
    details = case.find("sizes").details
    assert [detail.split()[1] for detail in details if detail.startswith("group ")] == ["g6", "g5", "g4", "g3", "g2"]
    assert any(detail.startswith(f"copy jobs.sqlite.before-{HEAD} ") for detail in details)
    connection = sqlite3.connect(case.dir.database)
    connection.execute("SELECT count(*) FROM jobs").fetchone()
    connection.execute("UPDATE jobs SET place = place + 1")
    connection.commit()
    monkeypatch.setattr(sizes, "LARGE_LOG", 1)
    assert case.find("sizes").verdict is WARNING
    connection.close()
