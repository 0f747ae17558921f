"""Waking the daemon at once: a datagram on a unix socket. A ring that is lost costs a second, no more.

The message carries the secrets of the submitter's environment, which live in the daemon's memory and nowhere else.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
from collections.abc import Iterator, Mapping
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

_LARGEST = 1 << 17
_MESSAGE = TypeAdapter(dict[str, dict[str, str]])


class Doorbell:
    """The daemon's end."""

    def __init__(self, path: Path) -> None:
        self._path = path
        path.unlink(missing_ok=True)  # left by a killed daemon; the lock says that we are the only one
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.setblocking(False)
        with _short(path) as address:
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
            try:
                found |= _MESSAGE.validate_json(message or b"{}")
            except ValidationError:
                continue  # not ours; that somebody rang is all it says

    def close(self) -> None:
        """Remove it."""
        self._socket.close()
        self._path.unlink(missing_ok=True)


def ring(path: Path, environment: str | None = None, secrets: Mapping[str, str] | None = None) -> bool:
    """Wake the daemon, and tell it the secrets of a stored environment; False when it did not hear."""
    message = json.dumps({environment: dict(secrets or {})} if environment else {}).encode()
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as bell:
        bell.settimeout(1)
        try:
            with _short(path) as address:
                bell.sendto(message if len(message) < _LARGEST else b"{}", address)
        except OSError:
            return False
    return True


@contextlib.contextmanager
def _short(path: Path) -> Iterator[str]:
    """A name for the socket that fits the 100 bytes a unix address may have, however deep the state folder lies."""
    if len(os.fsencode(path)) < 100:
        yield str(path)
        return
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{folder}/{path.name}"
    finally:
        os.close(folder)
