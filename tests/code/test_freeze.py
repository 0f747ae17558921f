"""Freezing working trees: real repositories, real files, and the copy that is left."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from metta_jobs.code import listing, snapshot
from metta_jobs.code.orphans import FRESH_S, named_in, orphaned, take_away
from metta_jobs.code.snapshot import Snapshot, freeze
from metta_jobs.errors import InvalidInput
from tests.code.repository import commit, git, repository, write

IGNORES = ".skyignore"


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A repository with two files, and a state folder that nothing ignores."""
    project = repository(tmp_path / "tree", {"a.py": "a = 1\n", "sub/b.py": "b\n"})
    write(project, {"job_state/jobs.sqlite": "rows"})
    return project


def frozen(project: Path) -> Snapshot:
    return freeze(project, project / "job_state" / "snapshots")


def content(made: Snapshot) -> dict[str, str]:
    """What is in a snapshot, by path: a file's text, or where a link leads."""
    found = {}
    for path in made.path.rglob("*"):
        name = str(path.relative_to(made.path))
        if path.is_symlink():
            found[name] = f"-> {path.readlink()}"
        elif path.is_file() and name != IGNORES:
            found[name] = path.read_text()
    return found


# --------------------------------------------------------------------------------------------------- what is in it


def test_the_tree_as_it_is_now_and_not_as_it_was_committed(tree: Path) -> None:
    write(tree, {".gitignore": "*.bin\n", "a.py": "a = 2\n", "new/c.py": "c\n", "big.bin": "x"})
    (tree / "sub" / "b.py").unlink()
    made = frozen(tree)
    assert content(made) == {".gitignore": "*.bin\n", "a.py": "a = 2\n", "new/c.py": "c\n"}
    assert (made.files, made.bytes) == (3, 14)
    assert made.path == tree / "job_state" / "snapshots" / made.id


def test_later_edits_change_nothing_in_it(tree: Path) -> None:
    made = frozen(tree)
    write(tree, {"a.py": "a = 2\n"})
    (tree / "sub" / "b.py").unlink()
    assert content(made) == {"a.py": "a = 1\n", "sub/b.py": "b\n"}
    assert frozen(tree).id != made.id


def test_the_same_content_is_kept_once(tree: Path, tmp_path: Path) -> None:
    made = frozen(tree)
    os.utime(tree / "a.py", (1, 1))
    commit(tree)
    inode = (made.path / "a.py").stat().st_ino
    assert frozen(tree) == made
    assert (made.path / "a.py").stat().st_ino == inode
    assert [path.name for path in made.path.parent.iterdir()] == [made.id]


@pytest.mark.parametrize("change", ["mode", "name", "content", "link"])
def test_other_content_has_another_name(tree: Path, change: str) -> None:
    before = frozen(tree)
    if change == "mode":
        (tree / "a.py").chmod(0o755)
    elif change == "name":
        (tree / "a.py").rename(tree / "c.py")
    elif change == "content":
        write(tree, {"a.py": "a = 3\n"})
    else:
        (tree / "l").symlink_to("a.py")
    assert frozen(tree).id != before.id


def test_tracked_files_arrive_though_a_gitignore_names_them(tree: Path) -> None:
    write(tree, {"model.bin": "m", "sub/.gitignore": "*.py\n"})
    git(tree, "add", "model.bin")
    write(tree, {".gitignore": "*.bin\n!keep.bin\n", "keep.bin": "k", "drop.bin": "d"})
    made = frozen(tree)
    assert set(content(made)) == {".gitignore", "a.py", "keep.bin", "model.bin", "sub/.gitignore", "sub/b.py"}
    rules = (made.path / IGNORES).read_text()
    assert all(line.startswith("#") for line in rules.splitlines())  # SkyPilot asks no .gitignore, and finds no rule


def test_what_the_project_s_skyignore_names_stays_here(tree: Path) -> None:
    rules = "# data\n/data\n*.pt\nsub/x?\nlogs/**/old\n[!a-y]z\n"
    write(tree, {IGNORES: rules, "sub/.skyignore": "b.py\n"})
    names = ("data/1", "m/data/1", "m/w.pt", "n.ptx", "sub/x1", "sub/x22", "logs/a/b/old/f", "zz", "az", "k.pt/in")
    write(tree, dict.fromkeys(names, ""))
    made = frozen(tree)
    assert set(content(made)) == {"a.py", "sub/b.py", "m/data/1", "n.ptx", "sub/x22", "az"}


def test_the_state_folder_and_written_notebooks_are_never_in_it(tree: Path) -> None:
    write(tree, {"notebooks/example.ipynb": "{}", "notebooks/plots.py": ""})
    git(tree, "add", "notebooks/example.ipynb")
    write(tree, {"notebooks/run_1.ipynb": "{}", "sub/job_state/jobs.sqlite": "", "elsewhere/daemon.log": ""})
    names = set(content(freeze(tree, tree / "elsewhere" / "snapshots")))
    assert names == {"a.py", "sub/b.py", "notebooks/example.ipynb", "notebooks/plots.py"}


def test_executable_bits_are_kept_and_nothing_else_of_a_mode(tree: Path) -> None:
    (tree / "a.py").chmod(0o700)
    (tree / "sub" / "b.py").chmod(0o400)
    made = frozen(tree)
    assert [(made.path / name).stat().st_mode & 0o777 for name in ("a.py", "sub/b.py")] == [0o755, 0o644]


def test_submodules_and_repositories_inside_come_with_their_files(tree: Path, tmp_path: Path) -> None:
    library = repository(tmp_path / "library", {"lib.py": "l", "deep/d.py": "d"})
    repository(tmp_path / "inner", {"i.py": "i"})
    git(library, "submodule", "--quiet", "add", str(tmp_path / "inner"), "inner")
    commit(library)
    git(tree, "submodule", "--quiet", "add", str(library), "third/library")
    git(tree, "submodule", "--quiet", "update", "--init", "--recursive")
    write(tree, {"third/library/new.py": "n"})
    write(repository(tree / "nested", {"n.py": "n", ".gitignore": "x\n"}), {"x": ""})
    names = {name for name in content(frozen(tree)) if name.startswith(("third/", "nested/"))}
    third = {"lib.py", "deep/d.py", "inner/i.py", "new.py", ".gitmodules"}
    assert names == {f"third/library/{name}" for name in third} | {"nested/n.py", "nested/.gitignore"}


def test_a_submodule_that_is_not_checked_out_is_no_trouble(tree: Path, tmp_path: Path) -> None:
    library = repository(tmp_path / "library", {"lib.py": "l"})
    git(tree, "submodule", "--quiet", "add", str(library), "library")
    commit(tree)
    git(tree, "submodule", "--quiet", "deinit", "--force", "library")
    assert set(content(frozen(tree))) == {".gitmodules", "a.py", "sub/b.py"}


def test_a_broken_submodule_is_told(tree: Path) -> None:
    write(tree, {"third/.git": "gitdir: /no/where\n"})
    git(tree, "update-index", "--add", "--cacheinfo", f"160000,{'1' * 40},third")
    with pytest.raises(InvalidInput, match="tree/third is in no git repository"):
        frozen(tree)


def test_a_project_below_the_repository_s_root_is_frozen_alone(tree: Path) -> None:
    assert content(frozen(tree / "sub")) == {"b.py": "b\n"}


def test_names_of_all_kinds(tree: Path) -> None:
    names = ["with space", "ü", "new\nline", "tab\tquote\"'", "-n", "a\\b"]
    write(tree, dict.fromkeys(names, "x"))
    (tree / os.fsdecode(b"\xff")).write_text("y")
    git(tree, "add", "-A", "--", "ü", "tab\tquote\"'")
    assert {*names, os.fsdecode(b"\xff")} <= set(content(frozen(tree)))


# --------------------------------------------------------------------------------------------------- links


def test_links_inside_stay_links(tree: Path) -> None:
    (tree / "l").symlink_to("sub/b.py")
    (tree / "d").symlink_to("sub")
    (tree / "nowhere").symlink_to("gone")
    (tree / "sub" / "absolute").symlink_to(tree / "a.py")
    found = content(frozen(tree))
    links = {"l": "-> sub/b.py", "d": "-> sub", "nowhere": "-> gone", "sub/absolute": "-> ../a.py"}
    assert found == {"a.py": "a = 1\n", "sub/b.py": "b\n"} | links


@pytest.mark.parametrize("target", ["/etc", "../outside", "sub/../../outside"])
def test_a_link_that_leads_outside_is_refused(tree: Path, target: str) -> None:
    write(tree.parent, {"outside": "o"})
    (tree / "data").symlink_to(target)
    with pytest.raises(InvalidInput, match=r"tree/data is a link that leads outside .* \.gitignore, or .*file_mounts"):
        frozen(tree)
    write(tree, {".gitignore": "data\n"})
    assert "data" not in content(frozen(tree))


def test_a_link_in_the_place_of_a_tracked_folder_is_not_written_through(tree: Path) -> None:
    write(tree, {"other/b.py": "other"})
    (tree / "sub" / "b.py").unlink()
    (tree / "sub").rmdir()
    (tree / "sub").symlink_to("other")
    assert content(frozen(tree)) == {"a.py": "a = 1\n", "other/b.py": "other", "sub": "-> other"}


# --------------------------------------------------------------------------------------------------- without git


@pytest.mark.parametrize("git_is_there", [True, False])
def test_without_git_all_but_the_usual_caches(
    tmp_path: Path, git_is_there: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = tmp_path / "plain"
    junk = ("__pycache__/a.pyc", ".venv/bin/python", "sub/.git/HEAD", "wandb/run", "c.pyc", "job_state/daemon.log")
    write(project, dict.fromkeys(("a.py", "sub/b.py", ".hidden", "notebooks/w.ipynb", *junk), ""))
    (project / "l").symlink_to("sub")
    if not git_is_there:
        monkeypatch.setenv("PATH", str(tmp_path))
    assert set(content(frozen(project))) == {"a.py", "sub/b.py", ".hidden", "l"}


def test_without_git_there_is_a_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listing, "MOST_WITHOUT_GIT", 3)
    write(tmp_path, dict.fromkeys("abc", ""))
    assert frozen(tmp_path).files == 3
    write(tmp_path, {"d": ""})
    with pytest.raises(InvalidInput, match=r"more than 3 files, and without git .* `git init` there"):
        frozen(tmp_path)


# --------------------------------------------------------------------------------------------------- refused


def test_what_is_too_large_is_refused_with_the_largest_named(tree: Path) -> None:
    with (tree / "weights.pt").open("wb") as file:
        file.truncate(snapshot.MOST_BYTES)  # a hole: it takes up nothing
    with pytest.raises(InvalidInput, match=r"has 500 MB in 3 files.*largest: weights.pt \(500 MB\), .* \.gitignore"):
        frozen(tree)
    assert not (tree / "job_state" / "snapshots").exists()


def test_an_empty_tree_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="holds no file that could be shipped"):
        frozen(repository(tmp_path / "empty", {}))


def test_a_file_that_cannot_be_read_is_named(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object) -> None:
        raise PermissionError(13, "Permission denied", "secret.txt")

    monkeypatch.setattr(snapshot, "_identity", refused)  # the tests may run as root, who reads everything
    with pytest.raises(InvalidInput, match=r"cannot be frozen: Permission denied \(secret.txt\)"):
        frozen(tree)


# --------------------------------------------------------------------------------------------------- whole or not


def test_what_fails_half_way_leaves_nothing(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(snapshot, "_to_disk", full)
    with pytest.raises(InvalidInput, match="No space left on device"):
        frozen(tree)
    assert list((tree / "job_state" / "snapshots").iterdir()) == []


def test_a_file_that_is_edited_while_it_is_copied_gives_the_copy_its_name(
    tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy_one = snapshot._copy_one

    def edited(project: Path, entry: snapshot._Entry, aside: Path) -> None:
        write(tree, {"a.py": "a = 22\n"})
        if entry.name == "sub/b.py":
            (tree / "sub" / "b.py").unlink()
        copy_one(project, entry, aside)

    monkeypatch.setattr(snapshot, "_copy_one", edited)
    made = frozen(tree)
    assert content(made) == {"a.py": "a = 22\n"}
    assert (made.files, made.bytes) == (1, 7)
    monkeypatch.undo()
    assert frozen(tree) == made


def test_many_at_once_leave_one(tree: Path) -> None:
    made: list[Snapshot] = []
    threads = [threading.Thread(target=lambda: made.append(frozen(tree))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 8
    assert len(set(made)) == 1
    assert [path.name for path in made[0].path.parent.iterdir()] == [made[0].id]


# --------------------------------------------------------------------------------------------------- left over


def old(path: Path) -> Path:
    """Let nobody have used it for longer than an hour."""
    long_ago = path.stat().st_mtime - FRESH_S - 60
    os.utime(path, (long_ago, long_ago))
    return path


def test_orphans_are_old_and_named_by_nobody(tree: Path) -> None:
    state = tree / "job_state"
    assert orphaned(state, set()) == []
    used = frozen(tree)
    write(tree, {"a.py": "a = 2\n"})
    left = frozen(tree)
    half = left.path.parent / ".123-abc"
    half.mkdir()
    (left.path.parent / "mine").mkdir()
    assert orphaned(state, set()) == []
    for path in left.path.parent.iterdir():
        old(path)
    assert orphaned(state, {used.id}) == sorted([half, left.path])


def test_one_that_is_used_again_is_not_taken_away(tree: Path) -> None:
    made = frozen(tree)
    assert take_away(made.path) is None
    aside = take_away(old(made.path))
    assert aside is not None
    assert (aside / "a.py").is_file()
    assert not made.path.exists()
    assert take_away(made.path) is None
    again = frozen(tree)
    old(again.path)
    assert frozen(tree) == again
    assert take_away(again.path) is None


def test_a_stored_text_names_its_snapshots() -> None:
    one, two = "a" * 40, "0123456789" * 4
    text = (
        f'{{"remote": {{"workdir": "/x/job_state/snapshots/{one}"}}, "at": "snapshots/{two}/sub"}} snapshots/{"b" * 41}'
    )
    assert named_in(text) == {one, two}
