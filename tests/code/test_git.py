"""What git says of a working tree, asked of real repositories."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from metta_jobs.code import git as code_git
from metta_jobs.code.git import look
from metta_jobs.code.program import NoGit, NoRepository, ask
from metta_jobs.code.redact import LEFT_OUT, without_credentials, without_secrets
from metta_jobs.errors import InvalidInput
from tests.code.repository import commit, git, repository, with_remote, write


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A repository with a remote that has all of it."""
    return with_remote(repository(tmp_path / "tree", {"a.py": "a = 1\n", "sub/b.py": "b\n"}), tmp_path / "far.git")


def test_a_clean_and_pushed_tree(tree: Path) -> None:
    state = look(tree)
    assert (state.clean, state.pushed, state.branch, state.diff, state.prefix) == (True, True, "main", "", "")
    assert state.workdir == {"url": str(tree.parent / "far.git"), "ref": git(tree, "rev-parse", "HEAD")}


def test_a_project_below_the_repository_s_root(tree: Path) -> None:
    write(tree, {"a.py": "a = 2\n", "new/c.py": ""})
    state = look(tree / "sub")
    assert (state.prefix, state.clean) == ("sub/", False)
    assert "-a = 1\n+a = 2\n" in state.diff
    assert "\n#   new/\n" in state.diff


def test_a_changed_tree_has_a_diff_that_git_can_apply(tree: Path) -> None:
    write(tree, {"a.py": "a = 2\n", "new.py": "n"})
    state = look(tree)
    assert (state.clean, state.pushed) == (False, True)
    assert state.diff.startswith("# Files that git does not track, which are not in this diff:\n#   new.py\ndiff ")
    git(tree, "checkout", "-q", "a.py")
    subprocess.run(["git", "apply"], cwd=tree, input=state.diff, text=True, check=True)
    assert (tree / "a.py").read_text() == "a = 2\n"


def test_what_is_staged_is_in_the_diff_too(tree: Path) -> None:
    write(tree, {"a.py": "a = 3\n"})
    git(tree, "add", "a.py")
    assert "+a = 3" in look(tree).diff


def test_a_new_file_alone_makes_it_unclean(tree: Path) -> None:
    write(tree, {"new.py": ""})
    assert not look(tree).clean


def test_an_ignored_file_does_not(tree: Path) -> None:
    write(tree, {".git/info/exclude": "x.bin\n", "x.bin": ""})
    assert look(tree).clean


def test_a_commit_is_pushed_when_the_remote_has_it(tree: Path) -> None:
    write(tree, {"a.py": "a = 2\n"})
    commit(tree)
    assert (look(tree).clean, look(tree).pushed) == (True, False)
    git(tree, "push", "-q")
    assert look(tree).pushed


def test_a_branch_that_was_never_pushed_is_fine_where_its_commit_was(tree: Path) -> None:
    git(tree, "checkout", "-q", "-b", "topic/x")
    assert (look(tree).branch, look(tree).pushed) == ("topic/x", True)


def test_another_remote_s_branches_do_not_count(tree: Path) -> None:
    write(tree, {"a.py": "a = 2\n"})
    commit(tree)
    git(tree.parent, "init", "-q", "--bare", "fork.git")
    git(tree, "remote", "add", "origin-fork", str(tree.parent / "fork.git"))
    git(tree, "push", "-q", "origin-fork", "main")
    assert not look(tree).pushed
    git(tree, "branch", "-q", "-u", "origin-fork/main")
    assert look(tree).pushed
    assert look(tree).url == str(tree.parent / "fork.git")


def test_a_detached_head(tree: Path) -> None:
    git(tree, "checkout", "-q", "--detach")
    assert (look(tree).branch, look(tree).pushed) == (None, True)


def test_a_repository_without_a_remote(tmp_path: Path) -> None:
    state = look(repository(tmp_path / "tree", {"a": ""}))
    assert (state.url, state.pushed) == (None, False)
    with pytest.raises(InvalidInput, match="no remote"):
        _ = state.workdir


def test_no_commit_yet(tmp_path: Path) -> None:
    git(tmp_path, "init", "-q")
    with pytest.raises(InvalidInput, match="has no commit yet"):
        look(tmp_path)


def test_no_repository(tmp_path: Path) -> None:
    with pytest.raises(NoRepository, match="is in no git repository"):
        look(tmp_path)


def test_no_git(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tree))
    with pytest.raises(NoGit, match="git was not found: install it"):
        look(tree)


def test_no_folder(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="is no folder"):
        look(tmp_path / "gone")


def test_a_git_that_hangs_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "git"
    program.write_text("#!/bin/sh\nexec /bin/sleep 1000\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(InvalidInput, match=r"`git status` did not answer within 0.2 s"):
        ask(tmp_path, "status", deadline_s=0.2)


def test_other_errors_are_told_in_git_s_words(tree: Path) -> None:
    with pytest.raises(InvalidInput, match=r"git cannot tell about .*: ambiguous argument 'nothing'"):
        ask(tree, "log", "nothing")


def test_it_is_asked_about_this_folder_whatever_the_environment_says(
    tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GIT_DIR", str(repository(tmp_path / "other", {"x": ""}) / ".git"))
    assert look(tree).url == str(tmp_path / "far.git")


# --------------------------------------------------------------------------------------------------- secrets


def test_credentials_in_the_remote_s_url_are_not_told(tree: Path) -> None:
    git(tree, "remote", "set-url", "origin", "https://me:hunter2@x.example/o/r.git")
    assert look(tree).url == "https://x.example/o/r.git"
    assert "hunter2" not in repr(look(tree))


@pytest.mark.parametrize(
    ("url", "clean"),
    [
        ("https://ghp_token@x.example/o/r.git", "https://x.example/o/r.git"),
        ("https://a:b@c@x.example:8443/o/r@2?private_token=t#f", "https://x.example:8443/o/r@2"),
        ("HTTP://a:b@x.example/o", "HTTP://x.example/o"),
        ("ssh://git:pw@x.example:22/o/r.git", "ssh://git@x.example:22/o/r.git"),
        ("ssh://git@x.example/o/r.git", "ssh://git@x.example/o/r.git"),
        ("git@x.example:o/r.git", "git@x.example:o/r.git"),
        ("file:///srv/r@1.git", "file:///srv/r@1.git"),
        ("/srv/a:b@c/r.git", "/srv/a:b@c/r.git"),
    ],
)
def test_an_address_loses_its_credentials_and_no_more(url: str, clean: str) -> None:
    assert without_credentials(url) == clean


@pytest.mark.parametrize(
    "line",
    [
        '+API_KEY = "hunter2hunter2"',
        "-WANDB_API_KEY=0123456789abcdef",
        '+    "password": "hunter2",',
        "+db_password: hunter2",
        "+secret_token = b'hunter2'",
        " x = 'ghp_abcdefghijklmnopqrst'",
        '+run("curl", "--api-key=hunter2")',
        "+url = 'postgres://me:hunter2@db.example/x'",
    ],
)
def test_a_line_that_shows_a_secret_is_left_out(line: str) -> None:
    assert without_secrets(f"@@ -1 +1 @@\n{line}\n+a = 1\n") == f"@@ -1 +1 @@\n{line[0]}{LEFT_OUT}\n+a = 1\n"


@pytest.mark.parametrize(
    "line",
    [
        "+key, sub = jax.random.split(key)",
        "+max_tokens = 512",
        "+token = tokenizer.encode(text)",
        "+for key in keys:",
        "+    return self.keys[0]",
        "+learning_rate = 0.1",
        "-keys: list[str] = []",
        "+f(key=key)",
        "+f(key=key, n=1)",
    ],
)
def test_a_line_that_only_speaks_of_keys_stays(line: str) -> None:
    assert without_secrets(line) == line


def test_a_private_key_is_left_out_to_its_end() -> None:
    key = "+-----BEGIN OPENSSH PRIVATE KEY-----\n+b3BlbnNz\n+aC1rZXk=\n+-----END OPENSSH PRIVATE KEY-----\n"
    assert without_secrets(f"+a\n{key}+b") == "+a\n" + f"+{LEFT_OUT}\n" * 4 + "+b"


def test_a_secret_of_this_environment_is_left_out_of_the_diff(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_SERVICE_TOKEN", "correct-horse-battery")
    write(tree, {"a.py": "connect(x, 'correct-horse-battery')\n"})
    assert "horse" not in look(tree).diff
    assert LEFT_OUT in look(tree).diff


def test_a_long_diff_is_cut_at_a_line_and_says_so(tree: Path) -> None:
    write(tree, {"a.py": "a line of twenty-one.\n" * 100_000})
    diff = look(tree).diff
    assert len(diff) < code_git.DIFF_BYTES + 100
    assert diff.startswith("# The diff is longer and was cut off at 1 MB.\n")
    assert diff.endswith("twenty-one.\n")
