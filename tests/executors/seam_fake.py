"""SkyPilot as the executor sees it, without SkyPilot: managed jobs in a dictionary, answers when a test wants them."""

from __future__ import annotations

import base64
import io
import json
import re
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from metta_jobs.executors.sky.client import Answer


class FakeSky:
    """At the seam of `SkyClient`. Launches make jobs at once; `confirm` and `lose` say what becomes of the answers.

    `down`: nothing is answered but "unreachable". `dying`: the act happens, the answer is lost. `lost`: neither.
    """

    def __init__(self) -> None:
        self.jobs: dict[int, dict[str, Any]] = {}
        self.logs: dict[int, str] = {}
        self.launches: list[str] = []
        self.cancelled: list[int] = []
        self.asked: list[tuple[str, dict[str, Any]]] = []
        self.requests: dict[str, dict[str, Any]] = {}
        self.down = False
        self.mood: str | None = None
        self.refuse: str | None = None
        self.hidden: set[int] = set()
        self.slow_ids = False
        self.whose = "http://api as me"
        self._answers: list[Answer] = []
        self._tickets = 0

    # -------------------------------------------------------------------------------------------- the client's side

    def ask(self, do: str, **fields: Any) -> int:
        self._tickets += 1
        self.asked.append((do, fields))
        if self.down:
            return self._say(do, None, "no answer from the API server", "unreachable")
        if self.mood == "lost" and do == "launch":
            Path(fields["marker"]).write_text(self.whose)
        if self.mood in ("lost", "unsent"):
            return self._say(do, None, "the worker died", "died")
        value = getattr(self, f"_{do}")(**fields)
        if self.mood == "dying":
            return self._say(do, None, "the worker died", "died")
        if do == "launch" and self.refuse:
            return self._say(do, None, self.refuse, "refused")
        return self._say(do, value)

    def answers(self) -> list[Answer]:
        said, self._answers = self._answers, []
        return said

    def fileno(self) -> int | None:
        return None

    def close(self) -> None:
        self._answers.clear()

    def _say(self, do: str, value: Any, error: str | None = None, kind: str | None = None) -> int:
        self._answers.append(Answer(self._tickets, do, value, error, kind))
        return self._tickets

    def _launch(self, name: str, task: Mapping[str, Any], marker: str, **rest: Any) -> dict[str, Any]:
        if self.refuse:
            return {}
        Path(marker).write_text(self.whose)
        self.launches.append(name)
        number = 1 + max(self.jobs, default=0)
        self.jobs[number] = {"job_id": number, "job_name": name, "status": "PENDING", "task": task}
        self.jobs[number] |= {"submitted_at": 1.0}
        request = f"request-{number}"
        self.requests[request] = {"status": "SUCCEEDED", "job_ids": [number], "error": None}
        return {"request_id": request}

    def _requests(self, ids: list[str]) -> dict[str, Any]:
        known = {i: self.requests[i] for i in ids if i in self.requests}
        return {i: {"status": "RUNNING", "job_ids": None, "error": None} for i in known} if self.slow_ids else known

    def _launches(self, names: list[str], since: str) -> dict[str, Any]:
        asked: dict[str, list[str]] = {name: [] for name in names}
        for request, said in self.requests.items():
            for number in said["job_ids"] or ():
                if (name := self.jobs[number]["job_name"]) in asked:
                    asked[name].append(request)
        return {"requests": asked, "complete": True, "whose": self.whose}

    def _queue(
        self, job_ids: list[int] | None = None, name_match: str | None = None, skip_finished: bool = False
    ) -> dict[str, Any]:
        found = [
            {k: v for k, v in job.items() if k != "task"}
            for number, job in self.jobs.items()
            if number not in self.hidden
            and (job_ids is None or number in job_ids)
            and (name_match is None or name_match in job["job_name"])
            and not (skip_finished and _ended(job))
        ]
        return {"records": found, "complete": True}

    def _cancel(self, job_ids: list[int]) -> dict[str, Any]:
        self.cancelled += job_ids
        for number in job_ids:
            if not _ended(self.jobs[number]):
                self.jobs[number]["status"] = "CANCELLING"
        return {}

    def _log(self, job_id: int, path: str, tail: int | None) -> dict[str, Any]:
        text = self.logs.get(job_id, "")
        if text:  # as the worker: no log, no file
            Path(path).write_text(text)
        return {"bytes": len(text)}

    def _price(self, resources: Mapping[str, Any]) -> dict[str, Any]:
        return {"hourly_usd": 1.5}

    # ---------------------------------------------------------------------------------------------- the test's side

    def named(self, part: str) -> int:
        """The managed job whose name holds this."""
        return next(number for number, job in self.jobs.items() if part in job["job_name"])

    def set(self, number: int, status: str, **fields: Any) -> None:
        """Change what SkyPilot says of a job."""
        self.jobs[number] |= {"status": status, **fields}

    def end(self, number: int, code: int, *, status: str | None = None, files: Mapping[str, str] | None = None) -> None:
        """Let its command end, with the evidence that its script would leave in the log."""
        mark = re.search(r"METTA_MARK='([^']+)'", self.jobs[number]["task"]["run"])
        assert mark is not None
        packed = io.BytesIO()
        with tarfile.open(fileobj=packed, mode="w:gz") as archive:
            for name, text in (files or {}).items():
                info = tarfile.TarInfo(name)
                info.size = len(text)
                archive.addfile(info, io.BytesIO(text.encode()))
        outcome = json.dumps({"exit_code": code, "started": 100, "ended": 107, "rank": 0, "limit": False})
        pack = base64.b64encode(packed.getvalue()).decode()
        self.logs[number] = f"hello\n\n{mark[1]} files {pack}\n\n{mark[1]} outcome {outcome}\n"
        self.set(number, status or ("FAILED" if code else "SUCCEEDED"))


def _ended(job: Mapping[str, Any]) -> bool:
    return str(job["status"]).startswith(("SUCC", "FAIL", "CANCELLED"))
