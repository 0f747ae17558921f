"""Repairs: what is saved, what is mended, what is refused, and being cut off."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from metta_jobs.daemon.lock import DaemonLock
from metta_jobs.errors import DaemonError, StoreError
from metta_jobs.job import Dependency, JobConfig
from metta_jobs.paths import StateDir
from metta_jobs.store import migrate
from metta_jobs.store.audit import rows_and_history
from metta_jobs.upkeep import repair as upkeep
from metta_jobs.upkeep.repair import repair
from tests.processes import until
from tests.store.rows import NOW, Rows, fresh_store
from tests.store.test_audit import BREAKS, fill, spoil
from tests.store.wrecks import JOBS, PAGE, TOLD, count, lay, owners, use, zeroed

pytestmark = pytest.mark.usefixtures("quick_upgrade")


@pytest.mark.parametrize("statement", [statement for statement, _ in BREAKS])
def test_what_the_audit_tells_is_mended(state: StateDir, statement: str) -> None:
    rows = Rows(fresh_store(state.database))
    fill(rows)
    spoil(rows, statement)
    with rows.store.read() as connection:
        wrong = rows_and_history(connection)
    told = repair(state, NOW)
    assert not any("Still wrong" in line for line in told)
    assert bool(wrong) == (told != ["Nothing was found to repair."])
    assert bool(wrong) == bool(list(state.root.glob("jobs.sqlite.*-2*")))  # the file as it was
    count(state)


def test_a_pending_job_that_lost_what_it_waits_for_never_starts(state: StateDir) -> None:
    rows = Rows(fresh_store(state.database))
    group = rows.group("g")
    parent, bystander = rows.job(group, "parent"), rows.job(group, "bystander")
    waits = JobConfig(name="child", command=("x",), depends_on=(Dependency(job="parent"),))
    child = rows.job(group, "child", blocked_by=parent, config=waits)
    rows.depends(child, parent)
    homeless = rows.job(group, "homeless", environment="other")
    spoil(rows, "DELETE FROM jobs WHERE id = 1")
    rows.run("DELETE FROM environments WHERE hash = 'other'")
    told = repair(state, NOW)
    assert f"Pending and cancelled, because job {parent}, which it waits for, was lost: {child}." in told
    assert f"Pending and cancelled, because its environment was lost: {homeless}." in told
    with rows.store.read() as connection:
        states = dict(connection.execute("SELECT id, state FROM jobs").fetchall())
        reason = connection.execute("SELECT reason FROM jobs WHERE id = ?", (child,)).fetchone()[0]
    assert states == {bystander: "pending", child: "killed", homeless: "killed"}
    assert reason == "cancelled by a repair: job 1, which it waits for, was lost"


def test_dependencies_that_were_lost_are_found_in_the_configurations(
    whole: bytes, state: StateDir, tmp_path: Path
) -> None:
    lay(state, whole)
    before = count(state)
    page = next(page for page, table in owners(whole, tmp_path / "o.sqlite").items() if table == "dependencies")
    lay(state, zeroed(whole, page))
    told = repair(state, NOW)
    assert f"dependencies: {before['dependencies']} rows restored from the jobs' configurations." in told
    assert count(state) == before


def test_each_job_that_was_touched_says_so_in_its_history(state: StateDir) -> None:
    rows = Rows(fresh_store(state.database))
    fill(rows)
    spoil(rows, "DELETE FROM attempts WHERE job_id = 2 AND number = 1")
    repair(state, NOW)
    with rows.store.read() as connection:
        events = connection.execute("SELECT job_id, to_state, reason FROM events WHERE kind = 'repaired'").fetchall()
        attempt = connection.execute("SELECT state, reason FROM attempts WHERE job_id = 2 AND number = 1").fetchone()
    assert [tuple(event) for event in events] == [(2, "failed", "attempt 1 was lost")]
    assert tuple(attempt) == ("lost", "lost with the damaged database")


def test_a_healthy_database_is_left_alone(whole: bytes, state: StateDir) -> None:
    lay(state, whole)
    assert repair(state, NOW) == ["Nothing was found to repair."]
    assert {path.name for path in state.root.iterdir()} == {"jobs.sqlite", "daemon.lock", "migrate.lock"}
    assert count(state)["jobs"] == JOBS


def test_folders_without_rows_are_listed_and_kept_and_their_ids_never_given_again(
    whole: bytes, state: StateDir
) -> None:
    lay(state, whole)
    for job in (7, 99, 1000):
        (state.root / "jobs" / str(job) / "1").mkdir(parents=True)
    told = repair(state, NOW)
    assert "There are folders up to job 1000, but ids up to 60 were given: the next is 1001." in told
    assert "Folders in jobs/ without a stored job, left there: 99, 1000. `metta job prune` removes old ones." in told
    assert len(list((state.root / "jobs").iterdir())) == 3
    connection = sqlite3.connect(state.database)
    assert connection.execute("SELECT seq FROM sqlite_sequence WHERE name = 'jobs'").fetchone() == (1000,)


def test_the_copy_before_a_migration_is_the_last_resort(whole: bytes, state: StateDir) -> None:
    lay(state, bytes(len(whole)))
    (state.root / "jobs.sqlite.before-0002").write_bytes(whole)
    told = repair(state, NOW)
    assert "No job could be read. The new database begins with the copy jobs.sqlite.before-0002" in "\n".join(told)
    assert count(state)["jobs"] == JOBS
    assert (state.root / "jobs.sqlite.before-0002").read_bytes() == whole


def test_another_program_s_database_is_not_repaired(state: StateDir) -> None:
    other = sqlite3.connect(state.database)
    other.execute("CREATE TABLE recipes (soup)")
    other.commit()
    other.close()
    with pytest.raises(StoreError, match="another program"):
        repair(state, NOW)
    assert [path.name for path in state.root.glob("jobs.sqlite*")] == ["jobs.sqlite"]


def test_a_damaged_database_of_an_earlier_schema_is_saved_and_migrated(
    state: StateDir, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upkeep, "upgrade", migrate.upgrade)
    migrate.upgrade(state.database, "0001")
    connection = sqlite3.connect(state.database)
    connection.executescript(
        """
        INSERT INTO environments VALUES ('h', '{}', '[]');
        INSERT INTO groups (name, created_at) VALUES ('g', 'x');
        WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 40)
        INSERT INTO jobs (group_id, name, state, config, environment, created_at)
        SELECT 1, 'j' || i, 'pending', '{"name":"j","command":["' || hex(zeroblob(200)) || '"]}', 'h', 'x' FROM n;
        INSERT INTO events (at, job_id, kind, to_state) SELECT 'x', id, 'submitted', 'pending' FROM jobs;
        PRAGMA wal_checkpoint(TRUNCATE);
        """
    )
    connection.close()
    data = state.database.read_bytes()
    victim = next(page for page, table in owners(data, state.root / "o").items() if table == "jobs")
    (state.root / "o").unlink()
    lay(state, zeroed(data, victim))
    assert TOLD in str(use(state))
    lay(state, zeroed(data, victim))
    repair(state, NOW)
    assert 20 < count(state)["jobs"] < 40


# ------------------------------------------------------------------------------------------------ and being alone


def test_nothing_is_repaired_under_a_daemon(whole: bytes, state: StateDir) -> None:
    lay(state, zeroed(whole, 11))
    lock = DaemonLock(state.daemon_lock)
    assert lock.acquire({"pid": 77, "started_at": NOW.isoformat(), "version": "1"})
    with pytest.raises(DaemonError, match=r"A daemon runs \(pid 77\).*`metta daemon stop`"):
        repair(state, NOW)
    lock.release()
    assert state.database.read_bytes() == zeroed(whole, 11)
    repair(state, NOW)


def opened_by_another(path: Path) -> subprocess.Popen[str]:
    """A process that has this file open until its stdin ends."""
    code = "import sys; f = open(sys.argv[1]); print('open', flush=True); sys.stdin.read()"
    user = subprocess.Popen(
        [sys.executable, "-c", code, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert user.stdout is not None
    assert user.stdout.readline() == "open\n"
    return user


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="asks /proc")
@pytest.mark.parametrize("late", [False, True])
def test_nothing_is_repaired_under_a_process_that_has_the_database_open(
    whole: bytes, state: StateDir, monkeypatch: pytest.MonkeyPatch, late: bool
) -> None:
    lay(state, zeroed(whole, 11))
    users: list[subprocess.Popen[str]] = []
    settle = upkeep._settle

    def settled(*arguments: object) -> object:
        users.append(opened_by_another(state.database))
        return settle(*arguments)  # type: ignore[arg-type]

    with monkeypatch.context() as patched:
        if late:
            patched.setattr(upkeep, "_settle", settled)
        else:
            users.append(opened_by_another(state.database))
        with pytest.raises(DaemonError, match="in use by process") as refused:
            repair(state, NOW)
    assert str(users[0].pid) in str(refused.value)
    users[0].communicate("")
    assert state.database.read_bytes() == zeroed(whole, 11)
    assert repair(state, NOW)
    assert count(state)


def test_what_somebody_has_written_meanwhile_is_not_replaced(
    whole: bytes, state: StateDir, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    victim = next(page for page, table in owners(whole, tmp_path / "o.sqlite").items() if table == "events")
    lay(state, zeroed(whole, victim))
    settle = upkeep._settle

    def settled(*arguments: object) -> object:
        other = sqlite3.connect(state.database)
        with other:
            other.execute("INSERT INTO groups (name, created_at) VALUES ('meanwhile', 'x')")
        other.close()
        return settle(*arguments)  # type: ignore[arg-type]

    with monkeypatch.context() as patched:
        patched.setattr(upkeep, "_settle", settled)
        with pytest.raises(StoreError, match=r"written to .* meanwhile"):
            repair(state, NOW)
    repair(state, NOW)
    assert count(state)["groups"] == 4


def test_a_repair_for_which_there_is_no_room_leaves_everything_as_it_was(
    whole: bytes, state: StateDir, monkeypatch: pytest.MonkeyPatch
) -> None:
    lay(state, zeroed(whole, 11))

    def full(*_: object, **__: object) -> None:
        raise sqlite3.OperationalError("database or disk is full")

    monkeypatch.setattr(upkeep, "mend", full)
    with pytest.raises(StoreError, match="the disk is full and nothing was stored"):
        repair(state, NOW)
    assert [path.name for path in state.root.glob("jobs.sqlite*")] == ["jobs.sqlite"]
    assert state.database.read_bytes() == zeroed(whole, 11)


class Cut(BaseException):
    """The power goes."""


def steps_of(work: Callable[[], object], monkeypatch: pytest.MonkeyPatch, stop_before: int | None) -> int:
    """Run `work`, counting its renames and removals; raise Cut before the one of this number."""
    done = 0

    def watched(real: Callable[..., object]) -> Callable[..., object]:
        def act(*arguments: object, **options: object) -> object:
            nonlocal done
            if done == stop_before:
                raise Cut
            done += 1
            return real(*arguments, **options)

        return act

    with monkeypatch.context() as patched:
        for name in ("rename", "unlink", "chmod"):
            patched.setattr(Path, name, watched(getattr(Path, name)))
        work()
    return done


def test_a_repair_that_is_cut_off_anywhere_can_be_done_again(
    growing: tuple[bytes, bytes, list[int]], state: StateDir, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    whole, log, _ = growing
    victim = next(page for page, table in owners(whole, tmp_path / "o.sqlite").items() if table == "events")
    damaged = zeroed(whole, victim)
    lay(state, damaged, log)
    total = steps_of(lambda: repair(state, NOW), monkeypatch, None)
    wanted, silent = count(state), 0
    assert total >= 8
    assert wanted["groups"] == 3 + 10  # those of the log, too
    for number in range(total):
        lay(state, damaged, log)
        with pytest.raises(Cut):
            steps_of(lambda: repair(state, NOW), monkeypatch, number)
        said = use(state, write=False)
        assert said is None or TOLD in said, number
        silent += said is None
        repair(state, NOW)
        assert count(state) == wanted, number
        kept = [path for path in state.root.glob("jobs.sqlite.*") if path.read_bytes()[:PAGE] == damaged[:PAGE]]
        assert kept, number
    assert silent <= 1  # cut off after the last thing that matters


def test_whoever_comes_meanwhile_waits_for_the_end_of_the_repair(
    whole: bytes, state: StateDir, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A reader that finds no database while files are moved must not take it for lost."""
    lay(state, zeroed(whole, 1))
    code = (
        "import sys; from pathlib import Path; from metta_jobs.store.engine import Store; "
        "store = Store(Path(sys.argv[1])); connection = store.read().__enter__(); "
        "print(connection.execute('SELECT count(*) FROM jobs').fetchone()[0])"
    )
    readers: list[subprocess.Popen[str]] = []
    move = upkeep._move

    def moved_under_eyes(*arguments: object) -> object:
        state.database.rename(state.root / "away")
        readers.append(
            subprocess.Popen([sys.executable, "-c", code, state.database], stdout=subprocess.PIPE, text=True)
        )
        lock = state.root / "migrate.lock"
        until(lambda: waits_for(readers[0].pid, lock), "the reader's wait")
        (state.root / "away").rename(state.database)
        return move(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(upkeep, "_move", moved_under_eyes)
    if not Path("/proc/self/fd").is_dir():
        pytest.skip("asks /proc")
    repair(state, NOW)
    out, _ = readers[0].communicate(timeout=60)
    assert out == f"{JOBS}\n"


def waits_for(pid: int, path: Path) -> bool:
    """Whether the process has this file open, which it does only while it waits for the lock."""
    try:
        return any(fd.resolve() == path.resolve() for fd in Path(f"/proc/{pid}/fd").iterdir())
    except OSError:
        return False
