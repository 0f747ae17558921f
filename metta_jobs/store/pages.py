"""A database file read page by page, without SQLite: the rows of every leaf that is whole, wherever the damage is.

SQLite refuses a damaged file at the first page that is wrong, and what lies behind it is out of reach. The format
itself is simple (sqlite.org/fileformat2.html): a table is a tree whose leaves hold its rows; each can be read alone.
Nothing here writes, and nothing here trusts a number that the file gives.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from pathlib import Path

HEADER = b"SQLite format 3\0"
_LEAF, _INTERIOR = 0x0D, 0x05
_LARGEST_ROW = 1 << 28
_SECTOR = 4096

Value = int | float | str | bytes | None
Row = tuple[int | None, list[Value] | None]


class Unreadable(Exception):
    """A page or a row that does not hold what it must."""


class Pages:
    """The pages of a database file, those that its write-ahead log has changed as they are there.

    A missing file is one without pages; of the log only what SQLite itself would believe counts.
    """

    def __init__(self, path: Path) -> None:
        self._main = _read(path)
        log = _read(path.with_name(f"{path.name}-wal"))
        self.size = _page_size(self._main[16:18]) or _page_size(log[8:12]) or 4096
        self._changed = dict(_committed(log, self.size))
        self.count = max([-(-len(self._main) // self.size), *self._changed])
        first = self.page(1)
        self.has_header = first[:16] == HEADER and _page_size(first[16:18]) == self.size
        self._usable = self.size - (first[20] if self.has_header else 0)

    def page(self, number: int) -> bytes:
        """One page; zeros where the file has none."""
        if number in self._changed:
            return self._changed[number]
        return self._main[(number - 1) * self.size : number * self.size].ljust(self.size, b"\0")

    def missing(self) -> int:
        """How many pages the header tells of that the file does not have."""
        told = int.from_bytes(self.page(1)[28:32], "big") if self.has_header else 0
        return max(0, told - self.count)

    # ---------------------------------------------------------------------------------------------------- trees

    def leaves(self, root: int) -> tuple[list[int], bool]:
        """The leaves of the table that begins at `root`, in order, and whether all of it could be walked."""
        found: list[int] = []
        seen: set[int] = set()
        whole, waiting = True, [root]
        while waiting:
            number = waiting.pop()
            if number in seen or not 1 <= number <= self.count:
                whole = False
                continue
            seen.add(number)
            kind = self._kind(number)
            if kind == _LEAF:
                found.append(number)
                continue
            children = self._children(number) if kind == _INTERIOR else []
            whole = whole and bool(children)
            waiting.extend(reversed(children))
        return found, whole

    def all_leaves(self) -> list[int]:
        """Every page that looks like a leaf of some table, but for those that the file calls free."""
        free = self._free()
        return [n for n in range(1, self.count + 1) if self._kind(n) == _LEAF and n not in free]

    def _kind(self, number: int) -> int:
        return self.page(number)[100 if number == 1 else 0]

    def _children(self, number: int) -> list[int]:
        page, at = self.page(number), 100 if number == 1 else 0
        cells = int.from_bytes(page[at + 3 : at + 5], "big")
        if at + 12 + 2 * cells > self.size:
            return []
        pointers = struct.unpack_from(f">{cells}H", page, at + 12)
        lefts = [int.from_bytes(page[p : p + 4], "big") for p in pointers]
        return [*lefts, int.from_bytes(page[at + 8 : at + 12], "big")]

    def _free(self) -> set[int]:
        found: set[int] = set()
        trunk = int.from_bytes(self.page(1)[32:36], "big") if self.has_header else 0
        while 1 < trunk <= self.count and trunk not in found:
            found.add(trunk)
            page = self.page(trunk)
            used = min(int.from_bytes(page[4:8], "big"), self.size // 4 - 2)
            found.update(struct.unpack_from(f">{used}I", page, 8))
            trunk = int.from_bytes(page[:4], "big")
        return found

    # ---------------------------------------------------------------------------------------------------- rows

    def rows(self, leaf: int) -> Iterator[Row]:
        """The rows of one leaf as (rowid, values); None instead of what of a row cannot be read."""
        page, at = self.page(leaf), 100 if leaf == 1 else 0
        cells = int.from_bytes(page[at + 3 : at + 5], "big")
        if at + 8 + 2 * cells > self.size:
            yield None, None
            return
        for pointer in struct.unpack_from(f">{cells}H", page, at + 8):
            try:
                length, begin = _varint(page, pointer)
                rowid, begin = _varint(page, begin)
                if length == 0:
                    raise Unreadable
            except Unreadable:
                yield None, None
                continue
            rowid -= (rowid >> 63) << 64
            try:
                yield rowid, _record(self._payload(page, begin, length))
            except (Unreadable, struct.error, IndexError):
                yield rowid, None

    def _payload(self, page: bytes, begin: int, length: int) -> bytes:
        usable = self._usable
        if length > _LARGEST_ROW:
            raise Unreadable
        local = length
        if length > usable - 35:
            least = (usable - 12) * 32 // 255 - 23
            local = least + (length - least) % (usable - 4)
            local = local if local <= usable - 35 else least
        if begin + local > usable:
            raise Unreadable
        parts, rest = [page[begin : begin + local]], length - local
        following = int.from_bytes(page[begin + local : begin + local + 4], "big") if rest else 0
        while rest > 0:
            if not 1 < following <= self.count:
                raise Unreadable
            overflow = self.page(following)
            if not overflow.strip(b"\0"):
                raise Unreadable  # text has no zeros: the page is gone
            following = int.from_bytes(overflow[:4], "big")
            parts.append(overflow[4 : 4 + min(rest, usable - 4)])
            rest -= usable - 4
        return b"".join(parts)


def _read(path: Path) -> bytes:
    """All of a file; zeros where the disk itself cannot be read."""
    if not path.exists():
        return b""
    try:
        return path.read_bytes()
    except OSError:
        with path.open("rb", buffering=0) as file:
            return b"".join(_piece(file.fileno(), at) for at in range(0, path.stat().st_size, _SECTOR))


def _piece(descriptor: int, at: int) -> bytes:
    try:
        return os.pread(descriptor, _SECTOR, at)
    except OSError:
        return bytes(_SECTOR)


def _page_size(field: bytes) -> int:
    size = int.from_bytes(field, "big")
    size = 65536 if size == 1 else size
    return size if 512 <= size <= 65536 and size & (size - 1) == 0 else 0


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = 0
    for index in range(9):
        if at + index >= len(data):
            raise Unreadable
        byte = data[at + index]
        if index == 8:
            return (value << 8) | byte, at + 9
        value = (value << 7) | (byte & 0x7F)
        if byte < 0x80:
            return value, at + index + 1
    raise Unreadable


_INTEGERS = {1: 1, 2: 2, 3: 3, 4: 4, 5: 6, 6: 8}


def _record(payload: bytes) -> list[Value]:
    size, at = _varint(payload, 0)
    if size > len(payload):
        raise Unreadable
    values: list[Value] = []
    body = size
    while at < size:
        kind, at = _varint(payload, at)
        if kind in (0, 8, 9):
            values.append({0: None, 8: 0, 9: 1}[kind])
            continue
        width = _INTEGERS.get(kind) or (8 if kind == 7 else (kind - 12) // 2)
        if kind in (10, 11) or body + width > len(payload):
            raise Unreadable
        field = payload[body : body + width]
        body += width
        if kind < 7:
            values.append(int.from_bytes(field, "big", signed=True))
        elif kind == 7:
            values.append(struct.unpack(">d", field)[0])
        else:
            values.append(field.decode(errors="replace") if kind % 2 else field)
    return values


def _committed(log: bytes, page_size: int) -> Iterator[tuple[int, bytes]]:
    """The pages in a write-ahead log, as far as its checksums hold and up to its last commit."""
    if len(log) < 32 or log[:4] not in (b"\x37\x7f\x06\x82", b"\x37\x7f\x06\x83"):
        return
    words = ">" if log[3] & 1 else "<"
    sums = _checksum(words, log[:24], (0, 0))
    if sums != struct.unpack(">2I", log[24:32]) or _page_size(log[8:12]) != page_size:
        return
    pending: list[tuple[int, bytes]] = []
    for at in range(32, len(log) - page_size - 23, page_size + 24):
        head, page = log[at : at + 24], log[at + 24 : at + 24 + page_size]
        number, size_after = struct.unpack(">2I", head[:8])
        sums = _checksum(words, page, _checksum(words, head[:8], sums))
        if head[8:16] != log[16:24] or sums != struct.unpack(">2I", head[16:24]):
            return
        pending.append((number, page))
        if size_after:
            yield from pending
            pending = []


def _checksum(words: str, data: bytes, sums: tuple[int, int]) -> tuple[int, int]:
    first, second = sums
    numbers = iter(struct.unpack(f"{words}{len(data) // 4}I", data))
    for even, odd in zip(numbers, numbers, strict=True):
        first = (first + even + second) & 0xFFFFFFFF
        second = (second + odd + first) & 0xFFFFFFFF
    return first, second
