"""What git knows of a working tree: its origin, its commit, whether others can get that, what differs from it."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from metta_jobs.code.program import ask
from metta_jobs.code.redact import without_credentials, without_secrets
from metta_jobs.environment import split
from metta_jobs.errors import InvalidInput

DIFF_BYTES = 1_000_000
_UNTRACKED_SHOWN = 100


@dataclass(frozen=True)
class GitState:
    """A working tree as git sees it.

    `url` is that of the remote of its branch, without credentials; None when there is no remote. `commit` is a full
    hash. `branch` is None when the head is detached. `pushed`: the remote had the commit when git last spoke with it.
    `diff` is what differs from the commit, at most 1 MB of it, without lines that may show a secret. `prefix` is the
    project's folder in the repository ("sub/"), empty when it is the repository's own.
    """

    url: str | None
    commit: str
    branch: str | None
    clean: bool
    pushed: bool
    diff: str
    prefix: str = ""

    @property
    def workdir(self) -> dict[str, str]:
        """What SkyPilot takes to check it out on the nodes. Raises InvalidInput when there is no remote."""
        if self.url is None:
            raise InvalidInput(
                "The repository has no remote that nodes could fetch it from: `git remote add origin …`."
            )
        return {"url": self.url, "ref": self.commit}


def look(project: Path) -> GitState:
    """Ask git about the working tree that holds `project`; the network is not asked.

    Raises InvalidInput when git is missing or does not answer, or when there is no repository or no commit yet.
    """
    prefix = ask(project, "rev-parse", "--show-prefix").text
    commit = ask(project, "rev-parse", "--quiet", "--verify", "HEAD^{commit}", allowed=(0, 1)).text
    if not commit:
        raise InvalidInput(f"The repository of {project} has no commit yet: `git commit` the code first.")
    branch = ask(project, "symbolic-ref", "--quiet", "--short", "HEAD", allowed=(0, 1)).text or None
    remote = _remote(project, branch)
    url = ask(project, "remote", "get-url", remote).text if remote else None
    status = ask(project, "status", "--porcelain=v2", "-z", "--untracked-files=normal").output
    # A renamed file's entry is followed by its old name, which has no mark and may look like one: "? a".
    untracked = _untracked(project) if b"? " in status else []
    return GitState(
        None if url is None else without_credentials(url),
        commit,
        branch,
        not status,
        remote is not None and _had(project, remote, commit),
        _diff(project, untracked) if status else "",
        prefix,
    )


def _remote(project: Path, branch: str | None) -> str | None:
    known = ask(project, "remote").text.split()
    if branch is not None:
        named = ask(project, "config", "--get", f"branch.{branch}.remote", allowed=(0, 1)).text
        if named in known:
            return named
    if "origin" in known:
        return "origin"
    return known[0] if len(known) == 1 else None


def _had(project: Path, remote: str, commit: str) -> bool:
    """True when a branch of the remote, as it was last seen here, holds the commit; a push is such an occasion."""
    return bool(
        ask(
            project,
            "for-each-ref",
            "--count=1",
            "--format=%(refname)",
            f"--contains={commit}",
            f"refs/remotes/{remote}",
        ).text
    )


def _untracked(project: Path) -> list[str]:
    listed = ask(project, "ls-files", "-z", "--others", "--exclude-standard", "--full-name", "--directory", ":/").output
    return [os.fsdecode(name) for name in listed.split(b"\0") if name]


def _diff(project: Path, untracked: list[str]) -> str:
    found = ask(
        project,
        *("-c", "diff.noprefix=false", "-c", "diff.mnemonicPrefix=false"),
        *("diff", "--no-color", "--no-ext-diff", "--no-textconv", "HEAD", "--"),
        most=DIFF_BYTES,
    )
    text = found.output.decode(errors="replace")
    if found.cut:
        text = text[: text.rfind("\n") + 1]
    _, secrets = split(os.environ)
    text = without_secrets(text, [value for value in secrets.values() if len(value) >= 12])
    notes = [f"The diff is longer and was cut off at {DIFF_BYTES // 1_000_000} MB."] if found.cut else []
    if untracked:
        notes.append("Files that git does not track, which are not in this diff:")
        notes += [f"  {name}" for name in untracked[:_UNTRACKED_SHOWN]]
        notes += [f"  … and {len(untracked) - _UNTRACKED_SHOWN} more"] if len(untracked) > _UNTRACKED_SHOWN else []
    # What stands before a diff is no part of it to `git apply`.
    return "".join(f"# {note}\n" for note in notes) + text
