"""Who fills a GPU, and how to say it. Knows no driver."""

from __future__ import annotations

import os
import pwd
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

_GIB = 2**30
_NAMED = 2
"""So many processes are named; the others are counted."""


@dataclass(frozen=True)
class Load:
    """What a driver tells of one GPU: memory in use and in all, and of which process how much (bytes; None: not told).

    `lost` says why it can run nothing at all.
    """

    used: int | None = None
    total: int | None = None
    processes: Mapping[int, int | None] = field(default_factory=dict)
    lost: str | None = None


@dataclass(frozen=True)
class Filled:
    """A GPU is not to be given out. `amount` (bytes) and `pids` tell if it is still the same reason."""

    reason: str
    amount: float = 0
    pids: tuple[int, ...] = ()

    def much_like(self, other: Filled) -> bool:
        """True when only the amount differs, and little."""
        return self.pids == other.pids and abs(self.amount - other.amount) < _GIB / 4


def filled(load: Load, ours: Callable[[int], bool], *, held: bool, limit: float) -> Filled | None:
    """Why this GPU is not to be given out: more than `limit` bytes are used by other than those that hold it.

    Where no attempt of ours holds it, a process of ours that uses it anyway is a stranger, too. Where the driver tells
    only the sum, or only process ids that mean nothing here (in containers), the sum counts while nobody holds it.
    """
    if load.lost is not None:
        return Filled(load.lost)
    here = {pid: used for pid, used in load.processes.items() if _exists(pid)}
    own = {pid for pid in here if ours(pid)}
    strangers = {pid: used for pid, used in here.items() if not (held and pid in own)}
    amount = sum(used or 0 for used in strangers.values())
    if load.used is not None:
        told = bool(here) and len(here) == len(load.processes) and None not in here.values()
        of_holders = sum(here[pid] or 0 for pid in own) if held else 0
        amount = max(amount, load.used - of_holders if told else 0 if held else load.used)
    if amount <= limit:
        return None
    pids = sorted(strangers, key=lambda pid: (-(strangers[pid] or 0), pid))
    return Filled(_say(amount, load.total, pids, own), amount, tuple(pids))


def _say(amount: int, total: int | None, pids: Sequence[int], own: set[int]) -> str:
    much = f"{amount / _GIB:.1f} of its {total / _GIB:.1f} GiB" if total else f"{amount / _GIB:.1f} GiB of it"
    if not pids:
        return f"something uses {much}, and the driver does not tell what"
    named = [_describe(pid) for pid in pids[:_NAMED]]
    more = f" and {len(pids) - _NAMED} more" if len(pids) > _NAMED else ""
    if own.issuperset(pids):
        who = "jobs of this queue that were given other GPUs use"
    else:
        who = "another program uses" if len(pids) == 1 else "other programs use"
    return f"{who} {much} ({', '.join(named)}{more})"


def _describe(pid: int) -> str:
    process = Path("/proc") / str(pid)
    try:
        name, user = (process / "comm").read_text(errors="replace").strip(), _user(process.stat().st_uid)
    except OSError:
        return f"pid {pid}"
    # Whoever runs it has chosen the name, and it is going to be printed on a terminal.
    return f"pid {pid}, {''.join(letter for letter in name if letter.isprintable())} of {user}"


@lru_cache(maxsize=256)
def _user(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"user {uid}"


def _exists(pid: int) -> bool:
    """True when the id means a process here; drivers tell those of the host, which a container does not know."""
    if pid <= 0:
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
