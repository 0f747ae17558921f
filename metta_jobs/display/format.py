"""Numbers, times and names as people read them, in widths that stay put."""

from __future__ import annotations

import math
from datetime import datetime

from rich.cells import cell_len, set_cell_size

#: Stands where a value is not known.
UNKNOWN = "–"


def duration(seconds: float | None) -> str:
    """Return a span with its two largest units: "45 s", "12 min 03 s", "2 h 03 min", "3 d 04 h"."""
    if seconds is None or not math.isfinite(seconds):
        return UNKNOWN
    whole = max(0, int(seconds))
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return _hours_and_more(whole)


def coarse(seconds: float | None) -> str:
    """Return a span without seconds that nobody needs: "45 s", "12 min", "2 h 03 min", "3 d 04 h"."""
    if seconds is None or not math.isfinite(seconds):
        return UNKNOWN
    whole = max(0, int(seconds))
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min"
    return _hours_and_more(whole)


def _hours_and_more(whole: int) -> str:
    if whole < 86_400:
        return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
    return f"{whole // 86_400} d {whole % 86_400 // 3600:02d} h"


def age(moment: datetime, now: datetime) -> str:
    """Return how long ago `moment` was, coarsely; a moment in the future counts as now."""
    return coarse((now - moment).total_seconds())


def number(value: float | None) -> str:
    """Return a measured value with three significant digits and an SI prefix: "3.21", "36.2 k", "1.25 M"."""
    if value is None:
        return UNKNOWN
    if not math.isfinite(value):
        return str(value)
    if value != 0 and not 0.001 <= abs(value) < 1e15:
        return f"{value:.1e}"
    # Rounded before it is scaled, so that 999 999 reads "1.00 M" and never "1000 k".
    scaled = float(f"{value:.3g}")
    prefix = 0
    while abs(scaled) >= 1000:
        scaled, prefix = scaled / 1000, prefix + 1
    decimals = 3 if abs(scaled) < 0.1 and scaled else 2 if abs(scaled) < 10 else 1 if abs(scaled) < 100 else 0
    return f"{scaled:.{decimals}f}{('', ' k', ' M', ' G', ' T', ' P')[prefix]}"


def count(value: float | None) -> str:
    """Return a number of things: whole below a thousand ("8"), then as `number` does ("1.25 M")."""
    if value is None or not math.isfinite(value) or abs(value) >= 1000:
        return number(value)
    return f"{value:.0f}"


def rate(per_second: float | None) -> str:
    """Return a rate: "36.2 k/s"."""
    return UNKNOWN if per_second is None else f"{number(per_second)}/s"


def percent(fraction: float) -> str:
    """Return a share in whole percent, rounded down: "100 %" is said only of what is complete."""
    return f"{math.floor(fraction * 100 + 1e-9)} %"


def dollars(amount: float | None) -> str:
    """An amount of US dollars: "$0.42", "$1,234"."""
    if amount is None:
        return UNKNOWN
    return f"${amount:,.0f}" if amount >= 1000 else f"${amount:.2f}"


def shorten(text: str, width: int) -> str:
    """Return `text` in at most `width` cells, the middle replaced by "…" so that both ends stay readable."""
    if cell_len(text) <= width:
        return text
    if width <= 1:
        return "…"[: max(0, width)]
    tail_cells = (width - 1) // 2
    # A wide character that does not fit is padded with a blank by set_cell_size: no need to show it.
    head = set_cell_size(text, width - 1 - tail_cells).rstrip()
    tail = ""
    for character in reversed(text):
        if cell_len(character + tail) > tail_cells:
            break
        tail = character + tail
    return f"{head}…{tail}"


def fit(text: str, width: int, align: str = "left") -> str:
    """Return `text` in exactly `width` cells, cut at its end with "…" when it is longer."""
    if width <= 0:
        return ""
    size = cell_len(text)
    if size > width:
        return set_cell_size(set_cell_size(text, width - 1).rstrip() + "…", width)
    padding = " " * (width - size)
    return padding + text if align == "right" else text + padding


def counted(amount: int, word: str) -> str:
    """Return "1 job", "2 jobs"."""
    return f"{amount} {word}{'' if amount == 1 else 's'}"
