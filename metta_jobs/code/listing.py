"""Which files make up a working tree: what git lists; without git, everything but what programs leave behind."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

from metta_jobs.code.program import NoGit, NoRepository, ask
from metta_jobs.errors import InvalidInput
from metta_jobs.paths import STATE_DIR_NAME

#: Without git, nothing says what belongs to the code; more files than this are more than code.
MOST_WITHOUT_GIT = 20_000
_CACHES = frozenset({
    "__pycache__", ".cache", ".eggs", ".hypothesis", ".ipynb_checkpoints", ".mypy_cache", ".nox", ".pytest_cache",
    ".ruff_cache", ".tox", ".venv", "node_modules", "venv", "wandb",
})  # fmt: skip
_GITLINK = "160000"
IGNORE_FILE = ".skyignore"


def list_files(project: Path, state_dir: Path) -> list[str]:
    """The paths, relative to `project` and sorted, of what makes up its working tree; some may vanish meanwhile.

    Never the state folder, what git keeps for itself, notebooks that were written (notebooks/*.ipynb that are not
    tracked), or what the project's .skyignore names. Raises InvalidInput.
    """
    tracked: set[str] = set()
    try:
        ask(project, "rev-parse", "--git-dir")
    except (NoGit, NoRepository):
        others = set(_walk(project))
    else:  # a submodule that is broken is told, and no reason to ship what git ignores
        tracked, others = _by_git(project)
    ignored = _ignore_rules(project / IGNORE_FILE)
    own = os.path.relpath(state_dir, project)
    kept = tracked | {name for name in others if not _written_notebook(name)}
    return sorted(name for name in kept if not _ours(name, own) and not ignored.match(name))


def _by_git(project: Path) -> tuple[set[str], set[str]]:
    """What git tracks, and what it neither tracks nor ignores, in `project` and the repositories inside it."""
    tracked: set[str] = set()
    others: set[str] = set()
    waiting = [""]
    while waiting:
        inner = waiting.pop()
        folder = project / inner
        staged = ask(folder, "ls-files", "-z", "--cached", "--stage").output
        for line in _names(staged):
            mark, _, name = line.partition("\t")  # "<mode> <hash> <stage>"
            if mark.startswith(_GITLINK):
                waiting += _repository(project, f"{inner}{name}/")
            else:
                tracked.add(inner + name)
        for name in _names(ask(folder, "ls-files", "-z", "--others", "--exclude-standard").output):
            if name.endswith("/"):
                waiting += _repository(project, inner + name)
            else:
                others.add(inner + name)
    return tracked, others


def _names(output: bytes) -> list[str]:
    return [os.fsdecode(name) for name in output.split(b"\0") if name]


def _repository(project: Path, inner: str) -> list[str]:
    """A submodule that was not checked out is an empty folder here, as it is for whoever runs the code here."""
    return [inner] if (project / inner / ".git").exists() else []


def _walk(project: Path) -> Iterator[str]:
    found = 0
    for here, folders, files in os.walk(project, onerror=_refuse):
        folders[:] = [name for name in folders if name not in _CACHES and name not in (".git", STATE_DIR_NAME)]
        links = [name for name in folders if os.path.islink(os.path.join(here, name))]  # noqa: PTH114, PTH118
        for name in (*files, *links):
            if name.endswith((".pyc", ".pyo")):
                continue
            found += 1
            if found > MOST_WITHOUT_GIT:
                raise InvalidInput(
                    f"{project} holds more than {MOST_WITHOUT_GIT} files, and without git nothing says which of them "
                    "are code: `git init` there, and list the rest in .gitignore."
                )
            yield os.path.relpath(os.path.join(here, name), project)  # noqa: PTH118


def _refuse(error: OSError) -> None:
    raise InvalidInput(f"{error.filename} cannot be read: {error.strerror}.") from error


def _written_notebook(name: str) -> bool:
    return name.startswith("notebooks/") and name.endswith(".ipynb")


def _ours(name: str, own: str) -> bool:
    *folders, last = name.split("/")
    return (
        STATE_DIR_NAME in folders
        or ".git" in (*folders, last)
        or last == IGNORE_FILE
        or name == own
        or name.startswith(f"{own}/")
    )


def _ignore_rules(path: Path) -> re.Pattern[str]:
    """What a .skyignore names, as SkyPilot reads it: "/x" is at the root, "x" anywhere; folders with all in them."""
    try:
        lines = [line.strip() for line in path.read_text(errors="replace").splitlines()]
    except FileNotFoundError:
        lines = []
    except OSError as error:
        raise InvalidInput(f"{path} cannot be read: {error.strerror}.") from error
    rules = [_rule(line) for line in lines if line.strip("/.") and not line.startswith("#")]
    return re.compile("|".join(rules) or r"(?!)", re.DOTALL)


def _rule(line: str) -> str:
    parts = [part for part in line.split("/") if part not in ("", ".")]
    pieces = [".*" if part == "**" else _GLOB.sub(_piece, part) for part in parts]
    return ("" if line.startswith("/") else "(?:.*/)?") + "/".join(pieces) + r"(?:/.*)?\Z"


#: A set of characters, or one character.
_GLOB = re.compile(r"\[(!?)([^]]+)\]|(.)", re.DOTALL)


def _piece(found: re.Match[str]) -> str:
    """A star does not go beyond a slash."""
    if found[2] is not None:
        chosen = found[2].replace("\\", r"\\").replace("[", r"\[").replace("^", r"\^")
        return f"[{'^' if found[1] else ''}{chosen}]"
    return {"*": "[^/]*", "?": "[^/]"}.get(found[3], re.escape(found[3]))
