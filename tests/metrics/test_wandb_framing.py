"""Records survive framing, growth, cuts and damage."""

from __future__ import annotations

import random
import struct
import tempfile
import zlib
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from metta_jobs.metrics.wandb_framing import BLOCK_BYTES, HEADER, LogTail, find_logs


def frame(records: list[bytes]) -> bytes:
    """Write a log as wandb does; the other side of what is tested."""
    out = bytearray(HEADER)
    for record in records:
        rest, first = record, True
        while True:
            left = BLOCK_BYTES - len(out) % BLOCK_BYTES
            if left < 7:
                out += bytes(left)
                left = BLOCK_BYTES
            part, rest = rest[: left - 7], rest[left - 7 :]
            kind = (1 if not rest else 2) if first else (4 if not rest else 3)
            out += struct.pack("<IHB", zlib.crc32(bytes([kind]) + part), len(part), kind) + part
            first = False
            if not rest:
                break
    return bytes(out)


def read_all(tail: LogTail) -> list[bytes]:
    return [record for batch in tail.batches() for record in batch]


sizes = st.one_of(
    st.integers(1, 300),
    st.integers(BLOCK_BYTES - 30, BLOCK_BYTES + 30),
    st.integers(2 * BLOCK_BYTES - 30, 2 * BLOCK_BYTES + 30),
)
logs = st.lists(sizes, max_size=12).map(lambda all_sizes: [random.Random(n).randbytes(n) for n in all_sizes])


@settings(deadline=None, max_examples=60)
@given(records=logs, cuts=st.lists(st.floats(0, 1), max_size=6))
def test_a_log_that_grows_in_any_portions_gives_every_record_once(records: list[bytes], cuts: list[float]) -> None:
    data = frame(records)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "run-x.wandb")
        tail = LogTail(path)
        got = read_all(tail)
        for cut in [*sorted(cuts), 1.0]:
            path.write_bytes(data[: int(cut * len(data))])
            got += read_all(tail)
    assert got == records
    assert tail.damaged == 0


def test_real_log_cut_anywhere_is_an_exact_prefix(run_folder: Path, tmp_path: Path) -> None:
    (real,) = find_logs(run_folder)
    data = real.read_bytes()
    whole = read_all(LogTail(real))
    assert len(whole) > 300
    path = tmp_path / "cut.wandb"
    dice = random.Random(1)
    lengths = []
    for cut in [0, 3, 7, 13, BLOCK_BYTES - 1, BLOCK_BYTES, *(dice.randrange(len(data)) for _ in range(150))]:
        path.write_bytes(data[:cut])
        tail = LogTail(path)
        records = read_all(tail)
        assert records == whole[: len(records)]
        lengths.append((cut, len(records)))
        with path.open("ab") as file:
            file.write(data[cut:])
        assert records + read_all(tail) == whole
    lengths.sort()
    assert [n for _, n in lengths] == sorted(n for _, n in lengths)


def test_damage_costs_no_more_than_its_block(run_folder: Path, tmp_path: Path) -> None:
    (real,) = find_logs(run_folder)
    data = real.read_bytes()
    assert len(data) > 3 * BLOCK_BYTES
    whole = read_all(LogTail(real))
    most = max(
        sum(1 for record in whole if record in data[at : at + BLOCK_BYTES]) for at in range(0, len(data), BLOCK_BYTES)
    )
    path = tmp_path / "damaged.wandb"
    dice = random.Random(2)
    for _ in range(60):
        at = dice.randrange(7, len(data) - 2 * BLOCK_BYTES)
        path.write_bytes(data[:at] + bytes([data[at] ^ (1 << dice.randrange(8))]) + data[at + 1 :])
        tail = LogTail(path)
        records = read_all(tail)
        kept = set(records)
        assert kept <= set(whole)
        assert len(whole) - len(kept) <= most + 2  # and the two that reach over the block's edges
        assert tail.damaged == 1 or records == whole  # a flipped bit in padding harms nobody


def test_skipping_to_the_last_stretch_gives_the_last_records(run_folder: Path) -> None:
    (real,) = find_logs(run_folder)
    whole = read_all(LogTail(real))
    tail = LogTail(real)
    tail.skip_to_last(BLOCK_BYTES)
    records = read_all(tail)
    assert 0 < len(records) < len(whole)
    assert records == whole[-len(records) :]


def test_a_record_larger_than_a_batch_is_read(tmp_path: Path) -> None:
    records = [b"small", random.Random(3).randbytes(9 << 20), b"after"]
    path = tmp_path / "big.wandb"
    path.write_bytes(frame(records))
    assert read_all(LogTail(path)) == records


@pytest.mark.parametrize("content", [b"not a log at all", HEADER[:6] + b"\x01" + b"later version", bytes(100)])
def test_another_file_yields_nothing_and_says_so(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x.wandb"
    path.write_bytes(content)
    tail = LogTail(path)
    assert read_all(tail) == []
    assert not tail.readable


def test_a_missing_file_may_still_come(tmp_path: Path) -> None:
    path = tmp_path / "run-x.wandb"
    tail = LogTail(path)
    assert read_all(tail) == []
    path.write_bytes(HEADER[:4])
    assert read_all(tail) == []
    path.write_bytes(frame([b"one"]))
    assert read_all(tail) == [b"one"]


def test_logs_are_found_in_the_order_of_their_starts(tmp_path: Path) -> None:
    names = [
        "run-20260101_000000-ab-2",
        "offline-run-20260101_000001-run-9",
        "offline-run-20260101_000001-run-9-1",
        "offline-run-20260101_000001-run-9-10",
        "run-20260102_000000-run-9",
    ]
    for name in reversed(names):
        run_id = "ab-2" if "ab-2" in name else "run-9"
        (tmp_path / "wandb" / name).mkdir(parents=True)
        (tmp_path / "wandb" / name / f"run-{run_id}.wandb").touch()
    (tmp_path / "wandb" / "latest-run").symlink_to(tmp_path / "wandb" / names[0])
    assert [log.parent.name for log in find_logs(tmp_path)] == names
    assert find_logs(tmp_path / "nowhere") == []
