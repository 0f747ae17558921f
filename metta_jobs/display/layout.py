"""Shares a screen's lines among the sections of the monitor: pure, and the same for the same input."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Demand:
    """What a section would like to show.

    `details` holds, per job, the number of lines below its row. A line's urgency is the line's place in the queue for
    space, lower first: row r stands at `row_first + r * row_step`, line d below it at `detail_first + r * row_step +
    d * detail_step`. A line below a row comes after it: detail_first is above row_first.
    """

    details: Sequence[int]
    row_first: float
    row_step: float
    detail_first: float
    detail_step: float


@dataclass
class Share:
    """What a section gets: the number of its first rows, and the number of detail lines below each of them."""

    total: int
    rows: int = 0
    details: list[int] = field(default_factory=list)

    @property
    def hidden(self) -> int:
        """Jobs that are counted only."""
        return self.total - self.rows

    @property
    def lines(self) -> int:
        """Lines of the section: its heading, rows, details, and the line that counts hidden jobs."""
        return 1 + self.rows + sum(self.details) + self._counting_lines(self.rows)

    def _counting_lines(self, rows: int) -> int:
        # Without any row, the heading's count says it.
        return 1 if 0 < rows < self.total else 0

    def cost_of_row(self) -> int:
        """Lines that one more row takes; none when it replaces "… and 1 more"."""
        return 1 + self._counting_lines(self.rows + 1) - self._counting_lines(self.rows)


def share(demands: Sequence[Demand], lines: int, gap_urgency: float) -> tuple[list[Share], bool]:
    """Give each section its part of `lines`, most urgent lines first; also tell whether gaps between sections fit.

    Every section gets its heading, even where `lines` is too small for that: then the caller must crop. A gap is one
    empty line before each section; all are granted or none.
    """
    shares = [Share(total=len(demand.details)) for demand in demands]
    left = lines - len(shares)
    gaps = False
    for _, section, row, detail in sorted(_wishes(demands, max(0, left), gap_urgency)):
        if section < 0:
            if len(shares) <= left:
                gaps, left = True, left - len(shares)
            continue
        mine = shares[section]
        if detail < 0:
            cost = mine.cost_of_row()
            if row == mine.rows and cost <= left:
                mine.rows, left = row + 1, left - cost
                mine.details.append(0)
        elif row < mine.rows and detail == mine.details[row] and left > 0:
            mine.details[row], left = detail + 1, left - 1
    return shares, gaps


def _wishes(demands: Sequence[Demand], lines: int, gap_urgency: float) -> list[tuple[float, int, int, int]]:
    """All lines that could be shown as (urgency, section, row, detail); detail -1 is the row, section -1 the gaps."""
    wishes = [(gap_urgency, -1, 0, 0)]
    for section, demand in enumerate(demands):
        for row, details in enumerate(demand.details[: lines + 1]):
            wishes.append((demand.row_first + row * demand.row_step, section, row, -1))
            for detail in range(details):
                urgency = demand.detail_first + row * demand.row_step + detail * demand.detail_step
                wishes.append((urgency, section, row, detail))
    return wishes
