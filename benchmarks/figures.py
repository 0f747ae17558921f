"""What a benchmark returns, and how it is shown: as a table for people, as JSON for programs."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from rich.table import Table
from rich.text import Text

_COMPARE = {"<": operator.lt, "≤": operator.le, "≥": operator.ge}


@dataclass(frozen=True)
class Must:
    """What a figure has to be: below, at most, or at least `bound`, in the figure's own unit."""

    relation: str
    bound: float

    def met(self, value: float) -> bool:
        """True when `value` is as it must be."""
        return bool(_COMPARE[self.relation](value, self.bound))


@dataclass(frozen=True)
class Figure:
    """One measured number.

    `name` is its stable key, `note` a few words to read it by, `detail` what it was made from, `reference` what the
    machine could do in the same minute. Without a `must` it only informs.
    """

    name: str
    what: str
    value: float
    unit: str
    must: Must | None = None
    note: str = ""
    detail: dict[str, Any] = field(default_factory=dict)
    reference: dict[str, float] = field(default_factory=dict)

    @property
    def ok(self) -> bool | None:
        """Whether it is as it must be; None when nothing is asked of it."""
        return None if self.must is None else self.must.met(self.value)

    def within(self, reference: dict[str, float]) -> Figure:
        """The same figure, with the reference measured around it."""
        return replace(self, reference=reference)

    def to_dict(self) -> dict[str, Any]:
        """The stable JSON form."""
        return {
            "name": self.name,
            "what": self.what,
            "value": self.value,
            "unit": self.unit,
            "must": {"relation": self.must.relation, "bound": self.must.bound} if self.must else None,
            "ok": self.ok,
            "note": self.note,
            "reference": self.reference,
            "detail": self.detail,
        }


def render(figures: Sequence[Figure], failures: dict[str, str]) -> Table:
    """The table: what, measured, must, ok, and a note."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("what")
    table.add_column("measured", justify="right", no_wrap=True)
    table.add_column("must", justify="right", no_wrap=True)
    table.add_column("ok?", no_wrap=True)
    table.add_column("note", style="dim", overflow="fold")
    for figure in figures:
        must = f"{figure.must.relation} {amount(figure.must.bound, figure.unit)}" if figure.must else ""
        table.add_row(figure.what, amount(figure.value, figure.unit), must, _verdict(figure.ok), figure.note)
    for name, why in failures.items():
        table.add_row(name, "—", "", Text("failed", "bold red"), why)
    return table


def amount(value: float, unit: str) -> str:
    """A number with as many digits as tell something: 1234, 123, 12.3, 1.23."""
    size = abs(value)
    digits = 0 if size >= 100 or value == int(value) else 1 if size >= 10 else 2 if size >= 0.1 else 3
    return f"{value:,.{digits}f} {unit}".rstrip()


def _verdict(ok: bool | None) -> Text:
    return Text("") if ok is None else Text("yes", "green") if ok else Text("no", "bold red")
