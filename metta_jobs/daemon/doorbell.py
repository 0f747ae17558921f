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

_LARGEST = 1 << 17


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

    def answer(self) -> dict[str, str]:
        """Take all messages; return the secrets they carried."""
        secrets: dict[str, str] = {}
        while True:
            try:
                message = self._socket.recv(_LARGEST)
            except BlockingIOError:
                return secrets
            with contextlib.suppress(ValueError):
                secrets |= json.loads(message or b"{}")

    def close(self) -> None:
        """Remove it."""
        self._socket.close()
        self._path.unlink(missing_ok=True)


def ring(path: Path, secrets: Mapping[str, str]) -> bool:
    """Wake the daemon; False when it did not hear."""
    message = json.dumps(dict(secrets)).encode()
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
