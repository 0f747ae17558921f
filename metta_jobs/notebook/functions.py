"""What people call in notebooks of their own: each takes a group's name, jobs, or results that are open."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from metta_jobs.errors import InvalidInput, UnknownName, nearest
from metta_jobs.manager.look import Reader
from metta_jobs.notebook.results import GroupResults, load_group, load_jobs
from metta_jobs.notebook.runs import REWARD, SPS, runs_of
from metta_jobs.notebook.statuses import Statuses
from metta_jobs.notebook.tables import SummaryTable
from metta_jobs.states import JobState
from metta_jobs.store.find import ORDERS, Wanted
from metta_jobs.views import JobView

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

Runs = str | int | JobView | Sequence[str | int | JobView] | GroupResults
"""A group's name; a job, by its id, as "group/job", or as find_training_jobs returns it; several; or open results."""


def open_runs(runs: Runs, state_dir: Path | str | None = None) -> GroupResults:
    """The results of these runs. Raises UnknownName, InvalidInput."""
    if isinstance(runs, GroupResults):
        return runs
    if isinstance(runs, str) and "/" not in runs and not runs.isdigit():
        return load_group(runs, state_dir)
    return load_jobs([runs] if isinstance(runs, str | int | JobView) else runs, state_dir)


def fetch_metrics(
    runs: Runs,
    metrics: Sequence[str] = (REWARD, SPS),
    samples: int = 1000,
    state_dir: Path | str | None = None,
) -> pd.DataFrame:
    """Return what runs have logged so far: a tidy frame, at most `samples` points for each metric of each run.

    Columns: run, metric, step, value. Runs without metrics have no rows. Nothing but their own files is read.

        >>> data = fetch_metrics("my_group", ["overview/reward"], samples=500)
    """
    return open_runs(runs, state_dir).fetch(metrics, samples, progress=False)


def plot_sps(runs: Runs, state_dir: Path | str | None = None) -> Figure:
    """Plot speed, in agent steps per second, over steps: as `plot_learning_curves` does.

    >>> plot_sps([3, 5, 8]);
    """
    return plot_learning_curves(runs, SPS, state_dir=state_dir)


def plot_learning_curves(runs: Runs, *metrics: str, columns: int = 2, state_dir: Path | str | None = None) -> Figure:
    """Plot metrics (reward, unless named) over steps, a panel each, `columns` side by side.

    Runs over seeds are drawn as variants, a line through their seeds with a band around it; others a line each.

        >>> plot_learning_curves("my_group", "overview/reward", "losses/policy_loss");
    """
    results = open_runs(runs, state_dir)
    seeded = any(job.variant is not None for job in runs_of(results.group))
    results.fetch(metrics or (REWARD,), progress=False)
    plot = results.plot_variants if seeded else results.plot
    return plot(*(metrics or (REWARD,)), columns=columns)


def create_run_summary_table(runs: Runs, state_dir: Path | str | None = None) -> SummaryTable:
    """Return one row for each run: state, steps, final, max and mean reward, mean SPS, duration; `.frame` has numbers.

    >>> create_run_summary_table("my_group").frame["final reward"]
    """
    results = open_runs(runs, state_dir)
    results.fetch(progress=False)
    return results.summary_table()


def monitor_training_statuses(
    runs: Runs, refresh_s: float | None = None, state_dir: Path | str | None = None
) -> Statuses:
    """Return the state, progress, last reward, speed and ETA of each run as they are now.

    With `refresh_s`, shows that table anew every so many seconds until all runs have ended, and then returns it.

        >>> monitor_training_statuses("my_group", refresh_s=10)
    """
    if refresh_s is not None and refresh_s <= 0:
        raise InvalidInput(f"refresh_s={refresh_s:g}: seconds between two looks, more than 0.")
    results = open_runs(runs, state_dir)
    found = results.statuses()
    while refresh_s is not None and not found.finished:
        _show(found)
        time.sleep(refresh_s)
        found = results.statuses()
    return found


def find_training_jobs(
    author: str | None = None,
    tags: Sequence[str] = (),
    state: JobState | str | None = None,
    group: str | None = None,
    created_after: datetime | str | None = None,
    created_before: datetime | str | None = None,
    order: str = "-created_at",
    limit: int = 50,
    state_dir: Path | str | None = None,
) -> list[JobView]:
    """Return the runs of this queue that meet every condition, at most `limit`.

    `author`: the user who submitted them, or their WANDB_USERNAME. `tags`: one of their WANDB_TAGS is enough. Times are
    datetimes or ISO texts, UTC where they name no zone. `order`: "created_at", "name" or "state", with "-" for the
    last first. Raises InvalidInput, UnknownName.

        >>> plot_learning_curves(find_training_jobs(tags=["ablation"], state="succeeded", created_after="2026-01-31"));
    """
    if order.lstrip("+-") not in ORDERS:
        raise InvalidInput(f"Runs can be ordered by {', '.join(ORDERS)}, not by {order.lstrip('+-')!r}.")
    if limit < 1:
        raise InvalidInput(f"limit={limit}: at least one run must be asked for.")
    if isinstance(tags, str):
        raise InvalidInput(f"tags is a list: tags=[{tags!r}].")
    try:
        wanted_state = None if state is None else JobState(state)
    except ValueError:
        states = [known.value for known in JobState]
        raise UnknownName(
            f"There is no state {state!r}.{nearest(str(state), states)} There are: {', '.join(states)}."
        ) from None
    wanted = Wanted(author, tuple(tags), wanted_state, group, _moment(created_after), _moment(created_before))
    with Reader(state_dir, create=False) as reader:
        if group is not None:
            reader.ids([group])
        return reader.find_runs(wanted, order, limit)


def _moment(given: datetime | str | None) -> datetime | None:
    if given is None:
        return None
    try:
        at = datetime.fromisoformat(given) if isinstance(given, str) else given
    except ValueError:
        raise InvalidInput(f"{given!r} is no time: write it like 2026-01-31 or 2026-01-31T12:00:00.") from None
    return at if at.tzinfo else at.replace(tzinfo=UTC)


def _show(table: Statuses) -> None:
    """In a notebook in place of what was shown before, elsewhere as text."""
    if "ipykernel" in sys.modules:
        from IPython.display import clear_output, display

        clear_output(wait=True)  # type: ignore[no-untyped-call]
        display(table)  # type: ignore[no-untyped-call]
    else:
        sys.stdout.write(f"{table}\n\n")
        sys.stdout.flush()
