"""Three executors, each with the means to make an attempt run, end and be stubborn, for one suite of promises."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from metta_jobs.executors.base import Absent, Executor, Exited, Failed, Key, LaunchSpec, Observation
from metta_jobs.executors.local import LocalExecutor
from metta_jobs.executors.sky.executor import SkyExecutor
from metta_jobs.job import RemoteConfig
from metta_jobs.paths import StateDir
from metta_jobs.testing import FakeExecutor, ManualClock
from tests.executors.seam_fake import FakeSky
from tests.processes import until

KEY: Key = (1, 1)
NEXT: Key = (2, 1)


class Bench:
    """An executor and how to make it do things.

    `lanes`: attempts of one lane stand in line; `gentle`: TERM comes before KILL; `forgets`: what nobody asks about is
    no longer kept.
    """

    lanes = gentle = forgets = True
    executor: Executor

    def start(self, what: str, key: Key = KEY) -> None:
        """Launch an attempt that does "sleep", "ok" (exit code 0), "fail" (3) or "stubborn"."""
        raise NotImplementedError

    def behind(self, key: Key) -> None:
        """Launch in the same lane, behind KEY, something that sleeps."""
        raise NotImplementedError

    def restart(self) -> None:
        """Throw the executor away, as when the daemon is killed, and make another."""
        raise NotImplementedError

    def started(self) -> int:
        """How many attempts have ever been started."""
        raise NotImplementedError

    def running(self) -> int:
        """How many of them run, asked of the world and not of the executor."""
        raise NotImplementedError

    def kept(self) -> int:
        """How many attempts the executor remembers."""
        raise NotImplementedError

    def clean_up(self) -> None:
        """End everything."""

    def look(self, *keys: Key) -> dict[Key, Observation]:
        """One question."""
        return self.executor.observe(keys or [KEY])

    def see(self, *kinds: type[Observation], key: Key = KEY) -> Any:
        """Ask until it is one of these."""
        return until(lambda: isinstance(seen := self.look(key)[key], kinds) and seen, str(kinds))

    def end(self, key: Key = KEY) -> Any:
        """Ask until it has ended; what it has ended as."""

        def ended() -> Observation | None:
            seen = self.look(key)[key]
            final = isinstance(seen, Exited | Failed) or (isinstance(seen, Absent) and seen.launched)
            return seen if final else None

        return until(ended, "the end")


class FakeBench(Bench):
    """metta_jobs.testing's."""

    forgets = False

    def __init__(self) -> None:
        self.executor: FakeExecutor = FakeExecutor(ManualClock())
        self.lane = self.executor.lane()

    def start(self, what: str, key: Key = KEY) -> None:
        lane = self.lane if key == KEY else self.executor.lane()
        self.executor.launch(LaunchSpec(key, lane, ("x",), None, {}))
        if what == "stubborn":
            self.executor.stubborn.add(key)
        if what in ("ok", "fail"):
            self.executor.end(key, 0 if what == "ok" else 3)

    def behind(self, key: Key) -> None:
        self.executor.launch(LaunchSpec(key, self.lane, ("x",), None, {}))

    def restart(self) -> None:
        self.executor = self.executor.another()

    def started(self) -> int:
        return len(self.executor.launched)

    def running(self) -> int:
        return sum(process.alive for process in self.executor._processes.values())


_PROGRAMS = {
    "sleep": "import time; print('up', flush=True); time.sleep(600)",
    "ok": "print('up', flush=True)",
    "fail": "print('up', flush=True); raise SystemExit(3)",
    "stubborn": "import signal, time; signal.signal(15, signal.SIG_IGN); print('up', flush=True); time.sleep(600)",
}


class LocalBench(Bench):
    """Real processes."""

    def __init__(self, root: Path) -> None:
        self.state_dir = StateDir(root)
        self.state_dir.create()
        self.executor = LocalExecutor(self.state_dir)
        self.lane = self.executor.lane()

    def _spec(self, key: Key, lane: str, *command: str) -> LaunchSpec:
        environment = {"METTA_ATTEMPT_TOKEN": self.state_dir.token(*key), "PATH": os.environ["PATH"]}
        return LaunchSpec(key, lane, command, None, environment)

    def _log(self, key: Key) -> Path:
        return self.state_dir.attempt(*key) / "output.log"

    def start(self, what: str, key: Key = KEY) -> None:
        # Each start leaves a line of its own, so that they can be counted.
        program = f"open({str(self._starts)!r}, 'a').write('x\\n'); {_PROGRAMS[what]}"
        lane = self.lane if key == KEY else self.executor.lane()
        self.executor.launch(self._spec(key, lane, sys.executable, "-c", program))
        until(lambda: self._log(key).exists() and "up" in self._log(key).read_text(), "the program's first line")

    @property
    def _starts(self) -> Path:
        return self.state_dir.root / "starts"

    def behind(self, key: Key) -> None:
        self.executor.launch(self._spec(key, self.lane, "sleep", "600"))

    def restart(self) -> None:
        self.executor.close()
        self.executor = LocalExecutor(self.state_dir)

    def started(self) -> int:
        return len(self._starts.read_text().splitlines())

    def running(self) -> int:
        from tests.processes import processes_of

        return len(processes_of(self.state_dir.root))

    def kept(self) -> int:
        assert isinstance(self.executor, LocalExecutor)
        return len(self.executor._at)

    def clean_up(self) -> None:
        from tests.conftest import clean_up

        self.executor.close()
        clean_up(self.state_dir.root)


class SkyBench(Bench):
    """Managed jobs of a stand-in, on a clock that moves with each question."""

    lanes = gentle = False

    def __init__(self, root: Path) -> None:
        self.state_dir = StateDir(root)
        self.state_dir.create()
        self.clock = ManualClock()
        self.sky = FakeSky()
        self.plans: dict[str, str] = {}
        self.restart()

    def restart(self) -> None:
        self.sky.answers()  # those that were on their way to the old one are lost
        self.executor = SkyExecutor(self.state_dir, self.sky, self.clock)  # type: ignore[arg-type]

    def start(self, what: str, key: Key = KEY) -> None:
        remote = RemoteConfig(infra="k8s").model_dump()
        self.executor.launch(LaunchSpec(key, "", ("train",), None, {}, remote=remote))
        self.plans.setdefault(f"-{key[0]}-{key[1]}", what)

    def look(self, *keys: Key) -> dict[Key, Observation]:
        self.clock.advance(2)
        for number, job in self.sky.jobs.items():
            what = next(plan for name, plan in self.plans.items() if job["job_name"].endswith(name))
            if job["status"] == "CANCELLING":
                job["status"] = "CANCELLED"
            elif job["status"] == "RUNNING" and what in ("ok", "fail"):
                self.sky.end(number, 0 if what == "ok" else 3)
            elif job["status"] == "PENDING":
                self.sky.set(number, "RUNNING", job_duration=1.0)
        return super().look(*keys)

    def started(self) -> int:
        return len(self.sky.launches)

    def running(self) -> int:
        return sum(job["status"] in ("PENDING", "RUNNING") for job in self.sky.jobs.values())

    def kept(self) -> int:
        assert isinstance(self.executor, SkyExecutor)
        return len(self.executor._attempts) + len(self.executor._waiting)


BENCHES: dict[str, Callable[[Path], Bench]] = {
    "local": LocalBench,
    "skypilot": SkyBench,
    "fake": lambda root: FakeBench(),
}
