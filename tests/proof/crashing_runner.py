"""A daemon whose first runner dies by SIGKILL at its K-th crash point.

`python -m tests.proof.crashing_runner daemon STATE_DIR K`.

Run without `daemon` it is that runner. Crash points lie before and after every line of the journal, every start of a
command, and every word to the daemon.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Any


def _runner() -> None:
    sys.path.insert(0, os.environ["EXECUTORS"])
    import journal  # type: ignore[import-not-found]
    import runner  # type: ignore[import-not-found]
    import spawn  # type: ignore[import-not-found]

    passed = 0
    marker = Path(os.environ["MARKER"])

    def point() -> None:
        nonlocal passed
        passed += 1
        if passed == int(os.environ["FATAL"]) and not marker.exists():
            marker.touch()  # the runners after this one live
            os.kill(os.getpid(), signal.SIGKILL)

    def around(owner: Any, name: str) -> None:
        original = getattr(owner, name)

        def wrapped(*args: Any, **kwargs: Any) -> Any:
            point()
            result = original(*args, **kwargs)
            point()
            return result

        setattr(owner, name, wrapped)

    around(journal.Journal, "write")
    around(spawn, "spawn")
    around(runner.Runner, "_tell")
    runner.main(int(sys.argv[1]), sys.argv[2])


def _daemon(root: Path, fatal: str) -> None:
    from metta_jobs.daemon import service
    from metta_jobs.executors import lane

    lane._ENVIRONMENT.update(
        EXECUTORS=str(Path(lane.__file__).parent), FATAL=fatal, MARKER=str(root.parent / "runner-killed")
    )
    lane.runner.__file__ = __file__
    service.run(root)


if __name__ == "__main__":
    if sys.argv[1] == "daemon":
        _daemon(Path(sys.argv[2]), sys.argv[3])
    else:
        _runner()
