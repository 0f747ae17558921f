"""Logs over their limit: trimmed under a real writer, and read past what is left out."""

from __future__ import annotations

import errno
import io
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from metta_jobs import disk
from metta_jobs.cli.logfile import follow_file, print_file
from metta_jobs.display.logtail import read_tail
from metta_jobs.executors import loglimit
from metta_jobs.executors.loglimit import SLACK, CannotTrim, LogLimits, trim
from tests.processes import until

MB = 1_000_000
LINE = 64
#: Writes numbered lines of 64 bytes as fast as it can, in pieces of whole lines.
WRITER = """
import os, sys, time
number, end = 0, time.monotonic() + float(sys.argv[1])
while time.monotonic() < end:
    os.write(1, b"".join(b"line %058d\\n" % n for n in range(number, number + 20_000)))
    number += 20_000
"""


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = tmp_path / "output.log"
    path.touch()
    try:
        path.write_bytes(bytes(MB))
        trim(path, MB // 4)
    except CannotTrim as why:
        pytest.skip(str(why))
    path.unlink()
    return path


def lines(first: int, count: int) -> bytes:
    return b"".join(b"line %058d\n" % number for number in range(first, first + count))


def used(path: Path) -> int:
    return path.stat().st_blocks * 512


def printed(path: Path, tail: int | None = None) -> bytes:
    out = io.BytesIO()
    print_file(path, tail, out)
    return out.getvalue()


def check_head_gap_and_tail(text: bytes, size: int) -> tuple[int, int]:
    """Head and tail are what was written, the gap between them is told; return the bytes left out and the tail's."""
    head, gap, tail = re.split(rb"(?:\n)?\xe2\x80\xa6 (.*) left out \(max_log_mb\) \xe2\x80\xa6\n", text)
    written = lines(0, len(head) // LINE + 1)
    assert written.startswith(head)
    assert len(head) > LINE
    begin = tail.index(b"line ")
    number = int(tail[begin + 5 : begin + 64])
    rest = tail[begin:]
    assert rest == lines(number, len(rest) // LINE)
    assert number * LINE + len(rest) == size
    left_out = size - len(head) - len(tail)
    assert gap.decode() == disk.amount(left_out)
    return left_out, len(tail)


def test_a_job_that_writes_as_fast_as_it_can_keeps_head_and_tail_within_the_limit(log: Path) -> None:
    limit, worst, looked = 4 * MB, 0, 0.0
    limits = LogLimits()
    with log.open("ab") as stream:
        writer = subprocess.Popen([sys.executable, "-c", WRITER, "2.5"], stdout=stream)
    try:
        while writer.poll() is None:
            if time.monotonic() - looked > 0.5:  # as seldom as the daemon does, or so
                limits.look({log: limit})
                looked = time.monotonic()
            worst = max(worst, used(log))
    finally:
        writer.kill()
        writer.wait()
    assert writer.returncode == 0
    assert until(lambda: (limits.look({log: limit}), used(log) <= limit + SLACK)[1], "the last trimming")
    limits.close()
    size = log.stat().st_size
    assert size > 8 * limit, "the writer was too slow for this to mean anything"
    assert worst < size / 2
    left_out, tail = check_head_gap_and_tail(printed(log), size)
    assert left_out + tail + limit // 4 == pytest.approx(size, abs=3 * loglimit.BLOCK)
    assert tail == pytest.approx(limit * 3 // 4, abs=3 * loglimit.BLOCK)


def test_a_very_loud_job_is_trimmed_again_and_again_between_two_looks(
    log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log.write_bytes(lines(0, 100_000))
    trims: list[int] = []

    def noted(path: Path, max_bytes: int) -> bool:
        trims.append(used(path))
        done = trim(path, max_bytes)
        if len(trims) < 4:
            with log.open("ab") as stream:
                stream.write(lines(100_000 * len(trims), 100_000))
        return done

    monkeypatch.setattr(loglimit, "trim", noted)
    limits = LogLimits()
    limits.look({log: MB})
    until(lambda: len(trims) >= 5, "the fifth trimming")
    limits.close()
    assert used(log) <= MB + SLACK
    assert len(trims) == 5


def test_a_log_within_its_limit_is_left_alone(log: Path) -> None:
    log.write_bytes(lines(0, 10_000))
    assert not trim(log, 10_000 * LINE)
    assert printed(log) == lines(0, 10_000)


def test_trimming_goes_on_as_the_log_grows_and_only_one_gap_is_told(log: Path) -> None:
    for round_ in range(5):
        with log.open("ab") as stream:
            stream.write(lines(round_ * 30_000, 30_000))
        assert trim(log, MB)
        assert not trim(log, MB)
        assert used(log) <= MB + SLACK
        check_head_gap_and_tail(printed(log), log.stat().st_size)


@pytest.mark.parametrize("tail", [0, 1, 10, 3000])
def test_the_last_lines_are_found_from_the_end(log: Path, tail: int) -> None:
    log.write_bytes(lines(0, 100_000))
    trim(log, MB)
    assert printed(log, tail) == lines(100_000 - tail, tail)


def test_more_lines_than_the_tail_has_begin_in_the_head(log: Path) -> None:
    log.write_bytes(lines(0, 100_000))
    trim(log, MB)
    everything = printed(log)
    text = printed(log, 12_500)
    assert everything.endswith(text)
    assert b"left out" in text
    assert len(everything) - len(text) == pytest.approx(len(everything) - 12_500 * LINE, abs=2 * LINE + 100)


def test_a_job_s_own_nuls_stay(log: Path) -> None:
    raw = b"begin\n" + bytes(200_000) + b"\nend\n"
    log.write_bytes(raw)
    assert printed(log) == raw
    raw += os.urandom(MB) + bytes(2 * MB) + b"\nlast\n"
    log.write_bytes(raw)
    assert trim(log, MB)
    head, _, tail = printed(log).partition(b"left out (max_log_mb) \xe2\x80\xa6\n")
    assert raw.startswith(head.rpartition(b"\n\xe2\x80\xa6")[0])
    assert tail == raw[-len(tail) :]
    assert len(tail) >= 700_000


def test_a_hole_punched_while_we_read_is_no_nul(log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log.write_bytes(lines(0, 100_000))
    pread, calls = os.pread, []

    def punched_before(descriptor: int, count: int, offset: int) -> bytes:
        calls.append(offset)
        if len(calls) == 8:  # the reader has just looked where the data are
            assert trim(log, MB)
        return pread(descriptor, count, offset)

    monkeypatch.setattr(disk.os, "pread", punched_before)
    text = printed(log)
    assert b"\0" not in text
    check_head_gap_and_tail(text, log.stat().st_size)


def test_a_follower_that_fell_behind_is_told_what_it_missed(log: Path) -> None:
    log.write_bytes(lines(0, 1000))
    steps = iter((lambda: None, lambda: grow(log), lambda: None))
    out = io.BytesIO()

    def ended() -> bool:
        step = next(steps, None)
        if step is not None:
            step()
        return step is None

    follow_file(log, None, out, ended)
    text = out.getvalue()
    assert text.startswith(lines(0, 1000))
    assert text.count(b"left out (max_log_mb)") == 1
    assert text.endswith(lines(99_000, 1000))
    assert b"\0" not in text


def grow(log: Path) -> None:
    with log.open("ab") as stream:
        stream.write(lines(1000, 99_000))
    trim(log, MB)


def test_a_writer_in_the_same_moment_loses_nothing_of_the_tail(log: Path) -> None:
    """Bytes written between the look at the size and the punch lie behind what is punched."""
    stop = threading.Event()

    def write() -> None:
        number = 0
        with log.open("ab", buffering=0) as stream:
            while not stop.is_set():
                stream.write(lines(number, 500))
                number += 500

    thread = threading.Thread(target=write)
    thread.start()
    try:
        trims = 0
        while trims < 20:
            trims += log.exists() and trim(log, MB)
    finally:
        stop.set()
        thread.join()
    trim(log, MB)
    check_head_gap_and_tail(printed(log), log.stat().st_size)


def test_the_monitor_shows_the_end_and_no_nuls(log: Path) -> None:
    log.write_bytes(lines(0, 100_000))
    trim(log, MB)
    assert read_tail(log)[-1] == f"line {99_999:058d}"
    with log.open("ab") as stream:
        stream.truncate(log.stat().st_size + 8192)
        stream.write(b"after\n")
    assert read_tail(log)[-2:] == ["… 8.2 kB left out (max_log_mb) …", "after"] or read_tail(log)[-1] == "after"
    assert not any("\0" in line for line in read_tail(log))


@pytest.fixture
def no_holes(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    def refuse(descriptor: int, start: int, length: int) -> None:
        raise CannotTrim("not here")

    monkeypatch.setattr(loglimit, "_punch", refuse)
    yield


def test_where_it_cannot_be_done_that_is_said_once_and_nothing_is_touched(tmp_path: Path, no_holes: None) -> None:
    logs = {tmp_path / name: MB for name in "ab"}
    for path in logs:
        path.write_bytes(lines(0, 100_000))
    limits = LogLimits()
    said: list[str] = []

    def look() -> bool:
        said.extend(filter(None, [limits.look(logs)]))
        return bool(said)

    until(look, "the news")
    for _ in range(10):
        look()
    limits.close()
    look()
    assert said == ["not here"]
    assert all(path.read_bytes() == lines(0, 100_000) for path in logs)


def test_a_system_without_the_call_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Old:
        def __init__(self, *_: object, **__: object) -> None:
            pass

    import ctypes

    monkeypatch.setattr(ctypes, "CDLL", Old)
    path = tmp_path / "output.log"
    path.write_bytes(bytes(2 * MB))
    with pytest.raises(CannotTrim, match="max_log_mb has no effect"):
        trim(path, MB)


@pytest.mark.skipif(not Path("/proc/self/mountinfo").exists(), reason="asks Linux")
def test_the_kernel_s_refusal_is_a_sentence_and_its_errors_are_errors(tmp_path: Path) -> None:
    reader, writer = os.pipe()
    with pytest.raises(OSError) as refused:
        loglimit._punch(writer, 0, 4096)
    assert refused.value.errno in (errno.ESPIPE, errno.ENODEV)
    os.close(reader)
    os.close(writer)
    with pytest.raises(OSError, match="Bad file descriptor"):
        loglimit._punch(writer, 0, 4096)


def test_what_is_no_log_any_more_is_let_be(tmp_path: Path) -> None:
    real, link, fifo = tmp_path / "real", tmp_path / "link", tmp_path / "fifo"
    real.write_bytes(lines(0, 100_000))
    link.symlink_to(real)
    os.mkfifo(fifo)
    limits = LogLimits()
    limits.look({link: MB, fifo: MB, tmp_path / "gone": MB, tmp_path: 1})
    limits.close()
    assert real.read_bytes() == lines(0, 100_000)


@pytest.mark.parametrize(
    ("size", "text"),
    [(0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (8192, "8.2 kB"), (99_960, "100 kB"), (1.2e9, "1.2 GB"),
     (9.97e6, "10 MB"), (999_700, "1.0 MB"), (5e18, "5000 PB")],
)  # fmt: skip
def test_amounts(size: float, text: str) -> None:
    assert disk.amount(size) == text
