"""The framing of a W&B transaction log: where one record ends and the next begins.

The file is a LevelDB-style log:

    header  b":W&B" | u16 0xBEE1 | u8 version, the first 7 bytes of the first block
    block   32768 bytes, a sequence of chunks; fewer than 7 bytes left at its end are padding
    chunk   u32 crc32(type byte + payload) | u16 length | u8 type | payload      (little-endian)
    type    1 a whole record, 2 its first part, 3 a middle part, 4 its last part
"""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

BLOCK_BYTES = 32768
HEADER = b":W&B\xe1\xbe\x00"
_CHUNK = struct.Struct("<IHB")
_FULL, _FIRST, _MIDDLE, _LAST = 1, 2, 3, 4
_CRC_OF_TYPE = {kind: zlib.crc32(bytes([kind])) for kind in (_FULL, _FIRST, _MIDDLE, _LAST)}
_BATCH_BYTES = 8 << 20


class LogTail:
    """Reads the records of a log that grows.

    A torn tail is left for the next call. Damaged chunks cost the rest of their block: reading goes on at the next
    block boundary, and `damaged` counts such places. `readable` turns False when the file is no transaction log of
    a known version; it then never yields anything.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        #: The start of the first record that was not handed out yet.
        self.offset = 0
        self.damaged = 0
        self.readable = True

    def size(self) -> int:
        """Return the size of the file in bytes, 0 when there is none."""
        try:
            return self.path.stat().st_size
        except FileNotFoundError:
            return 0

    def skip_to_last(self, size: int) -> None:
        """Go on with the block that begins at least `size` bytes before the end; what lies between is not read."""
        start = (self.size() - size) // BLOCK_BYTES * BLOCK_BYTES
        self.offset = max(self.offset, start)

    def batches(self, most: int | None = None) -> Iterator[list[bytes]]:
        """Yield the records that became complete since the last call, some megabytes at a time.

        With `most`, stop after about that many bytes.
        """
        limit = most or _BATCH_BYTES
        while self.readable and (size := self.size()) > self.offset:
            buffer = self._read(min(size - self.offset, limit))
            start, end = self.offset, self.offset + len(buffer)
            records = self._split(buffer)
            if records:
                yield records
            if end >= size or not buffer:
                return
            if self.offset == start:
                limit *= 2  # one record is larger than a batch
            elif most is not None:
                return

    def _read(self, count: int) -> bytes:
        try:
            with self.path.open("rb") as file:
                if self.offset < len(HEADER):
                    head = file.read(len(HEADER))
                    self.readable = HEADER.startswith(head)
                    if head != HEADER:
                        return b""
                    self.offset = len(HEADER)
                file.seek(self.offset)
                return file.read(count)
        except FileNotFoundError:
            return b""

    def _split(self, buffer: bytes) -> list[bytes]:
        base, end = self.offset, len(buffer)
        records: list[bytes] = []
        parts: list[bytes] = []
        position = consumed = 0
        while True:
            left = BLOCK_BYTES - (base + position) % BLOCK_BYTES
            if left < _CHUNK.size:
                if position + left > end:
                    break
                position += left
                if not parts:
                    consumed = position
                continue
            if position + _CHUNK.size > end:
                break
            checksum, length, kind = _CHUNK.unpack_from(buffer, position)
            start = position + _CHUNK.size
            payload = buffer[start : start + length]
            possible = kind in _CRC_OF_TYPE and _CHUNK.size + length <= left
            if possible and start + length > end:
                break  # torn: the rest is still to come
            if not possible or zlib.crc32(payload, _CRC_OF_TYPE[kind]) != checksum:
                if position + left >= end:
                    break  # in the last block this may be a write in progress
                self.damaged += 1
                parts = []
                position = consumed = position + left
                continue
            position = start + length
            if kind == _FIRST:
                parts = [payload]
            elif kind == _FULL:
                parts = []
                records.append(payload)
                consumed = position
            elif not parts:  # its beginning was damaged or skipped
                consumed = position
            else:
                parts.append(payload)
                if kind == _LAST:
                    records.append(b"".join(parts))
                    parts = []
                    consumed = position
        self.offset = base + consumed
        return records


def find_logs(folder: Path) -> list[Path]:
    """Return the transaction logs that runs left under the WANDB_DIR `folder`, oldest first.

    A run that was started again has several: `wandb/[offline-]run-<time>-<id>[-<n>]/run-<id>.wandb`.
    """
    return sorted(folder.glob("wandb/*run-*/run-*.wandb"), key=_start_order)


def _start_order(log: Path) -> tuple[str, int, str]:
    name = log.parent.name
    started = re.search(r"run-(\d{8}_\d{6})", name)
    repeat = re.search(r"-(\d+)$", name.partition(log.stem.removeprefix("run-"))[2])
    return started[1] if started else "", int(repeat[1]) if repeat else 0, name
