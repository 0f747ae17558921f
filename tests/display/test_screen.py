"""The live monitor as a real process on a real terminal."""

import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from pathlib import Path

import pytest

PROGRAM = Path(__file__).parent / "watched_group.py"
ENTER, LEAVE, SHOW_CURSOR = b"\x1b[?1049h", b"\x1b[?1049l", b"\x1b[?25h"


class Watching:
    """The monitor in a terminal of 80 by 24, and all that it has written."""

    def __init__(self, folder: Path, refresh: float, *options: str) -> None:
        self.folder = folder
        self.seen = b""
        self._terminal, inside = pty.openpty()
        self.resize(80, 24)
        environment = {k: v for k, v in os.environ.items() if k not in ("COLUMNS", "LINES", "NO_COLOR")}
        self.process = subprocess.Popen(
            [sys.executable, str(PROGRAM), str(folder), str(refresh), *options],
            stdin=inside,
            stdout=inside,
            stderr=inside,
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
            env=environment | {"TERM": "xterm-256color", "PYTHONPATH": os.pathsep.join(sys.path)},
        )
        self._inside = inside

    def resize(self, width: int, height: int) -> None:
        fcntl.ioctl(self._terminal, termios.TIOCSWINSZ, struct.pack("HHHH", height, width, 0, 0))

    def type(self, keys: bytes) -> None:
        os.write(self._terminal, keys)

    def wait_for(self, text: bytes, times: int = 1) -> None:
        deadline = time.monotonic() + 30
        while self.seen.count(text) < times:
            ready, _, _ = select.select([self._terminal], [], [], max(0, deadline - time.monotonic()))
            assert ready, f"{text!r} did not come: {self.seen[-2000:]!r}"
            self.seen += os.read(self._terminal, 65536)

    def echoes(self) -> bool:
        return bool(termios.tcgetattr(self._inside)[3] & termios.ECHO)

    def end(self) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self._terminal)
        os.close(self._inside)


@pytest.fixture
def watch(tmp_path):
    started = []

    def start(refresh, *options):
        started.append(Watching(tmp_path, refresh, *options))
        return started[-1]

    yield start
    for watching in started:
        watching.end()


def plain(raw: bytes) -> str:
    return re.sub(r"\x1b\[[0-?]*[ -/]*[@-~]", "", raw.decode()).replace("\r", "")


def assert_restored(watching):
    assert watching.seen.count(LEAVE) == watching.seen.count(ENTER) >= 1
    assert watching.seen.rindex(SHOW_CURSOR) > watching.seen.rindex(b"\x1b[?25l")
    assert watching.echoes()
    assert b"Traceback" not in watching.seen


@pytest.mark.parametrize("ending", ["key", "SIGTERM"])
def test_ctrl_c_leaves_at_once_and_the_terminal_as_it_was(watch, ending):
    watching = watch(3600.0)
    watching.wait_for(b"Ctrl-C leaves the jobs running")
    assert not watching.echoes()
    if ending == "key":
        watching.type(b"\x03")
    else:
        watching.process.send_signal(signal.SIGTERM)
    watching.wait_for(b"ENDED interrupted")
    assert watching.process.wait(30) == 0
    assert_restored(watching)


def test_the_last_frame_stays_when_the_group_is_finished(watch):
    watching = watch(0.05)
    watching.wait_for(b"39 running")
    (watching.folder / "finish").touch()
    watching.wait_for(b"ENDED finished")
    assert_restored(watching)
    left = plain(watching.seen[watching.seen.rindex(LEAVE) :])
    assert "39 completed" in left
    assert len(left.strip().splitlines()) < 24


def test_a_resize_is_drawn_at_once(watch):
    watching = watch(3600.0)
    watching.wait_for(b"Ctrl-C leaves")
    before = len(watching.seen)
    watching.resize(120, 30)
    watching.wait_for(b"Ctrl-C leaves", times=2)
    lines = plain(watching.seen[before:]).split("\n")
    assert len(lines) == 30
    assert len(lines[0]) == 120


def test_a_fetch_that_fails_shows_as_a_banner_above_the_last_state(watch):
    watching = watch(0.05)
    watching.wait_for(b"39 running")
    (watching.folder / "fails").touch()
    watching.wait_for("▲ The database is busy.".encode())
    (watching.folder / "fails").unlink()
    (watching.folder / "finish").touch()
    watching.wait_for(b"ENDED finished")


def test_the_first_fetch_s_error_is_the_callers(watch, tmp_path):
    (tmp_path / "fails").touch()
    watching = watch(0.05)
    watching.wait_for(b"StoreError: The database is busy.")
    assert ENTER not in watching.seen


def test_ctrl_z_gives_the_terminal_back_and_fg_takes_it_again(watch):
    watching = watch(3600.0)
    watching.wait_for(b"Ctrl-C leaves")
    watching.process.send_signal(signal.SIGTSTP)
    watching.wait_for(LEAVE)
    # A session's leader is in an orphaned group, which SIGTSTP does not stop: it goes on by itself, as after fg.
    watching.wait_for(b"Ctrl-C leaves", times=2)
    watching.type(b"\x03")
    watching.wait_for(b"ENDED interrupted")
    assert_restored(watching)


def test_a_log_cannot_move_the_cursor_or_ring(watch):
    watching = watch(3600.0)
    watching.wait_for(b"before the log")
    watching.type(b"\x03")
    watching.wait_for(b"ENDED")
    assert b"\x1b[2J" not in watching.seen
    assert b"\x07" not in watching.seen


def test_once_prints_one_frame_within_the_screen(watch):
    watching = watch(3600.0, "--once")
    watching.wait_for(b"ENDED shown")
    assert ENTER not in watching.seen
    lines = plain(watching.seen).splitlines()
    assert len(lines) <= 24
    assert any("more active" in line for line in lines)
