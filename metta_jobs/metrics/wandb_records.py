"""The records of a W&B transaction log: protobuf messages, decoded as far as metrics need them.

Only a handful of field numbers of `wandb_internal.Record` are known here. Unknown fields are skipped, so that the new
records of later wandb releases do no harm.
"""

from __future__ import annotations

import json
import re
import struct
from collections.abc import Collection, Iterator
from typing import Any

from metta_jobs.metrics.base import Row, RunInfo

HISTORY, SUMMARY, CONFIG, RUN, EXIT = 2, 3, 5, 17, 18
_KINDS = frozenset({HISTORY, SUMMARY, CONFIG, RUN, EXIT})
_DOUBLE = struct.Struct("<d")
#: What a record that is whole, but not as expected, may raise while it is decoded.
DECODE_ERRORS = (ValueError, IndexError, struct.error)

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


def _varint(buffer: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = buffer[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7


def fields(buffer: bytes, start: int, end: int) -> Iterator[tuple[int, int, int]]:
    """Yield (field number, a, b): the bytes a to b of a length-delimited or fixed field, or a varint's value in a."""
    at = start
    while at < end:
        tag, at = _varint(buffer, at)
        wire = tag & 7
        if wire == _VARINT:
            value, at = _varint(buffer, at)
            yield tag >> 3, value, -1
            continue
        if wire == _BYTES:
            size, at = _varint(buffer, at)
        elif wire in (_FIXED64, _FIXED32):
            size = 8 if wire == _FIXED64 else 4
        else:
            raise ValueError(f"unknown wire type {wire}")
        yield tag >> 3, at, at + size
        at += size


def find_message(record: bytes) -> tuple[int, int, int]:
    """Return (kind, start, end) of the message inside a record; kind 0 when it is none that matters here."""
    if record[:1] == b"\x08":  # the usual layout, without a generator: its number, then the message
        at = 2
        while record[at - 1] & 0x80:
            at += 1
        if record[at] & 7 == _BYTES and record[at] >> 3 in _KINDS and record[at] < 0x80:
            size, start = _varint(record, at + 1)
            return record[at] >> 3, start, start + size
    for number, start, end in fields(record, 0, len(record)):
        if number in _KINDS and end >= 0:
            return number, start, end
    return 0, 0, 0


def history_row(record: bytes, start: int, end: int, wanted: frozenset[bytes] | None) -> Row:
    """Decode a history message: the metrics of one log call and their `_step`. None wants every metric."""
    row: Row = {"_step": 0}
    at = start
    while at < end:
        tag = record[at]
        size, at = _varint(record, at + 1)
        stop = at + size
        if tag == 0x0A:  # an item
            if wanted is None or _may_be_wanted(record, at, stop, wanted):
                path, value = _item(record, at, stop)
                row[".".join(path)] = value
        elif tag == 0x12:  # the step
            for number, value, _ in fields(record, at, stop):
                if number == 1:
                    row["_step"] = signed(value)
        elif tag & 7 != _BYTES:
            raise ValueError(f"unexpected field {tag} in a history record")
        at = stop
    return row


class RowPicker:
    """Decodes history messages as `history_row` does, in a third of the time: finds the wanted items by their bytes.

    A name stands in its item as 0x12, its length and itself, between the item's head and its value; JSON text holds no
    control character, so nothing else looks like that. Names with a dot may be nested: they take the longer way.
    """

    def __init__(self, keys: Collection[str]) -> None:
        self._wanted = frozenset(key.encode() for key in keys)
        plain = self._wanted | {b"_step"}
        names = b"|".join(re.escape(bytes([len(name)]) + name) for name in sorted(plain) if 0 < len(name) < 0x80)
        self._item = re.compile(
            rb"\n(?:[\x80-\xff]?[\x00-\x7f])\x12(" + names + rb")\x82\x01(.)([^\x00-\x1f]*)", re.DOTALL
        )
        self._simple = all(b"." not in name and len(name) < 0x80 for name in plain)
        self._names = {bytes([len(name)]) + name: name.decode() for name in plain if len(name) < 0x80}

    def row(self, record: bytes, start: int, end: int) -> Row:
        """Decode the message between `start` and `end`: the wanted metrics and `_step`."""
        if not self._simple:
            return history_row(record, start, end, self._wanted)
        row: Row = {}
        for name, size, value in self._item.findall(record, start, end):
            if size[0] != len(value):  # a long value
                return history_row(record, start, end, self._wanted)
            row[self._names[name]] = int(value) if value.isdigit() else _json_value(value)
        return row if type(row.get("_step")) is int else history_row(record, start, end, self._wanted)


def _may_be_wanted(record: bytes, start: int, end: int, wanted: frozenset[bytes]) -> bool:
    """False when the item's name, which comes first, is surely another: most items are never decoded."""
    if record[start] not in (0x0A, 0x12) or record[start + 1] >= 0x80:
        return True
    stop = start + 2 + record[start + 1]
    return record[start + 2 : stop] in wanted or (stop < end and record[stop] == 0x12)


def apply(info: RunInfo, record: bytes, kind: int, start: int, end: int) -> None:
    """Bring `info` up to date with a message that is no history."""
    if kind == CONFIG:
        _update(info.config, record, start, end)
    elif kind == SUMMARY:
        _update(info.summary, record, start, end)
    elif kind == EXIT:
        info.exit_code = 0  # a zero is not written
        for number, value, stop in fields(record, start, end):
            if number == 1 and stop < 0:
                info.exit_code = signed(value)
    elif kind == RUN:
        names = {1: "run_id", 2: "entity", 3: "project", 8: "name"}
        for number, first, stop in fields(record, start, end):
            if number in names:
                setattr(info, names[number], record[first:stop].decode())
            elif number == 4:
                _update(info.config, record, first, stop)


def _update(target: dict[str, Any], record: bytes, start: int, end: int) -> None:
    """Apply the updates (field 1) and removals (field 2) of a config or summary message; wandb's own keys are left."""
    for number, first, stop in fields(record, start, end):
        if number not in (1, 2):
            continue
        path, value = _item(record, first, stop)
        if path[0] == "_wandb":
            continue
        place = target
        for name in path[:-1]:
            inner = place.get(name)
            if not isinstance(inner, dict):
                inner = place[name] = {}
            place = inner
        if number == 1:
            place[path[-1]] = value
        else:
            place.pop(path[-1], None)


def _item(record: bytes, start: int, end: int) -> tuple[tuple[str, ...], Any]:
    """Decode an item of a history, summary or config message into its path of names and its value."""
    name, nested, value = "", [], None
    for number, first, stop in fields(record, start, end):
        if number == 16:
            value = _json_value(record[first:stop])
        elif number == 1:
            name = record[first:stop].decode()
        elif number == 2:
            nested.append(record[first:stop].decode())
        elif number == 4 and stop < 0:
            value = bool(first)
        elif number == 5 and stop < 0:
            value = (first >> 1) ^ -(first & 1)
        elif number == 6:
            value = _DOUBLE.unpack_from(record, first)[0]
        elif number == 7:
            value = record[first:stop].decode()
        elif number == 8:
            value = _json_value(record[first:stop])
    return tuple(nested) or (name,), value


def _json_value(text: bytes) -> Any:
    try:
        return float(text) if b"." in text or b"e" in text else int(text)
    except ValueError:
        pass  # not a plain number
    try:
        return json.loads(text)
    except ValueError:
        return text.decode("utf-8", "replace")


def signed(value: int) -> int:
    """The int64 that a varint stands for."""
    return value - (1 << 64) if value >= 1 << 63 else value
