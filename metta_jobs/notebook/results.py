"""What the cells of a notebook call: the results of a group, fetched anew whenever they are asked for."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from metta_jobs.errors import InvalidInput
from metta_jobs.manager import JobManager
from metta_jobs.notebook.bands import Centre, Spread
from metta_jobs.notebook.extra import require
from metta_jobs.notebook.plots import plot_metrics
from metta_jobs.notebook.runs import REWARD, SPS, RunMetrics, describe_state, read_run, runs_of, tracked_metrics
from metta_jobs.notebook.tables import Links, SummaryTable, summary_frame
from metta_jobs.notebook.variant_plots import plot_final, plot_variants
from metta_jobs.notebook.variants import VariantSummary, summarize
from metta_jobs.views import GroupView

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure


def load_group(name: str, state_dir: Path | str | None = None) -> GroupResults:
    """Open the results of the group `name`.

    `state_dir` is the folder of the jobs' state; by default $METTA_JOB_STATE, else job_state/ in the project, which is
    the nearest folder, from the working directory upwards, with a pyproject.toml or a job_state/. Raises UnknownName
    when there is no such group.

        >>> results = load_group("arena_experiment_20260101_120000")
        >>> data = results.fetch(["overview/reward"])
        >>> results.plot("overview/reward");
    """

    def view() -> GroupView:
        with JobManager(state_dir) as manager:
            return manager.group(name)

    return GroupResults(view)


def results(group: str, keys: Sequence[str] | None = None, *, state_dir: Path | str | None = None) -> pd.DataFrame:
    """Return all that the runs of `group` have logged under `keys`: a tidy frame, one row for each point.

    Columns: run, variant, seed (NA where a run has none), step, metric, value. By default reward, speed and the metrics
    that the runs track. Raises UnknownName when there is no such group.

        >>> data = results("arena_experiment_20260101_120000", ["overview/reward"])
    """
    return load_group(group, state_dir).frame(keys)


def summary(
    group: str,
    metric: str = REWARD,
    *,
    baseline: str | None = None,
    share: float = 0.1,
    confidence: float = 0.95,
    lower_is_better: bool = False,
    state_dir: Path | str | None = None,
) -> VariantSummary:
    """Compare the variants of `group` by their final performance: the mean over the last `share` of a seed's steps.

    For each variant: how many seeds succeeded, their mean and interquartile mean with percentile bootstrap intervals,
    the mean paired difference to `baseline` (the first variant) over seeds that both have, and the probability of
    improvement, each with its interval (Agarwal et al., NeurIPS 2021). Seeds that did not succeed are named, and in no
    number. Numbers are in `.frame`; the same data give the same intervals. Raises UnknownName or InvalidInput.

        >>> summary("arena_experiment_20260101_120000").frame.iqm
    """
    return load_group(group, state_dir).variants(
        metric, baseline=baseline, share=share, confidence=confidence, lower_is_better=lower_is_better
    )


class GroupResults:
    """The runs of a group, their metrics as far as they are logged, and tables and plots of them.

    `view` is asked for the group's jobs at the beginning and at every `fetch`.
    """

    def __init__(self, view: Callable[[], GroupView]) -> None:
        self._view = view
        self.group = view()
        self._metrics: list[RunMetrics] = []
        self._keys: tuple[str, ...] = ()
        self._samples = 1000

    def __repr__(self) -> str:
        states = Counter(job.state.value.replace("_", " ") for job in runs_of(self.group))
        tally = ", ".join(f"{count} {state}" for state, count in states.items())
        return f"{self.group.name}: {states.total()} {'run' if states.total() == 1 else 'runs'} ({tally or 'none yet'})"

    def fetch(self, keys: Sequence[str] = (REWARD, SPS), samples: int = 1000, progress: bool = True) -> pd.DataFrame:
        """Read the metrics `keys` of all runs as they are now.

        Returns a tidy frame with the columns run, metric, step and value, with at most `samples` points for each
        metric of each run; its lowest and highest are among them. With `progress`, prints a line for each run, which
        names its state and what is missing: a run without metrics does not stop the others.
        """
        require("pandas")
        import pandas as pd

        if isinstance(keys, str):
            raise InvalidInput(f"fetch() takes a list of metrics: fetch([{keys!r}]).")
        if samples < 2:
            raise InvalidInput(f"samples={samples}: at least 2 points are needed for a curve.")
        self.group = self._view()
        self._keys, self._samples, self._metrics = tuple(dict.fromkeys(keys)), samples, []
        jobs = runs_of(self.group)
        names = max((len(job.name) for job in jobs), default=0)
        states = max((len(describe_state(job)) for job in jobs), default=0)
        for number, job in enumerate(jobs, start=1):
            run = read_run(job, self._keys, samples)
            self._metrics.append(run)
            if progress:
                _say(f"{number}/{len(jobs)}  {job.name:<{names}}  {describe_state(job):<{states}}  {run.note}")
        if progress and not jobs:
            _say(f"The group {self.group.name} has no runs.")
        return pd.DataFrame(
            [
                (run.job.name, key, step, value)
                for run in self._metrics
                for key, series in run.series.items()
                for step, value in zip(series.steps, series.values, strict=True)
            ],
            columns=["run", "metric", "step", "value"],
        ).astype({"step": float, "value": float})

    def links(self) -> Links:
        """Return a table of links: each run's page (on W&B, or its local folder), checkpoint, replays and output."""
        return Links(runs_of(self.group))

    def summary(self, reward: str = REWARD, sps: str = SPS) -> pd.DataFrame:
        """Return one row for each run: state, steps, final, max and mean reward, mean SPS, duration.

        The figures come from all points that were logged, not from the sampled ones; NaN where nothing was. `sps` is
        in steps per second, the duration a time span of the newest attempt.
        """
        return summary_frame(self._fetched(reward, sps), reward, sps)

    def summary_table(self, reward: str = REWARD, sps: str = SPS) -> SummaryTable:
        """Return the summary in a form that a notebook shows well."""
        return SummaryTable(self.summary(reward, sps))

    def plot(self, *keys: str, columns: int = 2, size: tuple[float, float] = (6.6, 4.2)) -> Figure:
        """Plot metrics over steps, one panel each, `columns` side by side, one colour for each run.

        `size` is a panel's width and height in inches. Curves of runs that did not succeed are dashed, and a cross
        marks where they end.
        """
        keys = keys or (REWARD, SPS)
        return plot_metrics(self._fetched(*keys), keys, columns, size)

    def frame(self, keys: Sequence[str] | None = None) -> pd.DataFrame:
        """Return all points of metrics as `metta_jobs.notebook.results` does."""
        require("pandas")
        import pandas as pd

        keys = list(keys) if keys is not None else [REWARD, SPS, *tracked_metrics(self.group)]
        parts = [
            pd.DataFrame(
                {
                    "run": run.job.name,
                    "variant": run.job.variant or run.job.name,
                    "seed": pd.array([run.job.seed] * len(points[0]), dtype="Int64"),
                    "step": pd.Series(points[0], dtype=float),
                    "metric": key,
                    "value": pd.Series(points[1], dtype=float),
                }
            )
            for run in self._fetched(*keys)
            for key, points in run.points.items()
            if key in keys and len(points[0])
        ]
        columns = ["run", "variant", "seed", "step", "metric", "value"]
        return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=columns)

    def variants(
        self,
        metric: str = REWARD,
        *,
        baseline: str | None = None,
        share: float = 0.1,
        confidence: float = 0.95,
        lower_is_better: bool = False,
    ) -> VariantSummary:
        """Compare the group's variants over their seeds, as `metta_jobs.notebook.summary` does."""
        return summarize(
            self._fetched(metric),
            metric,
            baseline=baseline,
            share=share,
            confidence=confidence,
            lower_is_better=lower_is_better,
        )

    def plot_variants(
        self,
        *keys: str,
        columns: int = 2,
        size: tuple[float, float] = (6.6, 4.2),
        centre: Centre = "iqm",
        spread: Spread = "interval",
    ) -> Figure:
        """Plot metrics over steps, one colour for each variant: a line through its seeds, a band around it.

        `centre` is "iqm" or "mean", `spread` "interval" (95 % bootstrap) or "range" (lowest to highest seed). Seeds
        that ended without success are drawn up to a cross and are not in the band. `size` is a panel's, in inches.
        """
        keys = keys or (REWARD, SPS)
        return plot_variants(self._fetched(*keys), keys, columns, size, centre, spread)

    def plot_final(self, metric: str = REWARD, *, share: float = 0.1) -> Figure:
        """Plot each variant's final performance over its seeds: interquartile mean, 95 % interval, and the seeds."""
        return plot_final(self.variants(metric, share=share))

    def _fetched(self, *keys: str) -> list[RunMetrics]:
        """The metrics of every run, read first when one of `keys` has not been."""
        if missing := [key for key in keys if key not in self._keys]:
            self.fetch([*self._keys, *missing], self._samples, progress=False)
        return self._metrics


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()
