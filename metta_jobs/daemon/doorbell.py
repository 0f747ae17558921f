"""Waking the daemon at once: a datagram on a unix socket. A ring that is lost costs a second, no more.

The message carries the secrets of the submitter's environment, which live in the daemon's memory and nowhere else.
"""

from __future__ import annotations

import json
import socket
from collections.abc import Mapping
from pathlib import Path

from metta_jobs.paths import short_address

_LARGEST = 1 << 17


class Doorbell:
    """The daemon's end."""

    def __init__(self, path: Path) -> None:
        self._path = path
        path.unlink(missing_ok=True)  # left by a killed daemon; the lock says that we are the only one
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.setblocking(False)
        with short_address(path) as address:
            self._socket.bind(address)
        path.chmod(0o600)

    def fileno(self) -> int:
        """To wait on."""
        return self._socket.fileno()

    def answer(self) -> dict[str, dict[str, str]]:
        """Take all messages; return the secrets they carried, by the id of the stored environment."""
        found: dict[str, dict[str, str]] = {}
        while True:
            try:
                message = self._socket.recv(_LARGEST)
            except BlockingIOError:
                return found
            found |= _secrets(message)

    def close(self) -> None:
        """Remove it."""
        self._socket.close()
        self._path.unlink(missing_ok=True)


def _secrets(message: bytes) -> dict[str, dict[str, str]]:
    """What a message carries; nothing when it is not ours: that somebody rang is all it says then."""
    try:
        found = json.loads(message or b"{}")
    except (ValueError, RecursionError):
        return {}
    if not isinstance(found, dict) or not all(isinstance(values, dict) for values in found.values()):
        return {}
    return found if all(isinstance(value, str) for values in found.values() for value in values.values()) else {}


def ring(path: Path, environment: str | None = None, secrets: Mapping[str, str] | None = None) -> bool:
    """Wake the daemon, and tell it the secrets of a stored environment; False when it did not hear."""
    message = json.dumps({environment: dict(secrets or {})} if environment else {}).encode()
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as bell:
        bell.settimeout(1)
        try:
            with short_address(path) as address:
                bell.sendto(message if len(message) < _LARGEST else b"{}", address)
        except OSError:
            return False
    return True
