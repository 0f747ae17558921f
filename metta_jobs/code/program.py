"""Asking the git program: argv lists, deadlines, no questions back, and errors that say what to do."""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryFile

from metta_jobs.errors import InvalidInput

DEADLINE_S = 60.0
#: Where a hook of git, or a person, has pointed git elsewhere: we ask about the folder that is named.
_ELSEWHERE = (
    "GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_PREFIX", "GIT_COMMON_DIR", "GIT_OBJECT_DIRECTORY",
    "GIT_NAMESPACE", "GIT_LITERAL_PATHSPECS", "GIT_GLOB_PATHSPECS", "GIT_NOGLOB_PATHSPECS", "GIT_ICASE_PATHSPECS",
    "GIT_EXTERNAL_DIFF", "GIT_DIFF_OPTS",
)  # fmt: skip
_QUIET = {"GIT_TERMINAL_PROMPT": "0", "GIT_OPTIONAL_LOCKS": "0", "GIT_PAGER": "cat", "LC_ALL": "C"}


class NoGit(InvalidInput):
    """The program git is not installed."""


class NoRepository(InvalidInput):
    """A folder that is in no git repository."""


@dataclass(frozen=True)
class Answer:
    """What git said; `output` may be cut off at the length that was asked for."""

    code: int
    output: bytes
    cut: bool = False

    @property
    def text(self) -> str:
        return os.fsdecode(self.output).strip()


def ask(
    folder: Path, *arguments: str, allowed: tuple[int, ...] = (0,), most: int = -1, deadline_s: float = DEADLINE_S
) -> Answer:
    """Run git in `folder`; return its exit code and the first `most` bytes of its output.

    Raises NoGit, NoRepository, or InvalidInput when it took longer than that or ended with a code not `allowed`.
    """
    environment = {name: value for name, value in os.environ.items() if name not in _ELSEWHERE} | _QUIET
    # Through files: what git starts may outlive it and would hold a pipe open beyond the deadline.
    with TemporaryFile() as out, TemporaryFile() as err:
        try:
            code = subprocess.run(
                ["git", *arguments],
                cwd=folder,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                timeout=deadline_s,
                check=False,
            ).returncode
        except FileNotFoundError as error:
            if not folder.is_dir():
                raise InvalidInput(f"{folder} is no folder.") from error
            raise NoGit("The program git was not found: install it.") from error
        except OSError as error:
            raise InvalidInput(f"git cannot be asked about {folder}: {error.strerror or error}.") from error
        except subprocess.TimeoutExpired as error:
            raise InvalidInput(
                f"`git {arguments[0]}` did not answer within {deadline_s:g} s in {folder}: "
                "see whether it does in your shell."
            ) from error
        size = out.seek(0, os.SEEK_END)
        out.seek(0)
        err.seek(0)
        if code in allowed:
            return Answer(code, out.read(most), 0 <= most < size)
        said = err.read(2000).decode(errors="replace").strip()
    if "not a git repository" in said:
        raise NoRepository(f"{folder} is in no git repository.")
    first = " ".join(said.removeprefix("fatal: ").split()) or f"exit code {code}"
    raise InvalidInput(f"git cannot tell about {folder}: {first}")
