"""What this machine knows of one launch, on disk before the launch is made: names, and the ids as they become known.

A launch is two answers away from an id: the request id comes in a second, the managed job's own id half a minute later.
Whoever finds this file after a crash knows under which name to look before anything is launched again; where there is
none, nothing was ever sent.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import secrets
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from metta_jobs.executors.base import Key
from metta_jobs.paths import StateDir

FILE = "remote.json"
#: The worker puts this there just before it sends the launch, and into it whom to: without it, nothing was sent.
MARKER = "remote.sent"
_NAME = re.compile(r"metta-([0-9a-f]{8})-(\d+)-(\d+)(?:-.*)?")
_STEM = 24  # characters of the job's own name, for people who look at SkyPilot's queue


def project_id(state_dir: StateDir) -> str:
    """Eight characters that tell this queue's managed jobs from those of every other one."""
    return hashlib.sha256(b"project" + state_dir.salt()).hexdigest()[:8]


def managed_name(project: str, key: Key, job: str) -> str:
    """The name of an attempt's managed job: metta-PROJECT-JOB-ATTEMPT, and some of the job's own name."""
    stem = re.sub(r"[^a-z0-9]+", "-", job.lower()).strip("-")[:_STEM].rstrip("-")
    return f"metta-{project}-{key[0]}-{key[1]}" + (f"-{stem}" if stem else "")


def key_of(project: str, name: str | None) -> Key | None:
    """The attempt that a managed job of this name belongs to; None for those that are not this queue's."""
    match = _NAME.fullmatch(name or "")
    return (int(match[2]), int(match[3])) if match and match[1] == project else None


def sent_to(folder: Path) -> str:
    """Whom the worker was about to send the launch to: the API server, and as which user. "" where it was not."""
    try:
        return (folder / MARKER).read_text()
    except (OSError, UnicodeDecodeError):
        return ""


@dataclass(frozen=True)
class Ledger:
    """One launch: under which name, with which mark in its log, since when (UTC), and the ids that are known.

    `dead` are managed jobs of this name that SkyPilot lost before they started, and that were cancelled; while `sent`
    is False, there is no other. `stop` is why it was asked to end.
    """

    name: str
    token: str
    asked_at: str
    request_id: str | None = None
    managed_id: int | None = None
    dead: tuple[int, ...] = ()
    sent: bool = True
    stop: str | None = None

    @classmethod
    def new(cls, name: str, dead: tuple[int, ...] = ()) -> Ledger:
        """A launch that is about to be made."""
        return cls(name, secrets.token_hex(8), datetime.now(UTC).isoformat(timespec="seconds"), dead=dead)

    def of(self, managed_id: int, token: str) -> Ledger:
        """The ledger of a managed job that is there already, whose evidence bears this token ("": unknown)."""
        return replace(self, token=token or self.token, managed_id=managed_id)

    def buried(self) -> Ledger:
        """What is left when its managed job was lost and cancelled: nothing was launched, but for that."""
        dead = tuple(dict.fromkeys((*self.dead, *([] if self.managed_id is None else [self.managed_id]))))
        return replace(self, request_id=None, managed_id=None, dead=dead, sent=False, stop=None)

    def knowing(self, *, request_id: str | None = None, managed_id: int | None = None) -> Ledger:
        """The same launch, with ids that have become known."""
        return replace(self, request_id=request_id or self.request_id, managed_id=managed_id or self.managed_id)

    def save(self, folder: Path, *, sync: bool) -> None:
        """Put it on disk; with `sync`, it survives a power cut when this returns. Raises OSError."""
        folder.mkdir(parents=True, exist_ok=True)
        aside = folder / f".{FILE}"
        with aside.open("w") as file:
            file.write(json.dumps(asdict(self)))
            if sync:
                file.flush()
                os.fsync(file.fileno())
        aside.rename(folder / FILE)
        if not sync:
            return
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    @classmethod
    def load(cls, folder: Path) -> Ledger | None:
        """Read it; None when no launch was made from here. Raises ValueError when the file is damaged."""
        try:
            stored = json.loads((folder / FILE).read_text())
            return cls(
                str(stored["name"]),
                str(stored["token"]),
                str(stored["asked_at"]),
                stored["request_id"],
                None if stored["managed_id"] is None else int(stored["managed_id"]),
                tuple(map(int, stored["dead"])),
                bool(stored["sent"]),
                stored.get("stop"),
            )
        except FileNotFoundError:
            return None
        except (KeyError, TypeError, UnicodeDecodeError) as error:
            raise ValueError(f"{folder / FILE} is damaged") from error
