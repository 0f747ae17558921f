"""A daemon that dies by SIGKILL at a point of a launch: `python -m tests.skypilot.crashing_daemon STATE_DIR POINT`.

The points, in the order in which a launch passes them: what is known of it goes to disk ("ledger"), it is handed to the
worker ("asked"), the API server has it ("sent"), the id of the request comes and is stored ("request"), the id of the
managed job comes and is stored ("id"). Each but "sent" has a "before" and an "after".
"""

from __future__ import annotations

import base64
import os
import signal
import sqlite3
import sys
import threading
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

from metta_jobs.daemon import service
from metta_jobs.executors.sky.client import SkyClient
from metta_jobs.executors.sky.executor import SkyExecutor
from metta_jobs.executors.sky.ledger import Ledger


def _point(name: str) -> None:
    if name == _FATAL:
        os.kill(os.getpid(), signal.SIGKILL)


def _around(owner: Any, method: str, label: Callable[[dict[str, Any], tuple[Any, ...]], str]) -> None:
    original = getattr(owner, method)

    def wrapped(*args: Any, **fields: Any) -> Any:
        name = label(fields, args)
        _point(f"before {name}")
        result = original(*args, **fields)
        _point(f"after {name}")
        if name == "asked":
            threading.Thread(target=_die_when_sent, args=(fields["name"],), daemon=True).start()
        return result

    setattr(owner, method, wrapped)


def _die_when_sent(job: str) -> None:
    """SkyPilot's own database of requests tells, before its answer is here."""
    path = Path.home() / ".sky/api_server/requests.db"
    with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as requests:
        while not any(
            job.encode() in base64.b64decode(body)
            for (body,) in requests.execute("SELECT request_body FROM requests WHERE name = 'sky.jobs.launch'")
        ):
            time.sleep(0.001)
    _point("sent")


if __name__ == "__main__":
    _FATAL = sys.argv[2]
    _around(Ledger, "save", lambda fields, args: "ledger" if fields["sync"] else "")
    _around(SkyClient, "ask", lambda fields, args: "asked" if args[1] == "launch" else "")
    _around(SkyExecutor, "_know", lambda fields, args: "request" if "request_id" in fields else "id")
    service.log_to(Path(sys.argv[1]) / "daemon.log")
    service.run(Path(sys.argv[1]))
