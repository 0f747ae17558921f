"""Removing old groups: what goes, what stays, and who comes between."""

from __future__ import annotations

import os
import sqlite3
from datetime import timedelta
from pathlib import Path

import pytest

from metta_jobs.errors import InvalidInput
from metta_jobs.store import prune as store_prune
from metta_jobs.store.engine import Store
from metta_jobs.store.transitions import retry
from metta_jobs.store.wishes import wish_retry
from metta_jobs.upkeep import folders, prune
from tests.store.rows import ENDED_BADLY, ENDED_WELL, NOW, RUNNING, S, ago
from tests.store.world import World


def test_old_groups_go_with_rows_and_files_and_young_ones_stay(world: World) -> None:
    world.group("old", 40, ENDED_WELL, ENDED_BADLY, environment="old")
    young = world.group("young", 20, ENDED_WELL)
    world.group("older", 50, ENDED_WELL)
    done = world.prune()
    assert [group.row.name for group in done.groups] == ["old", "older"]
    assert world.names() == ["young"]
    assert world.folders() == set(young)
    assert 300_000 < done.size < 400_000
    assert world.counts() == {
        "groups": 1,
        "jobs": 1,
        "attempts": 1,
        "events": 4,
        "dependencies": 0,
        "deliveries": 0,
        "environments": 1,
    }


def test_a_group_is_as_old_as_its_last_end(world: World) -> None:
    first, _ = world.group("g", 40, ENDED_WELL, ENDED_WELL)
    world.rows.run("UPDATE jobs SET finished_at = (SELECT created_at FROM groups) WHERE id = ?", first)
    world.rows.run("UPDATE jobs SET finished_at = ? WHERE id <> ?", ago(days=29).isoformat(), first)
    assert not world.plan().batches
    assert world.plan(timedelta(days=28)).batches


@pytest.mark.parametrize("path", [(), (S.LAUNCHING,), RUNNING])
def test_what_has_not_ended_stays_however_old(world: World, path: tuple[S, ...]) -> None:
    world.group("g", 400, ENDED_WELL, path)
    assert not world.plan().batches
    assert not world.plan().kept  # it is not old: it goes on


def test_the_newest_groups_stay(world: World) -> None:
    for number in range(4):
        world.group(f"g{number}", 60 - number, ENDED_WELL)
    assert world.plan(keep_last=2).kept == {"g2": "it is among the newest 2", "g3": "it is among the newest 2"}
    world.prune(keep_last=2)
    assert world.names() == ["g2", "g3"]


def test_what_a_job_that_stays_depends_on_stays_and_so_on(world: World) -> None:
    (grandparent,) = world.group("grandparent", 60, ENDED_WELL)
    (parent,) = world.group("parent", 50, ENDED_WELL)
    (child,) = world.group("child", 10, ENDED_WELL)
    world.group("stranger", 50, ENDED_WELL)
    world.rows.depends(parent, grandparent)
    world.rows.depends(child, parent)
    assert world.plan().kept == {
        "parent": "a job of child depends on it",
        "grandparent": "a job of parent depends on it",
    }
    world.prune()
    assert world.names() == ["grandparent", "parent", "child"]
    world.prune(timedelta(days=5))
    assert world.names() == []
    assert world.counts()["dependencies"] == 0


def test_groups_that_depend_on_each_other_go_together(world: World) -> None:
    a1, a2 = world.group("a", 60, ENDED_WELL, ENDED_WELL)
    b1, b2 = world.group("b", 60, ENDED_WELL, ENDED_WELL)
    (c,) = world.group("c", 60, ENDED_WELL)
    world.rows.depends(a2, b1)
    world.rows.depends(b2, a1, "afternotok", of_group=1)
    world.rows.depends(a1, c)
    assert [[group.row.name for group in batch] for batch in world.plan().batches] == [["a", "b", "c"]]
    world.prune()
    assert world.names() == []
    assert world.folders() == set()


def test_a_message_that_is_still_to_be_delivered_keeps_its_group(world: World) -> None:
    for name, state in (("waits", "waiting"), ("told", "delivered")):
        (job,) = world.group(name, 40, ENDED_WELL)
        world.rows.insert(
            "deliveries", group_id=job, job_id=job, hook="{}", facts="{}", state=state, created_at="x",
            finished_at=None if state == "waiting" else "x",
        )  # fmt: skip
    assert world.plan().kept == {"waits": "a message of its hooks is still to be delivered"}
    world.prune()
    assert world.names() == ["waits"]
    assert world.counts()["deliveries"] == 1


def test_a_group_without_jobs_goes_by_its_own_age(world: World) -> None:
    world.rows.group("empty", at=ago(days=40))
    world.rows.group("new", at=ago(days=2))
    world.rows.insert("events", at="x", group_id=1, kind="edit", reason="paused")
    world.prune()
    assert world.names() == ["new"]
    assert world.counts()["events"] == 0


def test_a_retry_that_comes_first_wins(world: World) -> None:
    (wished,) = world.group("wished", 40, ENDED_BADLY)
    (granted,) = world.group("granted", 40, ENDED_BADLY)
    world.group("goes", 40, ENDED_BADLY)
    planned = world.plan()
    with world.store.write() as connection:
        wish_retry(connection, NOW, [wished])
        retry(connection, NOW, [granted])
    done = prune.carry_out(world.dir, world.dir.database, planned)
    assert set(done.spared) == {"wished", "granted"}
    assert done.spared["wished"] == "somebody has asked for a retry"
    assert world.names() == ["wished", "granted"]
    assert world.folders() == {wished, granted}
    assert world.plan().kept == {"wished": "somebody has asked for a retry"}


def test_a_submit_that_comes_first_wins(world: World) -> None:
    (grows,) = world.group("grows", 40, ENDED_WELL)
    (needed,) = world.group("needed", 40, ENDED_WELL)
    planned = world.plan()
    world.rows.job(grows, "new")
    child = world.rows.job(world.rows.group("other"), "child")
    world.rows.depends(child, needed)
    done = prune.carry_out(world.dir, world.dir.database, planned)
    assert done.groups == []
    assert done.spared["needed"] == "a job of other depends on it"
    assert {grows, needed} <= world.folders()
    assert world.names() == ["grows", "needed", "other"]


def test_a_message_that_comes_first_wins(world: World) -> None:
    world.group("g", 40, ENDED_WELL)
    planned = world.plan()
    told = {"group_id": 1, "job_id": 1, "hook": "{}", "facts": "{}", "created_at": "x"}
    late = world.rows.insert("deliveries", **told, state="waiting")
    done = prune.carry_out(world.dir, world.dir.database, planned)
    assert done.spared == {"g": "a message of its hooks is still to be delivered"}
    assert world.counts()["deliveries"] == 1
    world.rows.run("UPDATE deliveries SET state = 'delivered', finished_at = 'x' WHERE id = ?", late)
    prune.carry_out(world.dir, world.dir.database, planned)  # delivered since it was planned: it goes, too
    assert world.names() == []
    assert world.counts()["deliveries"] == 0


def test_two_prunes_at_once_remove_everything_once(world: World) -> None:
    world.group("a", 40, ENDED_WELL)
    world.group("b", 40, ENDED_WELL)
    planned = world.plan()
    first = prune.carry_out(world.dir, world.dir.database, planned)
    second = prune.carry_out(world.dir, world.dir.database, planned)
    assert len(first.groups) == 2
    assert second.spared == dict.fromkeys("ab", "somebody else has removed it")


def test_ids_are_never_given_out_again(world: World) -> None:
    world.group("g", 40, ENDED_WELL, ENDED_WELL)
    world.prune()
    assert world.counts()["jobs"] == 0
    group = world.rows.group("g")
    assert group == 2
    assert world.rows.job(group, "next") == 3
    with world.store.read() as connection:
        assert connection.execute("SELECT min(id) FROM events").fetchone()[0] == 9


def test_a_crash_between_rows_and_files_leaves_folders_that_the_next_prune_finds(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    left = world.group("g", 40, ENDED_WELL, ENDED_WELL)
    stays = world.group("young", 1, ENDED_WELL)

    class Killed(BaseException):
        pass

    def die(_: Path) -> None:
        raise Killed

    with monkeypatch.context() as dying:
        dying.setattr(prune, "remove", die)
        with pytest.raises(Killed):
            world.prune()
    assert world.names() == ["young"]
    assert world.folders() == {*left, *stays}
    assert [int(folder.name) for folder in world.plan().orphans] == left
    done = world.prune()
    assert 200_000 < done.size < 300_000
    assert world.folders() == set(stays)


def test_a_young_folder_without_a_job_stays(world: World) -> None:
    world.folder(7, days=1)
    world.folder(8, days=31)
    (world.dir.root / "jobs" / "notes").mkdir()
    assert [folder.name for folder in world.plan().orphans] == ["8"]
    world.prune()
    assert world.folders() == {7}
    assert (world.dir.root / "jobs" / "notes").is_dir()


def test_links_are_removed_and_not_followed(world: World, tmp_path: Path) -> None:
    (job,) = world.group("g", 40, ENDED_WELL)
    elsewhere = tmp_path / "data"
    elsewhere.mkdir()
    (elsewhere / "precious").write_text("x")
    (world.dir.attempt(job, 1) / "data").symlink_to(elsewhere)
    world.folder(2, 40)
    (world.dir.root / "jobs" / "2").rename(tmp_path / "moved")
    (world.dir.root / "jobs" / "2").symlink_to(tmp_path / "moved")
    os.utime(world.dir.root / "jobs" / "2", (0, 0), follow_symlinks=False)
    world.prune()
    assert world.folders() == set()
    assert (elsewhere / "precious").exists()
    assert (tmp_path / "moved" / "1" / "output.log").exists()


def test_a_job_that_took_its_own_rights_away_does_not_keep_its_folder(world: World) -> None:
    (job,) = world.group("g", 40, ENDED_WELL)
    deep = world.dir.attempt(job, 1) / "a" / "b"
    deep.mkdir(parents=True)
    (deep / "file").touch()
    for folder in (deep, deep.parent, deep.parent.parent, deep.parent.parent.parent):
        folder.chmod(0o500)
    root = os.geteuid() == 0
    top = world.dir.root / "jobs" / str(job)
    if root:  # root may do everything
        for path in (top, *top.rglob("*")):
            os.chown(path, 65534, 65534)
        os.chown(top.parent, 65534, 65534)
        for path in [*top.parents][: len(top.parents) - 1]:
            path.chmod(path.stat().st_mode | 0o011)
        os.seteuid(65534)
    try:
        assert folders.remove(top) is None
    finally:
        if root:
            os.seteuid(0)
    assert not top.exists()


def test_what_cannot_be_removed_is_told_and_the_rest_goes(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = world.group("g", 40, ENDED_WELL, ENDED_WELL)
    real = prune.remove
    monkeypatch.setattr(prune, "remove", lambda f: f"{f} is stuck" if f.name == str(first) else real(f))
    done = world.prune()
    assert done.troubles == [f"{world.dir.root}/jobs/{first} is stuck"]
    assert done.size == 0
    assert world.folders() == {first}
    assert second not in world.folders()


def test_a_hundred_groups_in_a_long_history_go_in_a_moment(world: World) -> None:
    connection = sqlite3.connect(world.dir.database)
    connection.executescript(
        """
        INSERT INTO environments VALUES ('h', '{}', '[]');
        CREATE TEMP TABLE n AS WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 20000)
        SELECT i FROM n;
        INSERT INTO groups (name, created_at) SELECT 'g' || i, '2026-01-01' FROM n WHERE i <= 200;
        INSERT INTO jobs (group_id, name, state, config, environment, place, created_at, finished_at)
        SELECT 1 + i / 100, 'j' || i, 'killed', '{}', 'h', i, '2026-01-01', CASE WHEN i < 10000 THEN '2026-01-02'
        ELSE '2026-12-01' END FROM n WHERE i / 100 < 200;
        INSERT INTO events (at, group_id, job_id, kind, from_state, to_state)
        SELECT '2026-01-01', group_id, id, k, f, t FROM jobs, (SELECT 'submitted' AS k, NULL AS f, 'pending' AS t
        UNION ALL SELECT 'state', 'pending', 'killed') ORDER BY id, k DESC;
        """
    )
    connection.close()
    searched: list[int] = []
    store = Store(world.dir.database, foreign_keys=False)
    with store.read() as connection:
        found = store_prune.select(connection, NOW, 0)
    assert len(found.batches) == 100
    with store.write() as connection:
        connection.set_progress_handler(lambda: searched.append(1), 1000)
        for batch in found.batches:
            assert store_prune.delete(connection, batch, NOW, found.newest_delivery) is None
    assert len(searched) < 3_000  # thousand steps of SQLite; with foreign keys on, ten times as many
    store.close()
    assert len(world.names()) == 100


@pytest.mark.parametrize("text", ["", "30", "d", "-1d", "1y", "3 0d", "nan d", "1e3d", "99999999999999d"])
def test_nonsense_is_no_span(text: str) -> None:
    with pytest.raises(InvalidInput, match="is no span of time: say"):
        prune.parse_span(text)


@pytest.mark.parametrize(
    ("text", "seconds"), [("45s", 45), ("90m", 5400), ("12h", 43200), ("30d", 2_592_000), ("2w", 1_209_600), ("0d", 0)]
)
def test_spans(text: str, seconds: int) -> None:
    assert prune.parse_span(text).total_seconds() == seconds
