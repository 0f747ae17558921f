"""What tests of hooks share: a server to tell, and facts to tell of."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from metta_jobs.daemon.deliver import Means
from metta_jobs.daemon.house import House

SECRET = "T0-B0-secretpart"


class Slack:
    """A server on loopback that answers with `answers` in turn, then with 200."""

    def __init__(self) -> None:
        self.answers: list[int] = []
        self.headers: dict[str, str] = {}
        self.heard: list[dict[str, Any]] = []
        self.paths: list[str] = []
        slack = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                slack.paths.append(self.path)
                slack.heard.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
                self.send_response(slack.answers.pop(0) if slack.answers else 200)
                for name, value in slack.headers.items():
                    self.send_header(name, value)
                self.end_headers()

            def do_GET(self) -> None:
                slack.paths.append(f"GET {self.path}")
                self.send_response(200)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                return

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/services/{SECRET}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()


def means_of(house: House, **fields: Any) -> Means:
    return Means(house.state_dir, house.state_dir.root, **fields)


def facts(**fields: Any) -> dict[str, Any]:
    ours = {"event": "job_ended", "group": "g", "job_id": 7, "name": "train", "state": "failed", "outcome": "failure"}
    return {**ours, "exit_code": 3, "reason": "exit code 3", "attempt": 2, "duration_s": 754.0, **fields}


def digest_facts(**fields: Any) -> dict[str, Any]:
    counts = {"succeeded": 5, "failed": 1, "timed_out": 0, "killed": 0, "lost": 0, "skipped": 0}
    failures = [{"job_id": 3, "name": "high_lr", "state": "failed", "exit_code": 1, "reason": "exit code 1"}]
    ours = {"event": "group_ended", "group": "g", "state": "failed", "outcome": "failure"}
    return {**ours, "counts": counts, "failures": failures, "duration_s": 3790.0, **fields}


def health_facts() -> dict[str, Any]:
    """Those that a health rule's finding is told by: the job goes on, so that nothing of an end is in them."""
    said = "health: overview/reward was NaN at step 40,960"
    found = facts(event="job_health", state="running", reason=said, duration_s=None)
    del found["exit_code"]
    return found
