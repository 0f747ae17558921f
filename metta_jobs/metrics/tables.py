"""Metrics from CSV and JSON-lines files.

Both are read whole, never followed: Stable-Baselines3 writes its progress.csv anew, header and all, when a key
appears, so that an offset into it means nothing. A last line without its end is left for the next time.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from metta_jobs.metrics.base import Row, as_number
from metta_jobs.metrics.names import FILE_STEP_KEYS, STEP_KEYS, first_of
from metta_jobs.metrics.reading import Reading

_LAST_LINES = 50


class _Files(Reading):
    """Files of one kind, oldest first: each is a start of the run."""

    def __init__(self, *paths: Path) -> None:
        self.paths = paths

    def _records(self, path: Path) -> Iterator[Mapping[str, Any]]:
        raise NotImplementedError

    def rows(self, keys: Collection[str] | None = None) -> Iterator[Row]:
        """Yield all rows. `_step` is the file's own step column (names.FILE_STEP_KEYS), else the number of the line."""
        for fragment, path in enumerate(self.paths):
            for number, record in enumerate(self._records(path)):
                row = {key: value for key, value in record.items() if keys is None or key in keys}
                yield {**row, "_step": _step_of(record, number), "_fragment": fragment}


class CsvFile(_Files):
    """CSV files with a header, such as Stable-Baselines3's progress.csv. Empty cells were not logged."""

    kind = "csv"

    def _records(self, path: Path) -> Iterator[Mapping[str, Any]]:
        return _csv_records(_whole_lines(path))


class JsonLinesFile(_Files):
    """Files with a JSON object a line. Nested names are joined by "/"; a line that is no JSON object is passed over."""

    kind = "jsonl"

    def _records(self, path: Path) -> Iterator[Mapping[str, Any]]:
        return _json_records(_whole_lines(path))


def newest_of_csv(path: Path) -> Row:
    """The newest cell of each column, as far as the last lines have one."""
    lines = _whole_lines(path)
    return _newest(_csv_records([*lines[:1], *lines[1:][-_LAST_LINES:]]), len(lines) - 2)


def newest_of_json_lines(path: Path) -> Row:
    """The newest value of each key, as far as the last lines have one."""
    lines = _whole_lines(path)
    return _newest(_json_records(lines[-_LAST_LINES:]), len(lines) - 1)


def _newest(records: Iterable[Mapping[str, Any]], number: int) -> Row:
    newest: Row = {}
    for record in records:
        newest |= record
    return {**newest, "_step": _step_of(newest, number)} if newest else {}


def _step_of(record: Mapping[str, Any], number: int) -> float:
    step = first_of(("_step", *STEP_KEYS, *FILE_STEP_KEYS), record)
    at = None if step is None else as_number(record[step])
    return number if at is None else at


def _csv_records(lines: Iterable[str]) -> Iterator[Mapping[str, Any]]:
    for record in csv.DictReader(lines):
        yield {n: _number_or_text(text) for n, text in record.items() if n and isinstance(text, str) and text != ""}


def _json_records(lines: Iterable[str]) -> Iterator[Mapping[str, Any]]:
    for line in lines:
        try:
            record = json.loads(line)
        except ValueError:
            continue
        if isinstance(record, dict):
            yield _flat(record)


def _whole_lines(path: Path) -> list[str]:
    try:
        text = path.read_bytes().decode("utf-8", "replace")
    except FileNotFoundError:
        return []  # it is just being written anew
    return [line for line in text.splitlines(keepends=True) if line.endswith("\n")]


def _number_or_text(text: str) -> float | str:
    try:
        return float(text)
    except ValueError:
        return text


def _flat(record: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in record.items():
        if isinstance(value, dict):
            flat |= _flat(value, f"{prefix}{name}/")
        else:
            flat[prefix + name] = value
    return flat
