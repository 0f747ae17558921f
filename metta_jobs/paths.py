"""Where things lie: the project, its state folder, and what is in it."""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from metta_jobs.errors import InvalidInput

STATE_DIR_VARIABLE = "METTA_JOB_STATE"
STATE_DIR_NAME = "job_state"
RESERVE_BYTES = 512 * 1024
#: How this program is called in advice: who has it only through `uv run` must be told to type that.
PROGRAM = "uv run metta" if "UV_RUN_RECURSION_DEPTH" in os.environ else "metta"


def find_project(start: Path | None = None) -> Path:
    """Return the nearest folder, from `start` upwards, that holds a pyproject.toml or a job_state/; else `start`."""
    try:
        here = (start or Path.cwd()).resolve()
    except FileNotFoundError:
        raise InvalidInput("The folder that you are in was removed: change to another.") from None
    for folder in (here, *here.parents):
        if (folder / "pyproject.toml").is_file() or (folder / STATE_DIR_NAME).is_dir():
            return folder
    return here


def find_state_dir(explicit: Path | None = None, start: Path | None = None) -> Path:
    """Return the state folder: `explicit`, else $METTA_JOB_STATE, else job_state/ in the project. It need not exist."""
    if explicit is not None:
        return explicit.expanduser().resolve()
    named = os.environ.get(STATE_DIR_VARIABLE)
    if named:
        return Path(named).expanduser().resolve()
    return find_project(start) / STATE_DIR_NAME


@dataclass(frozen=True)
class StateDir:
    """The layout of a state folder."""

    root: Path

    @property
    def database(self) -> Path:
        return self.root / "jobs.sqlite"

    @property
    def daemon_lock(self) -> Path:
        return self.root / "daemon.lock"

    @property
    def daemon_log(self) -> Path:
        return self.root / "daemon.log"

    @property
    def doorbell(self) -> Path:
        return self.root / "doorbell.sock"

    @property
    def snapshots(self) -> Path:
        """The frozen working trees of remote jobs, each in a folder that is named by its content."""
        return self.root / "snapshots"

    @property
    def configs(self) -> Path:
        """The configuration files of trainings, each in a folder that is named by its content."""
        return self.root / "configs"

    def attempt(self, job_id: int, attempt: int) -> Path:
        """The folder of one attempt: output.log and what the job leaves."""
        return self.root / "jobs" / str(job_id) / str(attempt)

    def token(self, job_id: int, attempt: int) -> str:
        """What marks the processes of one attempt, in their environment."""
        return f"{self.root}:{job_id}:{attempt}"

    def keep_reserve(self) -> None:
        """Hold some room on the disk, where there is any, for the records that a full disk must not keep out."""
        path = self.root / "reserve"
        if path.exists():
            return
        aside = path.with_name(f"reserve.{os.getpid()}")
        try:
            aside.write_bytes(bytes(RESERVE_BYTES))
            aside.rename(path)
        except OSError:
            aside.unlink(missing_ok=True)

    def release_reserve(self) -> bool:
        """Give that room back to the disk; False when there is none."""
        try:
            (self.root / "reserve").unlink()
        except OSError:
            return False
        return True

    def salt(self) -> bytes:
        """A random key of this state folder, made when first asked for."""
        path = self.root / "salt"
        if not path.exists():
            aside = path.with_name(f"salt.{os.getpid()}")
            aside.touch(mode=0o600)
            aside.write_bytes(os.urandom(32))
            with contextlib.suppress(FileExistsError):
                os.link(aside, path)  # of several that come first, one wins
            aside.unlink()
        return path.read_bytes()

    @cached_property
    def mark(self) -> str:
        """Six characters that tell this queue from others, where the ids of its jobs are not enough."""
        return hashlib.sha256(b"queue" + self.salt()).hexdigest()[:6]

    def create(self) -> None:
        """Make the folder, for its owner only; raise InvalidInput when that cannot be done."""
        try:
            self.root.mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError as error:
            raise InvalidInput(
                f"The state folder {self.root} cannot be made ({error.strerror}). "
                f"Name another with --state-dir or ${STATE_DIR_VARIABLE}."
            ) from error


@contextlib.contextmanager
def short_address(path: Path) -> Iterator[str]:
    """A name for the socket that fits the 100 bytes a unix address may have, however deep the state folder lies."""
    if len(os.fsencode(path)) < 100:
        yield str(path)
        return
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{folder}/{path.name}"
    finally:
        os.close(folder)
