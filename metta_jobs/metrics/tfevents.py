"""Scalars from TensorBoard's event files, read by the standard library alone.

A file is a sequence of TFRecords, each an Event:

    TFRecord  u64 length | u32 masked crc32c of it | data | u32 masked crc32c of the data      (little-endian)
    Event     1 wall_time (double) | 2 step (varint) | 5 summary { 1 value { 1 tag, 2 simple_value, 8 tensor } }

The checksums are not verified: crc32c in Python takes a hundred times as long as everything else.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from metta_jobs.metrics.wandb_records import DECODE_ERRORS, fields, signed

_LENGTH = struct.Struct("<Q")
_FLOAT, _DOUBLE = struct.Struct("<f"), struct.Struct("<d")
_LARGEST = 1 << 30
_READ_BYTES = 8 << 20
#: Types of a tensor's content (tensorflow.DataType), of those a scalar may have.
_TYPES = {1: _FLOAT, 2: _DOUBLE, 3: struct.Struct("<i"), 9: struct.Struct("<q"), 10: struct.Struct("<?")}


class Scalar(NamedTuple):
    """One value of one tag; `at` is seconds since the epoch."""

    step: int
    at: float
    tag: str
    value: float


class EventTail:
    """Reads the scalars of an event file that grows; a torn end is left for the next call.

    `readable` turns False at a length that cannot be: what follows in that file is lost.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.offset = 0
        self.readable = True

    def poll(self) -> Iterator[Scalar]:
        """Yield the scalars that became complete since the last call."""
        limit = _READ_BYTES
        while self.readable:
            try:
                with self.path.open("rb") as file:
                    file.seek(self.offset)
                    buffer = file.read(limit)
            except FileNotFoundError:
                return
            start = self.offset
            for begin, end in self._records(buffer):
                try:
                    yield from _scalars(buffer, begin, end)
                except DECODE_ERRORS:
                    continue  # an event of a kind that is not known here
            if len(buffer) < limit:
                return
            if self.offset == start:
                limit *= 2  # one record is larger than what was read

    def _records(self, buffer: bytes) -> Iterator[tuple[int, int]]:
        at = 0
        while at + 12 <= len(buffer):
            (size,) = _LENGTH.unpack_from(buffer, at)
            if size > _LARGEST:
                self.readable = False
                return
            end = at + 12 + size
            if end + 4 > len(buffer):
                return
            yield at + 12, end
            self.offset += end + 4 - at
            at = end + 4


def _scalars(data: bytes, start: int, end: int) -> Iterator[Scalar]:
    step, at, values = 0, 0.0, []
    for number, first, stop in fields(data, start, end):
        if number == 1:
            at = _DOUBLE.unpack_from(data, first)[0]
        elif number == 2:
            step = signed(first)
        elif number == 5:
            values = [_value(data, a, b) for n, a, b in fields(data, first, stop) if n == 1]
    for tag, value in values:
        if value is not None:
            yield Scalar(step, at, tag, value)


def _value(data: bytes, start: int, end: int) -> tuple[str, float | None]:
    tag, value = "", None
    for number, first, stop in fields(data, start, end):
        if number == 1:
            tag = data[first:stop].decode()
        elif number == 2 and stop - first == 4:
            value = _FLOAT.unpack_from(data, first)[0]
        elif number == 8:
            value = _tensor(data, first, stop)
    return tag, value


def _tensor(data: bytes, start: int, end: int) -> float | None:
    """The number in a TensorProto of one: 1 dtype, 2 shape, 4 content, else one of the lists of values."""
    kind, content, value = 0, None, None
    for number, first, stop in fields(data, start, end):
        if number == 1:
            kind = first
        elif number == 2 and stop > first:
            return None  # it has dimensions: a histogram, an image
        elif number == 4:
            content = (first, stop)
        elif number in (5, 6):  # packed or not, a list of one float or double
            layout = _FLOAT if number == 5 else _DOUBLE
            value = layout.unpack_from(data, first)[0] if stop - first == layout.size else None
        elif number in (7, 10, 11):  # int, int64, bool
            value = float(signed(first if stop < 0 else _packed(data, first)))
    if kind not in _TYPES:
        return None
    if content and content[1] - content[0] == _TYPES[kind].size:
        value = float(_TYPES[kind].unpack_from(data, content[0])[0])
    return value


def _packed(data: bytes, at: int) -> int:
    value = shift = 0
    while True:
        value |= (data[at] & 0x7F) << shift
        if data[at] < 0x80:
            return value
        at, shift = at + 1, shift + 7
