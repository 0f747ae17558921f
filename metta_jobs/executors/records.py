"""The evidence in an attempt's folder, read back: whole, absent, or damaged.

Absent is told by None. Damaged (somebody else has written there) is told by DamagedRecord: unlike a file that cannot be
read now, it will not mend itself, so the caller must go on without it.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from metta_jobs.executors.base import Cause


class DamagedRecord(Exception):
    """A record that does not hold what it should."""


@dataclass(frozen=True)
class PidRecord:
    """pid.json: the runner that has the attempt. `monotonic` is the boot's clock when it took it, in seconds."""

    pid: int
    start: str | None
    boot: str
    monotonic: float


@dataclass(frozen=True)
class StopRecord:
    """stop.json: why and when we asked it to end, and whether by force."""

    cause: Cause
    monotonic: float
    boot: str
    forced: bool


@dataclass(frozen=True)
class OutcomeRecord:
    """outcome.json: how it ended. A negative exit code is a signal's."""

    exit_code: int
    running_s: float
    monotonic: float
    error: str | None


def read_pid(folder: Path) -> PidRecord | None:
    """Read pid.json. Raises OSError or DamagedRecord."""
    found = _read(folder / "pid.json")
    if found is None:
        return None
    start = found.get("start")
    return PidRecord(_int(found, "pid"), None if start is None else str(start), _str(found, "boot"), _time(found))


def read_stop(folder: Path) -> StopRecord | None:
    """Read stop.json. Raises OSError or DamagedRecord."""
    found = _read(folder / "stop.json")
    if found is None:
        return None
    try:
        return StopRecord(Cause(str(found.get("cause"))), _time(found), _str(found, "boot"), bool(found.get("forced")))
    except ValueError as error:
        raise DamagedRecord("stop.json names no cause") from error


def read_outcome(folder: Path) -> OutcomeRecord | None:
    """Read outcome.json. Raises OSError or DamagedRecord."""
    found = _read(folder / "outcome.json")
    if found is None:
        return None
    error = found.get("error")
    ran = found.get("running_s")
    if not isinstance(ran, int | float):
        raise DamagedRecord("outcome.json holds no running time")
    return OutcomeRecord(_int(found, "exit_code"), float(ran), _time(found), None if error is None else str(error))


def _read(path: Path) -> dict[str, Any] | None:
    try:
        found = json.loads(path.read_bytes())
    except FileNotFoundError:
        return None
    except (ValueError, RecursionError) as error:
        raise DamagedRecord(f"{path.name} is no JSON") from error
    if not isinstance(found, dict):
        raise DamagedRecord(f"{path.name} holds no record")
    return found


def _int(record: dict[str, Any], name: str) -> int:
    value = record.get(name)
    if not isinstance(value, int) or isinstance(value, bool):
        raise DamagedRecord(f"{name} is no number")
    return value


def _str(record: dict[str, Any], name: str) -> str:
    value = record.get(name)
    if not isinstance(value, str):
        raise DamagedRecord(f"{name} is no text")
    return value


def _time(record: dict[str, Any]) -> float:
    value = record.get("monotonic")
    if not isinstance(value, int | float):
        raise DamagedRecord("there is no time")
    return float(value)
