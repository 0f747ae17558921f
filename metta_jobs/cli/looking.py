"""What `metta job list` and `metta job show` print. No command-line library here: see `quick`."""

from __future__ import annotations

import sys
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from metta_jobs.cli.context import console, print_json, reader
from metta_jobs.errors import NoState, UnknownName, nearest
from metta_jobs.states import JobState
from metta_jobs.views import JobView

if TYPE_CHECKING:
    from metta_jobs.manager import Reader

SHOWN_GROUPS = 20


def one_job(target: str) -> JobView:
    """The single job that a target names."""
    with reader() as opened:
        return opened.one(target)


def list_jobs(group: str | None, state: str | None, everything: bool, as_json: bool) -> None:
    """Print groups with their counts, or the jobs of one group."""
    wanted = _state(state)
    try:
        opened = reader()
    except NoState as nothing:
        if group is not None:
            raise
        if as_json:
            print_json({"groups": []})
        else:
            print(str(nothing))
        return
    with opened:
        if group is None:
            _list_groups(opened, wanted, everything, as_json)
            return
        view = opened.group(group)
        warning = opened.warning(not view.finished, view.elsewhere)
    if wanted is not None:
        view = replace(view, jobs=tuple(job for job in view.jobs if job.state is wanted))
    if as_json:
        print_json(view.to_dict())
        return
    if wanted is not None and not view.jobs:
        print(f"No job of {group} is {wanted.value}.")
        return
    from metta_jobs.display.listing import show as show_table
    from metta_jobs.display.tables import render_jobs
    from metta_jobs.display.variants import folds, render_variants

    folded = not everything and wanted is None and folds(view)
    show_table((render_variants if folded else render_jobs)(view, datetime.now(UTC)), console())
    if folded:
        print("Seeds are folded: --all shows every job.")
    if warning:
        print(warning, file=sys.stderr)


def _list_groups(opened: Reader, wanted: JobState | None, everything: bool, as_json: bool) -> None:
    groups = opened.groups()
    if wanted is not None:
        having = opened.groups_with(wanted)
        groups = [group for group in groups if group.name in having]
    recent = {group.name for group in groups[-SHOWN_GROUPS:]}
    shown = [g for g in groups if everything or g.name in recent or g.counts.unfinished]
    warning = opened.warning(any(group.counts.unfinished for group in groups))
    if as_json:
        print_json({"groups": [group.to_dict() for group in reversed(shown)]})
        return
    if not shown:
        print("No jobs yet. `metta run --list` shows the recipes; `metta job submit -- COMMAND` runs any command.")
        return
    from metta_jobs.display.listing import show as show_table
    from metta_jobs.display.tables import render_groups

    show_table(render_groups(list(reversed(shown)), datetime.now(UTC)), console())
    if len(shown) < len(groups):
        print(f"… and {len(groups) - len(shown)} older groups: --all shows them.")
    if warning:
        print(warning, file=sys.stderr)


def _state(name: str | None) -> JobState | None:
    if name is None:
        return None
    try:
        return JobState(name.lower())
    except ValueError:
        states = [state.value for state in JobState]
        raise UnknownName(f"There is no state {name!r}.{nearest(name, states)} States: {', '.join(states)}.") from None


def show_job(target: str, as_json: bool) -> None:
    """Print one job whole."""
    job = one_job(target)
    with reader() as opened:
        events = opened.events([job.id])
        warning = opened.warning(not job.state.terminal, job.elsewhere)
    if as_json:
        print_json(job.to_whole_dict() | {"events": [event.to_dict() for event in events]})
        return
    from metta_jobs.display.job import render_job
    from metta_jobs.display.listing import show as show_table
    from metta_jobs.display.logtail import read_tail
    from metta_jobs.metrics.artifacts import find_artifacts

    tail = read_tail(job.folder / "output.log") if job.folder else []
    artifacts = find_artifacts(job.folder) if job.folder else []
    show_table(render_job(job, events, tail, artifacts, datetime.now(UTC)), console())
    if warning:
        print(warning, file=sys.stderr)
