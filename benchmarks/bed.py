"""Where a benchmark works: a state folder of its own with a daemon of its own, of which nothing is left afterwards."""

from __future__ import annotations

import os
import shutil
import sqlite3
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import psutil

import metta_jobs
from benchmarks import processes
from metta_jobs import JobConfig, JobManager

NOOP = ("/bin/true",)
PATIENCE_S = 120.0
_LEAKY = ("METTA_", "WANDB_", "CUDA_VISIBLE_DEVICES")


@contextmanager
def isolated() -> Iterator[None]:
    """No setting, login or GPU of the machine counts; whatever is started runs the same code as this process.

    Files are made in one folder, which is gone afterwards, as are the processes that know of it.
    """
    for name in list(os.environ):
        if name.startswith(_LEAKY):
            del os.environ[name]
    here = Path.cwd()
    elsewhere = tempfile.tempdir
    with tempfile.TemporaryDirectory(prefix="metta-bench-") as home:
        source = str(Path(metta_jobs.__file__).resolve().parent.parent)
        path = os.pathsep.join(filter(None, [source, os.environ.get("PYTHONPATH")]))
        os.environ |= {"HOME": home, "XDG_CONFIG_HOME": f"{home}/.config", "METTA_GPUS": "", "PYTHONPATH": path}
        os.chdir(home)
        tempfile.tempdir = home
        try:
            yield
        finally:
            os.chdir(here)
            tempfile.tempdir = elsewhere
            processes.end_all(Path(home))  # what an interrupted benchmark has left


def until(condition: Callable[[], bool], what: str, *, every_s: float = 0.01, patience_s: float = PATIENCE_S) -> None:
    """Wait until `condition()`; raise TimeoutError naming `what` when that takes too long."""
    deadline = time.monotonic() + patience_s
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"waited {patience_s:.0f} s in vain for {what}")
        time.sleep(every_s)


def noops(count: int, prefix: str = "j") -> list[JobConfig]:
    """So many jobs that do nothing."""
    return [JobConfig(name=f"{prefix}{number}", command=NOOP) for number in range(count)]


class Bed:
    """A state folder, its manager, and its daemon."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.manager = JobManager(root)
        self.database = root / "jobs.sqlite"
        self._reader: sqlite3.Connection | None = None

    def warm(self) -> None:
        """Run one job to its end, so that the daemon is there and has done everything once."""
        self.run(noops(1), "warm")

    def run(self, configs: Sequence[JobConfig], group: str, *, patience_s: float = PATIENCE_S) -> None:
        """Submit and wait for the end."""
        self.manager.submit(configs, group=group)
        self.rest(patience_s=patience_s)

    def unfinished(self) -> int:
        """How many jobs have not ended: asked of the file, which disturbs nobody."""
        if self._reader is None:
            self._reader = sqlite3.connect(f"file:{self.database}?mode=ro", uri=True, isolation_level=None)
        (count,) = self._reader.execute("SELECT count(*) FROM jobs WHERE finished_at IS NULL").fetchone()
        return int(count)

    def rest(self, *, every_s: float = 0.01, patience_s: float = PATIENCE_S) -> None:
        """Wait until every job has ended."""
        until(lambda: self.unfinished() == 0, "the end of all jobs", every_s=every_s, patience_s=patience_s)

    def metta(self, *arguments: str) -> list[str]:
        """The program as people call it, on this folder."""
        return [sys.executable, "-m", "metta_jobs", "--state-dir", str(self.root), *arguments]

    def daemon(self) -> psutil.Process:
        """The daemon's process."""
        holder = self.manager.start_daemon()
        return psutil.Process(holder.pid)

    def let_go(self) -> None:
        """Close the file; the next use opens it again."""
        if self._reader is not None:
            self._reader.close()
            self._reader = None
        self.manager.close()


@contextmanager
def bed(cpus: int = 2) -> Iterator[Bed]:
    """A bed with so many slots. Afterwards its processes are gone, and so are its files."""
    folder = Path(tempfile.mkdtemp(prefix="bed-")).resolve()
    os.environ["METTA_CPUS"] = str(cpus)
    made = None
    try:
        made = Bed(folder / "job_state")
        yield made
        made.manager.stop_daemon()
    finally:
        if made is not None:
            made.let_go()
        processes.end_all(folder)
        shutil.rmtree(folder)
