"""Reading a MettaScope replay: zlib-compressed JSON, objects with their time series (format versions 2 to 5)."""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from metta_jobs.errors import InvalidInput

Cell = tuple[int, int]
#: What a replay may take up unpacked (bytes).
_MOST_BYTES = 400_000_000


@dataclass(frozen=True)
class Thing:
    """An object of the replay: `cells` and `amounts` (of its counted item) are per step; None while it is not there."""

    kind: str
    cells: Sequence[Cell | None]
    amounts: Sequence[int]
    rewards: Sequence[float] = ()


@dataclass(frozen=True)
class ReplayFile:
    """A replay, expanded: `item` is what is counted ("heart"; "" where the replay has no such item).

    `steps` is the number of moments, `size` width and height of the map in cells.
    """

    size: Cell
    steps: int
    item: str
    walls: frozenset[Cell]
    agents: tuple[Thing, ...]
    objects: tuple[Thing, ...]

    def collected(self, step: int) -> int:
        """How many of the item all agents have at a step."""
        return sum(agent.amounts[step] for agent in self.agents)

    @property
    def available(self) -> int:
        """How many of the item there are in all at the first step."""
        return sum(thing.amounts[0] for thing in (*self.agents, *self.objects))


def read_replay(path: Path) -> ReplayFile:
    """Read the replay at `path`; raises InvalidInput, with a sentence, when it is none that can be understood."""
    try:
        raw = json.loads(_unpacked(path.read_bytes()))
        return _understood(raw)
    except OSError as error:
        raise InvalidInput(f"The replay {path.name} cannot be read ({error.strerror or error}).") from error
    except (ValueError, KeyError, TypeError, IndexError, AttributeError, EOFError, zlib.error) as error:
        raise InvalidInput(
            f"{path.name} is no MettaScope replay that this version understands ({type(error).__name__}: {error})."
        ) from error


def _unpacked(content: bytes) -> bytes:
    if content[:1] == b"{":
        return content
    if content[:2] == b"\x1f\x8b":
        return gzip.decompress(content)
    unpacker = zlib.decompressobj()
    unpacked = unpacker.decompress(content, _MOST_BYTES)
    if unpacker.unconsumed_tail:
        raise ValueError(f"more than {_MOST_BYTES // 1_000_000} MB unpacked")
    if not unpacker.eof:
        raise ValueError("cut off at its end")
    return unpacked


def _understood(raw: dict[str, Any]) -> ReplayFile:
    width, height = (int(number) for number in raw["map_size"][:2])
    steps = max(int(raw.get("max_steps") or 0), 1 + max(_last_steps(raw["objects"]), default=0))
    items = list(raw.get("item_names") or [])
    item = "heart" if "heart" in items else ""
    number = items.index(item) if item else None
    walls: set[Cell] = set()
    agents: list[tuple[int, Thing]] = []
    objects: list[Thing] = []
    for thing in raw["objects"]:
        kind = _kind(thing, raw)
        cells = _cells(thing, steps)
        if kind == "wall":
            walls.update(cell for cell in cells[:1] if cell is not None)
            continue
        amounts = _amounts(thing.get("inventory", []), number, steps)
        if "agent_id" in thing or kind == "agent":
            rewards = [float(value or 0) for value in expand(thing.get("total_reward", 0.0), steps)]
            agents.append((int(thing.get("agent_id", len(agents))), Thing(kind, cells, amounts, rewards)))
        else:
            objects.append(Thing(kind, cells, amounts))
    ordered = tuple(agent for _, agent in sorted(agents, key=lambda pair: pair[0]))
    return ReplayFile((width, height), steps, item, frozenset(walls), ordered, tuple(objects))


def _kind(thing: dict[str, Any], raw: dict[str, Any]) -> str:
    name = thing.get("type_name")
    return str(name) if name else str(raw["type_names"][thing["type_id"]])


def _last_steps(things: Sequence[dict[str, Any]]) -> Iterator[int]:
    for thing in things:
        place = thing.get("location")
        if isinstance(place, list) and place and isinstance(place[0], list):
            yield int(place[-1][0])


def _cells(thing: dict[str, Any], steps: int) -> list[Cell | None]:
    place, alive = thing["location"], thing.get("alive", True)
    moves = bool(place) and isinstance(place[0], list)
    cells: list[Cell | None] = [_cell(place)] * steps if not moves else _journey(place, steps)
    if alive is True:
        return cells
    return [cell if there else None for cell, there in zip(cells, expand(alive, steps), strict=True)]


def _journey(places: Sequence[Any], steps: int) -> list[Cell | None]:
    return expand([(step, _cell(where)) for step, where in places], steps)


def _cell(place: Any) -> Cell | None:
    return (int(place[0]), int(place[1])) if place else None


def _amounts(inventory: Any, item: int | None, steps: int) -> list[int]:
    # A constant inventory is a list of (item, amount), one that changes a list of (step, such a list).
    if inventory and all(len(entry) == 2 and isinstance(entry[1], list) for entry in inventory):
        return expand([(step, _amount(holds, item)) for step, holds in inventory], steps)
    return [_amount(inventory, item)] * steps


def _amount(inventory: Any, item: int | None) -> int:
    if item is None or not inventory:
        return 0
    return sum(int(pair[1]) for pair in inventory if pair[0] == item)


def expand(value: Any, steps: int) -> list[Any]:
    """Return a field's value at each of `steps` steps; it is a constant, or (step, value) pairs where it changes."""
    if not isinstance(value, list):
        return [value] * steps
    whole: list[Any] = []
    # Before the first pair the value is the format's default, which nothing here tells from the first.
    for (_, current), (until, _) in pairwise([*value, (steps, None)]):
        whole += [current] * (min(until, steps) - len(whole))
    return whole
