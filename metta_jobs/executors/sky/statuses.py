"""SkyPilot's words, and what they mean here. Pure.

A managed job goes PENDING → STARTING → RUNNING, from RUNNING to RECOVERING and back after a preemption, and may fall
back from STARTING to PENDING as often as a node fails it: that is normal, and only a limit of ours ends it. Every field
of a record may be missing (0.14.1).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

#: Its controller or its machines are being set up.
STARTING = frozenset({"PENDING", "SUBMITTED", "STARTING"})
#: Its machines are there (setup included), are being wound down, or are being found again.
RUNNING = frozenset({"RUNNING", "WINDING_DOWN", "RECOVERING"})
CANCELLING = "CANCELLING"
#: The command has run: its log holds evidence.
RAN = frozenset({"SUCCEEDED", "FAILED"})
#: Ended without the command's doing: what to say, and what a retry policy calls it (None: in vain to try again).
NOT_ITS_FAULT: dict[str, tuple[str, str | None]] = {
    "FAILED_SETUP": ("its setup failed", "setup"),
    "FAILED_PRECHECKS": ("SkyPilot refused it before it started", None),
    "FAILED_NO_RESOURCE": ("no capacity", "no_capacity"),
    "FAILED_CONTROLLER": ("SkyPilot's controller failed", "lost"),
}
CANCELLED = "CANCELLED"
TERMINAL = RAN | frozenset(NOT_ITS_FAULT) | {CANCELLED}
#: Said where a record has none. Words of later versions are kept as they are: whatever they mean, it is no end.
UNKNOWN = "UNKNOWN"


@dataclass(frozen=True)
class Seen:
    """What one answer says of a managed job. `ran_s` is SkyPilot's own count of running seconds."""

    managed_id: int
    name: str | None
    status: str
    detail: str | None = None
    ran_s: float | None = None
    recoveries: int = 0
    infra: str | None = None
    resources: str | None = None
    inactive: bool = False  # the API server has written it down, and not handed it to a controller yet

    @property
    def terminal(self) -> bool:
        """True when it changes no more."""
        return self.status in TERMINAL

    @property
    def said(self) -> str:
        """SkyPilot's words for it, in one line."""
        words = self.status.lower().replace("_", " ")
        again = f", recovered {self.recoveries} ×" if self.recoveries else ""
        return f"SkyPilot: {words}{again}" + (f" ({self.detail})" if self.detail and not self.terminal else "")

    @property
    def exit_code(self) -> int | None:
        """The exit code as far as SkyPilot's words hold one."""
        match = re.search(r"exit codes? \[?(\d+)", self.detail or "")
        return int(match[1]) if match else None

    def facts(self) -> dict[str, Any]:
        """What is stored with the attempt for people to see."""
        return {
            "managed_id": self.managed_id,
            "status": self.status,
            "detail": self.detail,
            "recoveries": self.recoveries,
            "infra": self.infra,
            "resources": self.resources,
        }


def read(record: Mapping[str, Any]) -> Seen | None:
    """Understand one record; None where it has no id."""
    managed_id = record.get("job_id") if isinstance(record, Mapping) else None
    if not isinstance(managed_id, int):
        return None
    status = str(record.get("status") or "").rpartition(".")[2].upper() or UNKNOWN
    recoveries = record.get("recovery_count")
    return Seen(
        managed_id,
        _text(record.get("job_name")),
        status,
        _text(record.get("failure_reason")) or _text(record.get("details")),
        _number(record.get("job_duration")),
        recoveries if isinstance(recoveries, int) else 0,
        _text(record.get("infra")),
        _text(record.get("cluster_resources")) or _text(record.get("resources")),
        status == "PENDING" and record.get("schedule_state") == "INACTIVE" and record.get("submitted_at") is None,
    )


def _text(value: object) -> str | None:
    return " ".join(value.split())[:500] or None if isinstance(value, str) else None


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) and value >= 0 else None
