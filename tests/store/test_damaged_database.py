"""Databases that are damaged, cut off, emptied or gone: told in a sentence, never begun anew in silence."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from metta_jobs.errors import StoreError
from metta_jobs.paths import StateDir
from metta_jobs.store.engine import Store
from metta_jobs.store.pages import Pages
from metta_jobs.upkeep.repair import repair
from tests.store.rows import NOW
from tests.store.wrecks import JOBS, PAGE, TOLD, count, lay, owners, use, zeroed

pytestmark = pytest.mark.usefixtures("quick_upgrade")


def test_a_page_of_zeros_is_told_wherever_it_is_and_all_other_rows_are_saved(
    whole: bytes, state: StateDir, tmp_path: Path
) -> None:
    lay(state, whole)
    before, owner = count(state), owners(whole, tmp_path / "owned.sqlite")
    noticed = 0
    for page in range(1, len(whole) // PAGE + 1):
        lay(state, zeroed(whole, page))
        said = use(state)
        assert said is None or TOLD in said, page
        noticed += said is not None
        lay(state, zeroed(whole, page))
        told = "\n".join(repair(state, NOW))
        after = count(state)
        assert "Still wrong" not in told
        lost = before["jobs"] - after["jobs"]
        rows_there = len(list(Pages(tmp_path / "owned.sqlite").rows(page))) if owner.get(page) == "jobs" else 1
        assert lost <= rows_there, page
        assert (lost == rows_there) == (owner.get(page) == "jobs") or lost == 1  # or it lost the end of one
        if owner.get(page) not in ("jobs", "dependencies", "groups") and not lost:
            assert after["dependencies"] == before["dependencies"]
        assert repair(state, NOW) == ["Nothing was found to repair."]
    assert noticed > 0.7 * len(whole) / PAGE


def test_a_file_cut_off_anywhere_is_told_and_what_is_left_is_saved(whole: bytes, state: StateDir) -> None:
    saved = []
    for cut in [*range(0, len(whole), 5 * PAGE), 1, 15, 16, 99, 100, 511, 512, 4095, 4097, len(whole) - PAGE]:
        (state.root / "jobs" / "7").mkdir(parents=True, exist_ok=True)
        lay(state, whole[:cut])
        said = use(state)
        assert said is not None, cut
        assert TOLD in said, cut
        lay(state, whole[:cut])
        repair(state, NOW)
        saved.append(count(state)["jobs"])
        assert use(state) is None
    assert saved[0] == 0
    assert saved[-1] >= JOBS - 10


def test_bytes_that_changed_anywhere_raise_nothing_else_and_can_be_repaired(whole: bytes, state: StateDir) -> None:
    choose = random.Random(2)
    for _ in range(40):
        data = bytearray(whole)
        for _ in range(choose.choice([1, 5, 50])):
            data[choose.randrange(len(data))] ^= 1 << choose.randrange(8)
        if choose.random() < 0.5:
            page, other = choose.randrange(len(data) // PAGE), choose.randrange(len(data) // PAGE)
            data[page * PAGE : (page + 1) * PAGE] = whole[other * PAGE : (other + 1) * PAGE]
        lay(state, bytes(data))
        said = use(state)
        assert said is None or "metta doctor" in said
        lay(state, bytes(data))
        repair(state, NOW)
        count(state)
        assert repair(state, NOW) == ["Nothing was found to repair."]


@pytest.mark.parametrize("data", [None, b"", b"x"])
def test_a_queue_whose_database_is_gone_is_not_begun_anew_in_silence(state: StateDir, data: bytes | None) -> None:
    lay(state, data)
    (state.root / "jobs" / "41" / "1").mkdir(parents=True)
    for _ in range(2):
        with pytest.raises(StoreError, match=rf"(gone|empty), but the folder of 1 job lies beside it.*{TOLD}"):
            Store(state.database)
    assert (data is None) == (not state.database.exists())
    told = repair(state, NOW)
    assert any("the history is gone" in line and "The next job is 42" in line for line in told)
    store = Store(state.database)
    with store.write() as connection:
        connection.execute("INSERT INTO environments VALUES ('h', '{}', '[]')")
        connection.execute("INSERT INTO groups (name, created_at) VALUES ('g', 'x')")
        new = connection.execute(
            "INSERT INTO jobs (group_id, name, state, config, environment, place, created_at) "
            "VALUES (1, 'j', 'pending', '{}', 'h', 1, 'x')"
        )
        assert new.lastrowid == 42
    store.close()


@pytest.mark.parametrize("left", ["jobs.sqlite-wal", "jobs.sqlite.before-0002", "jobs.sqlite.damaged-1", "jobs/3"])
def test_anything_that_an_earlier_queue_has_left_speaks_against_beginning_anew(state: StateDir, left: str) -> None:
    if left.startswith("jobs/"):
        (state.root / left).mkdir(parents=True)
    else:
        (state.root / left).write_bytes(b"x")
    with pytest.raises(StoreError, match="there has been a queue here"):
        Store(state.database)
    assert not state.database.exists()


def test_a_folder_without_any_trace_of_a_queue_begins_one(state: StateDir) -> None:
    (state.root / "jobs").mkdir()
    (state.root / "daemon.log").touch()
    (state.root / "jobs.sqlite").touch()
    Store(state.database).close()
    assert use(state) is None


def test_a_log_without_its_database_is_not_deleted_and_its_rows_are_saved(
    growing: tuple[bytes, bytes, list[int]], state: StateDir
) -> None:
    _, log, _ = growing
    for data in (None, b"", b"x"):
        lay(state, data, log)
        assert "jobs.sqlite-wal lies beside it" in str(use(state))
        assert state.database.with_name("jobs.sqlite-wal").read_bytes() == log
        repair(state, NOW)
        assert count(state)["jobs"] >= JOBS - 7
        assert [path.read_bytes() for path in state.root.glob("jobs.sqlite.damaged-*-wal")] == [log]
