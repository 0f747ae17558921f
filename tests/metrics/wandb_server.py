"""A stand-in for W&B's server, as much of it as the real client needs: runs that log online, and wandb.Api.

It keeps runs in memory and notes what was asked. `fault`, when set, may answer instead: it gets the name of the GraphQL
operation (or "file_stream") and returns None or (HTTP status, pause in seconds). How W&B itself samples, limits and
declares runs crashed is not played here.
"""

from __future__ import annotations

import base64
import gzip
import json
import math
import re
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

KEY = "0123456789" * 4
ENTITY = "team"
Fields = dict[str, Any]
_COLUMNS = {"display_name": "displayName", "created_at": "createdAt", "username": "username"}


@dataclass
class Run:
    """One run as the server knows it. `rows` are JSON objects."""

    project: str
    name: str
    display: str = ""
    group: str | None = None
    tags: list[str] = field(default_factory=list)
    config: Fields = field(default_factory=dict)
    summary: Fields = field(default_factory=dict)
    rows: list[Fields] = field(default_factory=list)
    state: str = "running"
    created: float = field(default_factory=time.time)

    @property
    def key(self) -> str:
        return base64.b64encode(f"Run:v1:{self.name}:{self.project}:{ENTITY}".encode()).decode()

    def node(self) -> Fields:
        at = datetime.fromtimestamp(self.created, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        return {
            **dict.fromkeys(("jobType", "sweepName", "commit", "description", "notes", "host")),
            "id": self.key,
            "name": self.name,
            "displayName": self.display or self.name,
            "state": self.state,
            "tags": self.tags,
            "group": self.group,
            "readOnly": False,
            "createdAt": at,
            "heartbeatAt": at,
            "historyLineCount": len(self.rows),
            "user": {"name": "ann", "username": "ann"},
            "projectId": "1",
            "config": json.dumps(self.config),
            "summaryMetrics": json.dumps(_spelled(self.summary)),
            "systemMetrics": "{}",
            "historyKeys": {"keys": {}, "lastStep": self.rows[-1]["_step"] if self.rows else -1, "sets": []},
            "project": {"id": "1", "name": self.project, "entity": {"id": "1", "name": ENTITY}},
        }


class Server(ThreadingHTTPServer):
    """Serves in threads from `with` to its end."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.url = f"http://127.0.0.1:{self.server_address[1]}"
        self.runs: dict[tuple[str, str], Run] = {}
        self.asked: list[str] = []
        self.unknown: list[str] = []
        self.fault: Callable[[str], tuple[int, float] | None] = lambda name: None
        self.lock = threading.RLock()

    def __enter__(self) -> Server:
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        return self

    def __exit__(self, *error: object) -> None:
        self.shutdown()
        self.server_close()

    def environment(self) -> dict[str, str]:
        return {"WANDB_BASE_URL": self.url, "WANDB_API_KEY": KEY, "WANDB_ERROR_REPORTING": "false"}

    def add(self, run: Run) -> Run:
        return self.runs.setdefault((run.project, run.name), run)

    def count(self, name: str) -> int:
        return self.asked.count(name)

    # ------------------------------------------------------------------------------------------------ answers

    def answer(self, name: str, variables: Fields) -> Fields | None:
        with self.lock:
            if name in ("Viewer", "GetViewer", "GetDefaultEntity", "DefaultEntity"):
                teams = {"edges": [{"node": {"name": ENTITY}}]}
                who = {"id": "1", "entity": ENTITY, "username": "ann", "name": "ann", "email": "ann@example.org"}
                return {"viewer": {**who, "admin": False, "flags": "{}", "teams": teams, "apiKeys": {"edges": []}}}
            if name == "OrganizationCoreWeaveOrganizationID":
                return {"entity": None}
            if name == "ServerFeaturesQuery":
                return {"serverInfo": {"features": []}}
            if name == "UpsertBucket":
                return self._upsert(variables)
            if name == "CreateRunFiles":
                files = [{"name": f, "uploadUrl": f"{self.url}/upload/{f}"} for f in variables["files"]]
                return {"createRunFiles": {"runID": "1", "uploadHeaders": [], "files": files}}
            if name == "Runs":
                return self._listed(variables)
            named = next((variables[key] for key in ("name", "run", "runName") if variables.get(key)), "")
            one = self.runs.get((str(variables.get("project")), named))
            if name == "RunResumeStatus":
                return self._resume(variables, one)
            project: Fields = {"internalId": "1", "run": None}
            if one and name in ("RunSampledHistory", "SampledHistoryPage"):
                specs = [json.loads(spec) for spec in variables.get("specs") or [variables["spec"]]]
                project["run"] = {"sampledHistory": [_sampled(one.rows, spec) for spec in specs]}
            elif one and name == "RunParquetHistory":
                rows = [row for row in one.rows if all(key in row for key in variables.get("liveKeys") or [])]
                project["run"] = {"parquetHistory": {"parquetUrls": [], "liveData": rows}}
            elif one and name in ("Run", "RunState", "RunHistoryKeys"):
                project["run"] = one.node()
            elif name not in ("Run", "RunState", "RunHistoryKeys"):
                self.unknown.append(name)
                return None
            return {"project": project}

    def _upsert(self, v: Fields) -> Fields:
        known = next((run for run in self.runs.values() if run.key == v.get("id")), None)
        run = known or self.add(Run(v.get("project") or "uncategorized", v.get("name") or "?"))
        run.display = v.get("displayName") or run.display
        run.group = v.get("groupName") or run.group
        run.tags = v.get("tags") or run.tags
        run.config |= json.loads(v.get("config") or "{}")
        run.summary |= json.loads(v.get("summaryMetrics") or "{}")
        return {"upsertBucket": {"bucket": run.node(), "inserted": known is None}}

    def _resume(self, v: Fields, run: Run | None) -> Fields:
        bucket = None
        if run:
            tail = json.dumps([json.dumps(row) for row in run.rows[-1:]])
            bucket = {**run.node(), "historyTail": tail, "eventsTail": "[]", "eventsLineCount": 0, "logLineCount": 0}
            bucket["wandbConfig"] = json.dumps({"t": {}})
        return {"model": {"id": "1", "name": v.get("project"), "entity": {"id": "1", "name": ENTITY}, "bucket": bucket}}

    def _listed(self, v: Fields) -> Fields:
        project = [run for run in self.runs.values() if run.project == v.get("project")]
        if not project:
            return {"project": None}
        found = [run.node() for run in project if _matches(run.node(), json.loads(v.get("filters") or "{}"))]
        order = v.get("order") or "+created_at"
        found.sort(key=lambda node: str(node[_COLUMNS.get(order.lstrip("+-"), "createdAt")]), reverse=order[0] == "-")
        start, size = int(v.get("cursor") or 0), int(v.get("perPage") or 50)
        edges = [{"node": n, "cursor": str(start + i + 1)} for i, n in enumerate(found[start : start + size])]
        page = {"endCursor": edges[-1]["cursor"] if edges else None, "hasNextPage": start + size < len(found)}
        runs = {"edges": edges, "pageInfo": page}
        return {"project": {"internalId": "1", "runCount": len(found), "readOnly": False, "runs": runs}}

    def stream(self, project: str, name: str, body: Fields) -> Fields:
        """Take what a run sends of its files. The offset makes a chunk that is sent again harmless."""
        with self.lock:
            run = self.add(Run(project, name))
            for file, chunk in (body.get("files") or {}).items():
                lines = [json.loads(line) for line in chunk.get("content") or [] if file.endswith((".jsonl", ".json"))]
                if file == "wandb-history.jsonl":
                    run.rows[chunk.get("offset", 0) :] = lines
                elif file == "wandb-summary.json" and lines:
                    run.summary = lines[-1]
            if body.get("complete"):
                run.state = "failed" if body.get("exitcode") else "finished"
        return {"exitcode": None, "limits": {}, "stopped": False}


def _sampled(rows: list[Fields], spec: Fields) -> list[Fields]:
    """As W&B does: only rows that hold all the keys, evenly picked."""
    keys, most = spec["keys"], spec.get("samples") or len(rows)
    first, last = spec.get("minStep") or 0, spec.get("maxStep") or math.inf
    hits = [{key: row[key] for key in keys} for row in rows if all(key in row for key in keys)]
    hits = [row for row in hits if first <= row.get("_step", first) <= last]
    if len(hits) <= most:
        return hits
    return [hits[round(i * (len(hits) - 1) / max(1, most - 1))] for i in range(most)]


def _matches(node: Fields, wanted: Fields) -> bool:
    for name, condition in wanted.items():
        if name == "$and":
            if not all(_matches(node, one) for one in condition):
                return False
            continue
        value = node["user"]["username"] if name == "username" else node[_COLUMNS.get(name, name)]
        tests = condition if isinstance(condition, dict) else {"$eq": condition}
        for test, against in tests.items():
            held = value if isinstance(value, list) else [value]
            met = {
                "$eq": lambda a=against, h=held: a in h,
                "$in": lambda a=against, h=held: any(one in a for one in h),
                "$gte": lambda a=against, v=value: v >= a,
                "$lte": lambda a=against, v=value: v <= a,
            }[test]
            if not met():
                return False
    return True


def _spelled(value: Any) -> Any:
    """JSON has no NaN: W&B spells such numbers out."""
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    if isinstance(value, dict):
        return {key: _spelled(one) for key, one in value.items()}
    return [_spelled(one) for one in value] if isinstance(value, list) else value


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server

    def log_message(self, *words: object) -> None:
        return

    def _send(self, status: int, body: object) -> None:
        data = json.dumps(_spelled(body)).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def _handle(self) -> None:
        raw = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.headers.get("Content-Encoding") == "gzip":
            raw = gzip.decompress(raw)
        parts = unquote(urlsplit(self.path).path).strip("/").split("/")
        body = json.loads(raw) if parts[0] == "graphql" or parts[-1] == "file_stream" else {}
        name = parts[-1]
        if parts[0] == "graphql":
            found = re.search(r"\b(?:query|mutation)\s+(\w+)", body.get("query") or "")
            name = body.get("operationName") or (found[1] if found else "?")
        self.server.asked.append(name)
        if trouble := self.server.fault(name):
            status, pause = trouble
            time.sleep(pause)
            return self._send(status, {"error": "trouble"})
        if parts[0] == "graphql":
            given = base64.b64decode(self.headers.get("Authorization", "Basic ")[6:]).decode().partition(":")[2]
            if given != KEY:
                return self._send(401, {"errors": [{"message": "user is not logged in"}]})
            answer = self.server.answer(name, body.get("variables") or {})
            # An answer without data would end the client's core.
            return self._send(200, {"data": answer} if answer is not None else {"errors": [{"message": "unknown"}]})
        if parts[-1] == "file_stream":
            return self._send(200, self.server.stream(parts[-3], parts[-2], body))
        return self._send(200, {})

    do_GET = do_POST = do_PUT = _handle
