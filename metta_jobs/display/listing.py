"""Tables that fit: names give way in their middle, the last column wraps within itself, nothing else ever breaks."""

from __future__ import annotations

import textwrap
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.text import Text

from metta_jobs.display.format import fit, shorten

_GAP = "  "
# Where room is short, these widths are reached in this order: texts first, which wrap, then names, then both again.
_STEPS = (("text", 24), ("name", 20), ("name", 12), ("text", 16), ("key", 16))


@dataclass(frozen=True)
class Field:
    """A column: its label, "left" or "right", and how it gives way: a "name" is shortened, a "text" wraps,
    a "key", which people copy, is shortened last of all.

    Where room is short, labels give way to their `short` forms first. Where nothing else helps, the column with the
    highest `spare` goes; 0 always stays.
    """

    label: str
    align: str = "left"
    gives_way: str = ""
    spare: int = 0
    short: str = ""


@dataclass(frozen=True)
class Listing:
    """Rows of (text, style) under labels; a text wraps into `text_lines` lines at most (None: as many as it takes).

    Printed with `soft_wrap`, it takes its natural width.
    """

    fields: Sequence[Field]
    rows: Sequence[Sequence[tuple[str, str]]]
    text_lines: int | None = 4

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        if options.overflow == "ignore":
            yield from self._table(self._natural(), width=None)
            return
        listing = self if self._wide() <= options.max_width else self._abbreviated()
        if listing._wide() > options.max_width:
            listing = listing._without_empty()
        while listing._narrowest() > options.max_width and any(field.spare for field in listing.fields):
            listing = listing._without_sparest()
        yield from listing._table(listing._fitted(options.max_width), options.max_width)

    def _table(self, widths: Sequence[int], width: int | None) -> Iterator[Text]:
        header: Sequence[tuple[str, str]] = [(field.label, "dim") for field in self.fields]
        for row in (header, *self.rows):
            for line in self._lines(row, widths):
                if width is not None:
                    line.truncate(width, overflow="ellipsis")
                yield line

    def _wide(self) -> int:
        return sum(self._natural()) + len(_GAP) * (len(self.fields) - 1)

    def _abbreviated(self) -> Listing:
        fields = [replace(field, label=field.short or field.label) for field in self.fields]
        return Listing(fields, self.rows, self.text_lines)

    def _narrowest(self) -> int:
        return sum(self._fitted(0)) + len(_GAP) * (len(self.fields) - 1)

    def _without_empty(self) -> Listing:
        """Columns in which nothing stands make room."""
        may_go = [column for column, field in enumerate(self.fields) if field.spare or field.gives_way == "text"]
        return self._without([column for column in may_go if not any(row[column][0] for row in self.rows)])

    def _without_sparest(self) -> Listing:
        return self._without({max(range(len(self.fields)), key=lambda column: self.fields[column].spare)})

    def _without(self, gone: Collection[int]) -> Listing:
        rows = [[cell for column, cell in enumerate(row) if column not in gone] for row in self.rows]
        fields = [field for column, field in enumerate(self.fields) if column not in gone]
        return Listing(fields, rows, self.text_lines)

    def _natural(self) -> list[int]:
        columns = range(len(self.fields))
        return [max(cell_len(text) for text in self._column(column)) for column in columns]

    def _column(self, column: int) -> list[str]:
        return [self.fields[column].label, *(row[column][0] for row in self.rows)]

    def _fitted(self, width: int) -> list[int]:
        widths = self._natural()
        excess = sum(widths) + len(_GAP) * (len(widths) - 1) - width
        for kind, floor in _STEPS:
            for column, field in enumerate(self.fields):
                if field.gives_way == kind and excess > 0:
                    taken = min(excess, max(0, widths[column] - floor))
                    widths[column] -= taken
                    excess -= taken
        return widths

    def _lines(self, row: Sequence[tuple[str, str]], widths: Sequence[int]) -> list[Text]:
        blocks = [
            _block(text, width, field, self.text_lines)
            for (text, _), width, field in zip(row, widths, self.fields, strict=True)
        ]
        lines = []
        for position in range(max(map(len, blocks))):
            line = Text(no_wrap=True)
            for column, (block, width, field) in enumerate(zip(blocks, widths, self.fields, strict=True)):
                text = block[position] if position < len(block) else ""
                line.append(_GAP if column else "")
                line.append(fit(text, width, field.align), row[column][1])
            line.rstrip()
            lines.append(line)
        return lines


def _block(text: str, width: int, field: Field, most: int | None) -> list[str]:
    if cell_len(text) <= width:
        return [text]
    if field.gives_way == "text":
        return textwrap.wrap(text, max(1, width), max_lines=most, placeholder=" …") or [""]
    return [shorten(text, width)]


def show(renderable: RenderableType, console: Console) -> None:
    """Print a table: fitted to a terminal, in its natural width into a file or a pipe, for `grep` and the like."""
    console.print(renderable, soft_wrap=not console.is_terminal, highlight=False)
