"""Trials as CSV, and trials of other sweeps."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from metta_jobs.errors import InvalidInput
from metta_jobs.optimizer.space import Space
from metta_jobs.recipe.patch import as_text
from metta_jobs.recipe.values import literal
from metta_jobs.store.sweeps import NewTrial
from metta_jobs.store.words import Origin, TrialState
from metta_jobs.sweep.book import Page, observed
from metta_jobs.sweep.search import fitted

COLUMNS = (
    *("number", "origin", "state", "phase", "score", "cost", "seconds", "dollars", "job", "of_trial", "seed"),
    *("created_at", "finished_at", "reason"),
)
#: Before the name of each column that is a parameter.
PARAMETER = "params."


def to_csv(page: Page) -> str:
    """All trials of a sweep: a line each, a column for each parameter ("params.trainer.learning_rate")."""
    paths = list(dict.fromkeys(path for trial in page.trials for path in trial.params))
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*COLUMNS, *(f"{PARAMETER}{path}" for path in paths)])
    for trial in page.trials:
        values = [getattr(trial, name) for name in COLUMNS]
        params = [as_text(trial.params[path]) if path in trial.params else "" for path in paths]
        writer.writerow(["" if value is None else value for value in values] + params)
    return text.getvalue()


def from_csv(path: Path) -> list[NewTrial]:
    """The observations in a file: `score`, `cost` and `state` (or `failed`) where there are any, and parameters.

    A column is a parameter when it begins with "params."; where none does, every other column is one. Trials that have
    not ended are left out. Raises InvalidInput.
    """
    try:
        rows = list(csv.DictReader(io.StringIO(path.read_text())))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InvalidInput(f"{path} cannot be read as CSV: {getattr(error, 'strerror', None) or error}.") from error
    fields = list(rows[0]) if rows else []
    if "score" not in fields:
        raise InvalidInput(f"{path} has no column score, or no line: it needs one, and a column for each parameter.")
    marked = [name for name in fields if name.startswith(PARAMETER)]
    of_params = {name: name.removeprefix(PARAMETER) for name in marked}
    of_params = of_params or {name: name for name in fields if name not in (*COLUMNS, "failed")}
    found = []
    for line, row in enumerate(rows, 2):
        params = {path_: literal(row[name]) for name, path_ in of_params.items() if row[name] not in ("", None)}
        state, score = row.get("state"), _number(path, line, "score", row.get("score"))
        failed = state == TrialState.FAILED or str(row.get("failed", "")).lower() in ("1", "true", "yes")
        if not failed and (score is None or state not in (None, "", TrialState.FINISHED)):
            continue
        cost = _number(path, line, "cost", row.get("cost"))
        found.append(_imported(params, score, cost, failed, f"csv:{row.get('number') or line}"))
    return found


def from_sweep(page: Page) -> list[NewTrial]:
    """The observations of another sweep, oldest first."""
    told = (TrialState.FINISHED, TrialState.FAILED)
    ended = [trial for trial in page.trials if trial.state in told]
    return [
        _imported(
            trial.params, trial.score, trial.cost, trial.state is TrialState.FAILED, f"{page.name}:{trial.number}"
        )
        for trial in sorted(ended, key=lambda one: (one.finished_at or one.created_at, one.number))
    ]


def fitting(space: Space, found: Iterable[NewTrial], most: int) -> tuple[list[NewTrial], int]:
    """The newest `most` of the observations that lie in the space, moved to its nearest legal values, and how many
    were left out because they lack a parameter."""
    kept: list[NewTrial] = []
    lacking = 0
    for one in found:
        params = fitted(space, dict(one.params))
        if params is None:
            lacking += 1
            continue
        kept.append(NewTrial(params, one.origin, source=one.source, ended=one.ended))
    return (kept[-most:] if most else []), lacking


def _imported(params: Mapping[str, Any], score: float | None, cost: float | None, failed: bool, where: str) -> NewTrial:
    """`where` it comes from and what it says: imported twice, it is stored once."""
    what = hashlib.sha256(json.dumps([params, score, cost, failed], sort_keys=True).encode()).hexdigest()[:16]
    return observed(params, score, cost=cost, failed=failed, origin=Origin.IMPORTED, source=f"{where[:200]}:{what}")


def _number(path: Path, line: int, name: str, text: str | None) -> float | None:
    if text in (None, ""):
        return None
    try:
        value = float(str(text))
    except ValueError:
        raise InvalidInput(f"{path}, line {line}: {name}={text} is no number.") from None
    return value if math.isfinite(value) else None


def rows_of(page: Page) -> Sequence[dict[str, Any]]:
    """The trials as plain data with stable keys."""
    return [
        {
            **{name: getattr(trial, name) for name in COLUMNS if not name.endswith("_at")},
            "created_at": trial.created_at.isoformat(),
            "finished_at": trial.finished_at.isoformat() if trial.finished_at else None,
            "params": trial.params,
            "suggestion": trial.suggestion,
        }
        for trial in page.trials
    ]
