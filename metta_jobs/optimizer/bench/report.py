"""Figures of a benchmark as a table: medians over seeds, with an interval."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np


def interval(values: Sequence[float]) -> tuple[float, float]:
    """A 95 % interval of the median by bootstrap (Efron 1979), always the same for the same values."""
    rng = np.random.default_rng(0)
    draws = np.median(rng.choice(np.asarray(values, dtype=float), size=(2000, len(values))), axis=1)
    return float(np.quantile(draws, 0.025)), float(np.quantile(draws, 0.975))


def apart(a: Sequence[float], b: Sequence[float]) -> float:
    """Two-sided p of Mann and Whitney's test (1947) that two samples differ."""
    from scipy.stats import mannwhitneyu

    return 1.0 if set(a) == set(b) else float(mannwhitneyu(a, b).pvalue)


def summary(rows: Sequence[dict[str, Any]], figure: str = "regret") -> dict[str, dict[str, list[float]]]:
    """problem → method → that figure by seed; rows without it are left out."""
    found: dict[str, dict[str, list[float]]] = {}
    for row in rows:
        if figure in row:
            found.setdefault(row["problem"], {}).setdefault(row["method"], []).append(float(row[figure]))
    return found


def table(rows: Sequence[dict[str, Any]], figure: str = "regret") -> str:
    """Markdown: a line a problem, a column a method; the first in bold, * where it cannot be
    told from it (p > 0.05)."""
    found = summary(rows, figure)
    methods = list(dict.fromkeys(row["method"] for row in rows))
    sign = -1.0 if figure == "area" else 1.0
    lines = ["| " + " | ".join([figure, *methods]) + " |", "|" + "---|" * (len(methods) + 1)]
    for problem, by_method in found.items():
        medians = {method: float(np.median(values)) for method, values in by_method.items()}
        first = min(medians, key=lambda method: sign * medians[method])
        cells = []
        for method in methods:
            if method not in by_method:
                cells.append("")
                continue
            low, high = interval(by_method[method])
            text = f"{medians[method]:.3f} [{low:.3f}, {high:.3f}]"
            if method == first:
                text = f"**{text}**"
            elif apart(by_method[method], by_method[first]) > 0.05:
                text += " *"
            cells.append(text)
        lines.append("| " + " | ".join([problem, *cells]) + " |")
    return "\n".join(lines)
