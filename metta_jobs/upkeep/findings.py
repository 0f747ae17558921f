"""What the doctor says of one thing that it has looked at."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any


class Verdict(StrEnum):
    """How it is. Only BROKEN means that something does not work."""

    OK = "ok"
    WARNING = "warning"
    BROKEN = "broken"


@dataclass(frozen=True)
class Finding:
    """One line of `metta doctor`: what was looked at, how it is, what to do about it, and particulars."""

    check: str
    verdict: Verdict
    says: str
    remedy: str | None = None
    details: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """The stable JSON form."""
        return {
            "check": self.check,
            "verdict": self.verdict.value,
            "says": self.says,
            "remedy": self.remedy,
            "details": list(self.details),
        }


def fine(check: str, says: str, *details: str) -> Finding:
    """Nothing to do."""
    return Finding(check, Verdict.OK, says, None, details)


def idle(check: str, says: str, remedy: str, *details: str) -> Finding:
    """It is not there and nothing needs it; `remedy` is for who wants it."""
    return Finding(check, Verdict.OK, says, remedy, details)


def warning(check: str, says: str, remedy: str, *details: str) -> Finding:
    """It works, but somebody should know."""
    return Finding(check, Verdict.WARNING, says, remedy, details)


def broken(check: str, says: str, remedy: str, *details: str) -> Finding:
    """It does not work, or not for long."""
    return Finding(check, Verdict.BROKEN, says, remedy, details)


def counted(amount: int, word: str) -> str:
    """Return "1 job", "2 jobs"."""
    return f"{amount} {word}{'' if amount == 1 else 's'}"
