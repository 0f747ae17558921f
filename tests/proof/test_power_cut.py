"""The whole machine dies: what a disk may hold afterwards is opened and told truly, or refused with a sentence."""

from __future__ import annotations

import random
import shutil
import sqlite3
from pathlib import Path

import pytest

from metta_jobs.daemon.house import House
from metta_jobs.daemon.tick import tick
from metta_jobs.errors import StoreError
from metta_jobs.executors import processes
from metta_jobs.executors.local import LocalExecutor
from metta_jobs.manager import JobManager
from metta_jobs.paths import StateDir
from metta_jobs.policy import RetryPolicy
from metta_jobs.states import JobState
from metta_jobs.store.audit import audit
from metta_jobs.store.capacity import Machine
from metta_jobs.store.engine import Store
from metta_jobs.testing import FakeReadings, ManualClock
from tests.processes import until
from tests.proof.checker import witness


def _copies(manager: JobManager, tmp_path: Path, count: int, rng: random.Random) -> list[Path]:
    """Copies of a busy state folder, each made while jobs start and end."""
    log = tmp_path / "witness"
    jobs = [witness(f"j{i}", log, rng.choice([0, 0, 0.02, 0.3]), int(i % 4 == 0)) for i in range(60)]
    jobs += [witness(f"k{i}", log, depends_on=(f"afterany:j{i}",), retry=RetryPolicy()) for i in range(20)]
    manager.submit(jobs, group="g")
    copies = []
    for number in range(count):
        enough = rng.randrange(1, 60)
        until(lambda enough=enough: manager.groups()[0].counts.completed + 5 >= min(enough, 40))
        copy = tmp_path / f"copy{number}" / "job_state"
        copy.mkdir(parents=True)
        # The write-ahead log last: what it holds beyond the database is what a power cut may take.
        for name in ("jobs.sqlite", "jobs.sqlite-wal"):
            shutil.copy(manager.state_dir / name, copy / name)
        shutil.copytree(
            manager.state_dir / "runners", copy / "runners", ignore=shutil.ignore_patterns("*.sock", "*.spare")
        )
        (copy / "jobs" / "1" / "1").mkdir(parents=True)
        copies.append(copy)
    manager.kill(["g"], force=True)
    manager.wait(["g"], timeout_s=60)
    return copies


def _damage(copy: Path, how: str, rng: random.Random) -> None:
    wal, database = copy / "jobs.sqlite-wal", copy / "jobs.sqlite"
    if how == "wal cut" and wal.stat().st_size:
        with wal.open("r+b") as file:
            file.truncate(rng.randrange(wal.stat().st_size))
    elif how == "wal gone":
        wal.unlink()
    elif how in ("zero page in wal", "zero page in database"):
        path = wal if how == "zero page in wal" else database
        pages = path.stat().st_size // 4096
        if pages:
            with path.open("r+b") as file:
                file.seek(rng.randrange(pages) * 4096)
                file.write(bytes(4096))
    elif how == "journals half":
        for path in (copy / "runners").glob("*.journal"):
            text = path.read_bytes().rstrip(b"\0")
            path.write_bytes(text[: rng.randrange(len(text) + 1)])
    elif how == "journals empty":
        for path in (copy / "runners").glob("*.journal"):
            path.write_bytes(b"")


HOWS = ["whole", "wal cut", "wal gone", "zero page in wal", "zero page in database", "journals half", "journals empty"]


@pytest.mark.parametrize("seed", range(3))
def test_after_a_power_cut_the_truth_is_told_or_the_damage(
    manager: JobManager, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    rng = random.Random(seed)
    opened = 0
    copies = _copies(manager, tmp_path, len(HOWS), rng)
    monkeypatch.setattr(processes, "boot_id", lambda: "the-next-boot")
    for copy, how in zip(copies, HOWS, strict=True):
        _damage(copy, how, rng)
        try:
            store = Store(copy / "jobs.sqlite")
            with store.read() as connection:
                (check,) = connection.execute("PRAGMA quick_check").fetchone()
                jobs = connection.execute("SELECT id, state FROM jobs").fetchall()
            if check != "ok":
                continue  # `metta doctor` finds it; what is damaged is not to be run on
            assert how == "wal gone" or how.startswith("zero") or how == "wal cut" or len(jobs) == 80
            _after_the_boot(store, copy, {row["id"]: JobState(row["state"]) for row in jobs})
            opened += 1
        except StoreError as error:
            assert "metta doctor" in str(error), how
            assert "zero" in how or "wal" in how, how
    assert opened >= 3


def _after_the_boot(store: Store, copy: Path, before: dict[int, JobState]) -> None:
    state_dir = StateDir(copy)
    clock = ManualClock()
    machine = Machine(cpus=0, memory_gb=1)  # nothing new starts here
    readings = FakeReadings(clock)
    house = House(store, state_dir, {"local": LocalExecutor(state_dir)}, clock, machine, readings, "the-next-boot")
    for _ in range(5):
        tick(house)
    with store.read() as connection:
        assert audit(connection) == []
        rows = connection.execute("SELECT id, state, reason FROM jobs").fetchall()
    for row in rows:
        state, was = JobState(row["state"]), before[row["id"]]
        assert not state.live, f"job {row['id']} was {was} and is {state}"
        if was.terminal:
            assert state is was  # what was told stays true
        if was.live and state is JobState.LOST:
            assert "restarted" in (row["reason"] or "") or "gone" in (row["reason"] or ""), row["reason"]
    house.executors["local"].close()
    store.close()


def test_a_database_that_is_gone_is_missed(manager: JobManager) -> None:
    manager.submit([witness("a", manager.state_dir.parent / "log")], group="g")
    manager.wait(["g"], timeout_s=30)
    manager.stop_daemon()
    manager.close()
    (manager.state_dir / "jobs" / "1").mkdir(parents=True, exist_ok=True)
    for path in manager.state_dir.glob("jobs.sqlite*"):
        path.unlink()
    with pytest.raises(StoreError, match="metta doctor --repair"):
        JobManager(manager.state_dir)
    (manager.state_dir / "jobs.sqlite").touch()
    with pytest.raises(StoreError, match="metta doctor --repair"):
        JobManager(manager.state_dir)


def test_a_migration_killed_at_any_statement_leaves_a_file_that_opens(tmp_path: Path) -> None:
    import subprocess
    import sys

    code = (
        "import os, signal, sys\n"
        "from pathlib import Path\n"
        "from alembic import op\n"
        "from metta_jobs.store import migrate\n"
        "passed, original = 0, op.execute\n"
        "def execute(*args, **rest):\n"
        "    global passed\n"
        "    passed += 1\n"
        "    if passed == int(sys.argv[2]): os.kill(os.getpid(), signal.SIGKILL)\n"
        "    return original(*args, **rest)\n"
        "op.execute = execute\n"
        "migrate.bring_up_to_date(Path(sys.argv[1]))\n"
    )
    source = Path(__file__).parents[1] / "store" / "assets" / "schema-0001.sql"
    for fatal in (1, 3, 6, 9, 12, 16, 20, 26, 30, 36):
        path = tmp_path / str(fatal) / "jobs.sqlite"
        path.parent.mkdir()
        old = sqlite3.connect(path)
        old.executescript(source.read_text())
        names = old.execute("SELECT id, name, state FROM jobs ORDER BY id").fetchall()
        old.close()
        done = subprocess.run([sys.executable, "-c", code, str(path), str(fatal)], check=False)
        assert done.returncode in (-9, 0)
        with Store(path).read() as connection:
            rows = connection.execute("SELECT id, name, state FROM jobs ORDER BY id").fetchall()
            assert [tuple(row) for row in rows] == names
