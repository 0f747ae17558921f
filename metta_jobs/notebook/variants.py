"""An experiment's results per variant, over its seeds: how well it did in the end, and how sure that is."""

from __future__ import annotations

import html
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from metta_jobs.errors import InvalidInput, UnknownName, nearest
from metta_jobs.notebook.extra import require
from metta_jobs.notebook.runs import Points, RunMetrics, describe_state
from metta_jobs.notebook.statistics import (
    RESAMPLES,
    Estimate,
    caution,
    estimate,
    interquartile_mean,
    mean,
    probability_of_improvement,
)
from metta_jobs.notebook.tables import decimal
from metta_jobs.states import JobState

if TYPE_CHECKING:
    import pandas as pd

_NONE = "–"


@dataclass(frozen=True)
class Final:
    """How one seed did in the end: `score`, or None and `why` there is none; `ignored` of its last points are NaN."""

    run: RunMetrics
    score: float | None
    why: str = ""
    ignored: int = 0


def by_variant(runs: Sequence[RunMetrics]) -> dict[str, list[RunMetrics]]:
    """The runs of each variant, in the order of submission; a job of no variant is one of its own."""
    variants: dict[str, list[RunMetrics]] = {}
    for run in runs:
        variants.setdefault(run.job.variant or run.job.name, []).append(run)
    return variants


def seed_label(run: RunMetrics) -> str:
    """What a seed is called beside its variant: "s3"; the job's name where it has no seed."""
    return run.job.name if run.job.seed is None else f"s{run.job.seed}"


def final_performance(points: Points, share: float = 0.1) -> tuple[float, int]:
    """Return the mean over the last `share` of steps, and how many points there are no numbers (they are left out).

    The last 10 % of a run that logged up to step 1000 are the steps from 900 on. NaN where nothing is there.
    """
    import numpy as np

    steps, values = np.asarray(points[0], dtype=float), np.asarray(points[1], dtype=float)
    if not len(steps):
        return math.nan, 0
    last = values[steps >= steps[-1] - share * abs(steps[-1])]
    numbers = last[np.isfinite(last)]
    return (float(numbers.mean()) if len(numbers) else math.nan), len(last) - len(numbers)


def finals(runs: Sequence[RunMetrics], metric: str, share: float) -> list[Final]:
    """How each run did in the end. Only a run that succeeded has a score: all others stopped somewhere on the way."""
    found = []
    for run in runs:
        points = run.points.get(metric)
        if run.job.state is not JobState.SUCCEEDED:
            found.append(Final(run, None, describe_state(run.job)))
        elif points is None or not len(points[0]):
            found.append(Final(run, None, f"succeeded, but there is no {metric}"))
        else:
            score, ignored = final_performance(points, share)
            if math.isnan(score):
                found.append(Final(run, None, f"succeeded, but {metric} is NaN at its end"))
            else:
                found.append(Final(run, score, ignored=ignored))
    return found


def summarize(
    runs: Sequence[RunMetrics],
    metric: str,
    *,
    baseline: str | None = None,
    share: float = 0.1,
    confidence: float = 0.95,
    lower_is_better: bool = False,
) -> VariantSummary:
    """Compare variants; see `metta_jobs.notebook.summary`. Raises UnknownName or InvalidInput."""
    require("pandas")
    import pandas as pd

    if not 0 < share <= 1 or not 0 < confidence < 1:
        raise InvalidInput(f"share={share:g} and confidence={confidence:g} are parts of a whole: between 0 and 1.")
    variants = {name: finals(seeds, metric, share) for name, seeds in by_variant(runs).items()}
    if baseline is not None and baseline not in variants:
        raise UnknownName(
            f"There is no variant {baseline!r}.{nearest(baseline, variants)} Variants: {', '.join(variants) or 'none'}."
        )
    baseline = baseline or next(iter(variants), None)
    rows = []
    for name, seeds in variants.items():
        scores = _scores(seeds)
        row: dict[str, object] = {"variant": name, "seeds": len(scores), "submitted": len(seeds)}
        row |= _columns("mean", estimate([scores], mean, confidence))
        row |= _columns("iqm", estimate([scores], interquartile_mean, confidence))
        difference, better, common = Estimate(), Estimate(), 0
        if baseline is not None and name != baseline:
            pairs = _pairs(seeds, variants[baseline])
            difference, common = estimate([pairs], mean, confidence), len(pairs)
            sides = (scores, _scores(variants[baseline]))
            better = probability_of_improvement(*(sides[::-1] if lower_is_better else sides), confidence=confidence)
        row |= _columns("difference", difference) | {"common_seeds": common}
        row |= _columns("p_improvement", better)
        row["left_out"] = "; ".join(f"{seed_label(s.run)} ({s.why})" for s in seeds if s.score is None)
        rows.append(row)
    frame = pd.DataFrame(rows, columns=_ALL_COLUMNS).set_index("variant")
    return VariantSummary(frame, metric, baseline, confidence, _notes(variants, share, confidence), variants)


_ESTIMATES = ("mean", "iqm", "difference", "p_improvement")


def _columns(name: str, found: Estimate) -> dict[str, object]:
    value, low, high = asdict(found).values()
    return {name: value, f"{name}_low": low, f"{name}_high": high}


def _three(name: str) -> list[str]:
    return list(_columns(name, Estimate()))


_ALL_COLUMNS = [
    *("variant", "seeds", "submitted"),
    *(*_three("mean"), *_three("iqm"), *_three("difference"), "common_seeds", *_three("p_improvement"), "left_out"),
]


def _scores(seeds: Sequence[Final]) -> list[float]:
    return [seed.score for seed in seeds if seed.score is not None]


def _pairs(ours: Sequence[Final], theirs: Sequence[Final]) -> list[float]:
    """The differences over the seeds that both have."""
    base = {seed.run.job.seed: seed.score for seed in theirs}
    both = [(seed.score, base.get(seed.run.job.seed)) for seed in ours if seed.run.job.seed is not None]
    return [mine - other for mine, other in both if mine is not None and other is not None]


def _notes(variants: Mapping[str, Sequence[Final]], share: float, confidence: float) -> list[str]:
    counts = {name: len(_scores(seeds)) for name, seeds in variants.items()}
    notes = [said] if (said := caution([count for count in counts.values() if count])) else []
    notes += [f"{name}: no seed has succeeded." for name, count in counts.items() if not count]
    everyone = [seed for seeds in variants.values() for seed in seeds]
    if missing := [f"{seed.run.job.name} ({seed.why})" for seed in everyone if seed.score is None]:
        notes.append(f"Not in the numbers: {', '.join(missing)}.")
    if partly := [f"{seed.run.job.name} ({seed.ignored:,})" for seed in everyone if seed.ignored]:
        notes.append(f"Points that are NaN or infinite, left out of a seed's end: {', '.join(partly)}.")
    notes.append(
        f"A seed's score is its mean over the last {share * 100:g} % of its steps. Intervals: {confidence * 100:g} %, "
        f"bootstrap over seeds ({RESAMPLES:,} resamples). The difference is the mean over seeds that both have."
    )
    return notes


class VariantSummary:
    """The comparison of variants as people read it; `frame` holds the numbers, `notes` the words below the table.

    `frame` has one row for each variant: seeds (that succeeded, and are all that the numbers tell of), submitted, mean
    and iqm of their final performance, difference to the baseline over common_seeds, p_improvement, each of the four
    with …_low and …_high, and left_out, which names the other seeds. `scores` are each variant's seeds.
    """

    def __init__(
        self,
        frame: pd.DataFrame,
        metric: str,
        baseline: str | None,
        confidence: float,
        notes: Sequence[str],
        scores: Mapping[str, Sequence[Final]],
    ) -> None:
        self.frame = frame
        self.metric = metric
        self.baseline = baseline
        self.confidence = confidence
        self.notes = list(notes)
        self.scores = scores

    def _head(self) -> list[str]:
        return ["variant", "seeds", "mean", "IQM", f"difference to {self.baseline}", "P(improvement)"]

    def _cells(self) -> list[list[str]]:
        rows = []
        for name, row in self.frame.iterrows():
            count = f"{row.seeds}" if row.seeds == row.submitted else f"{row.seeds} of {row.submitted}"
            told = [_interval(*(float(row[column]) for column in _three(which))) for which in _ESTIMATES]
            if name == self.baseline:
                told[2:] = ["baseline", _NONE]
            elif row.common_seeds not in (0, row.seeds):
                told[2] += f" over {row.common_seeds}"
            rows.append([str(name), count, *told])
        return rows

    def _repr_html_(self) -> str:
        def line(tag: str, cells: Sequence[str]) -> str:
            return "".join(
                f'<{tag} style="text-align:{"right" if i else "left"};white-space:nowrap">{html.escape(cell)}</{tag}>'
                for i, cell in enumerate(cells)
            )

        body = "".join(f"<tr>{line('td', row)}</tr>" for row in self._cells())
        notes = "".join(f"<li>{html.escape(note)}</li>" for note in self.notes)
        return (
            f"<p><b>{html.escape(self.metric)}</b>, final performance</p>"
            f"<table><thead><tr>{line('th', self._head())}</tr></thead><tbody>{body}</tbody></table>"
            f'<ul style="color:#555;font-size:90%">{notes}</ul>'
        )

    def __repr__(self) -> str:
        table = [self._head(), *self._cells()]
        widths = [max(map(len, column)) for column in zip(*table, strict=True)]
        lines = [
            "  ".join(c.rjust(w) if i else c.ljust(w) for i, (c, w) in enumerate(zip(row, widths, strict=True)))
            for row in table
        ]
        return "\n".join([f"{self.metric}, final performance", *lines, *self.notes])


def _interval(value: float, low: float, high: float) -> str:
    if math.isnan(value):
        return _NONE
    return decimal(value) if math.isnan(low) else f"{decimal(value)} [{decimal(low)}, {decimal(high)}]"
