"""wandb's client in a process of its own: JSON lines in on stdin, JSON lines out on stdout.

Run as a script, `python -I worker.py`. Apart from the rest because wandb.Api() puts WANDB_SERVICE into its process's
environment, from where it would reach jobs; takes a second to import; and may wait for minutes.

In:   {"ticket": 7, "do": "runs", "entity", "project", "filters", "order", "limit", "timeout_s"}
      {"ticket": 8, "do": "history", "entity", "project", "run", "keys": [[key, axis or null], …], "samples": n or null}
Out:  {"ticket": 7, "value": …, "requests": n}   {"ticket": 7, "error": words, "kind": kind}, with kind one of refused
      (what is asked would be refused again), absent (there is no such project or run) and trouble (it may pass)
"""

from __future__ import annotations

import itertools
import json
import os
import re
import sys
from typing import Any

Fields = dict[str, Any]

_PAGE = 100
_ABSENT = re.compile(r"could not find|not found|does not exist|\b404\b", re.IGNORECASE)
_REFUSED = re.compile(
    r"\b40[013]\b|api key|unauthorized|permission|forbidden|not logged in|log ?in\b|authentication", re.IGNORECASE
)
_TROUBLE = re.compile(r"\b(429|5\d\d)\b|timed? ?out|timeout|deadline|connection|unreachable|temporar", re.IGNORECASE)


class Asking:
    """What is asked of wandb.Api, by its public methods."""

    def __init__(self) -> None:
        self._api: Any = None
        self._timeout_s = 0.0
        self._runs: dict[tuple[str, str, str], Any] = {}

    def _fresh(self, timeout_s: float) -> Any:
        import wandb

        if self._api is None or timeout_s != self._timeout_s:
            self._api, self._timeout_s = wandb.Api(timeout=max(1, int(timeout_s))), timeout_s
            self._runs.clear()
        self._api.flush()  # it keeps what it has once seen for ever
        return self._api

    def runs(self, asked: Fields) -> tuple[Any, int]:
        """The runs of a project that pass the filters: a request for each hundred."""
        api = self._fresh(asked["timeout_s"])
        entity = asked["entity"] or api.default_entity
        found = api.runs(
            f"{entity}/{asked['project']}",
            filters=asked["filters"],
            order=asked["order"],
            per_page=min(_PAGE, asked["limit"]),
            lazy=False,
        )
        told = []
        for run in itertools.islice(found, asked["limit"]):
            self._runs[entity, asked["project"], run.id] = run
            told.append(_told(run))
        return told, max(1, -(-len(told) // _PAGE))

    def history(self, asked: Fields) -> tuple[Any, int]:
        """Rows by key: one request for each, since W&B gives only rows that hold all the keys that are asked for."""
        api = self._fresh(asked["timeout_s"])
        entity = asked["entity"] or api.default_entity
        place = entity, asked["project"], asked["run"]
        if place not in self._runs:
            self._runs[place] = api.run("/".join(place))
        rows: Fields = {}
        requests = 0
        for key, axis in asked["keys"]:
            for names in ([key, axis], [key]) if axis else ([key],):
                rows[key], cost = self._rows(self._runs[place], names, asked["samples"])
                requests += cost
                if rows[key]:
                    break
        return rows, requests

    def _rows(self, run: Any, names: list[str], samples: int | None) -> tuple[list[Fields], int]:
        if samples is not None:
            return list(run.history(samples=samples, keys=names, pandas=False)), 1
        rows = list(run.scan_history(keys=["_step", *names], page_size=10_000, use_cache=False))
        return rows, 2 + len(rows) // 10_000


def _told(run: Any) -> Fields:
    user = getattr(run, "user", None)
    return {
        "run": run.id,
        "name": run.name,
        "entity": run.entity,
        "project": run.project,
        "state": run.state,
        "group": run.group,
        "tags": list(run.tags or ()),
        "author": getattr(user, "username", None),
        "created_at": run.created_at,
        "heartbeat_at": getattr(run, "heartbeat_at", None),
        "url": run.url,
        "config": {key: value for key, value in dict(run.config).items() if not key.startswith("_")},
        "summary": {key: value for key, value in dict(run.summary).items() if key != "_wandb"},
    }


def kind_of(words: str) -> str:
    """What an error of wandb's means for who asked."""
    for kind, pattern in (("trouble", _TROUBLE), ("absent", _ABSENT), ("refused", _REFUSED)):
        if pattern.search(words):
            return kind
    return "trouble"


def main() -> None:
    """Answer until stdin closes. What wandb prints goes to stderr, so that stdout holds answers only."""
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    asking = Asking()
    for line in sys.stdin:
        asked = json.loads(line)
        try:
            value, requests = getattr(asking, {"runs": "runs", "history": "history"}[asked["do"]])(asked)
            answer = {"ticket": asked["ticket"], "value": value, "requests": requests}
        except Exception as error:  # noqa: BLE001  whatever it is, who asked is told
            words = str(error).strip() or type(error).__name__
            missing = isinstance(error, ImportError)
            answer = {
                "ticket": asked["ticket"],
                "error": words[:500],
                "kind": "missing" if missing else kind_of(words),
            }
        out.write(json.dumps(answer, default=_plain) + "\n")
        out.flush()


def _plain(value: Any) -> Any:
    """Numbers and mappings of wandb's own make."""
    if hasattr(value, "items"):
        return dict(value.items())
    return value.item() if hasattr(value, "item") else str(value)


if __name__ == "__main__":
    main()
