"""Replays of runs, shown where the notebook is: as an animation that is drawn here, from the file that a run left."""

from __future__ import annotations

import base64
import html
import logging
import os
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from metta_jobs.errors import InvalidInput, UnknownName, nearest
from metta_jobs.manager import JobManager
from metta_jobs.metrics import find_artifacts
from metta_jobs.notebook.animation import animate
from metta_jobs.notebook.extra import require
from metta_jobs.notebook.replay_file import read_replay
from metta_jobs.notebook.results import GroupResults
from metta_jobs.notebook.runs import describe_state, runs_of
from metta_jobs.views import GroupView, JobView

_log = logging.getLogger(__name__)
#: To be raised when animations look different: those that are kept are then drawn anew.
_DRAWING = 1


@dataclass(frozen=True)
class Replay:
    """A replay file of a run: which attempt of it, and when it was written (UTC)."""

    run: str
    path: Path
    attempt: int
    written_at: datetime


class Replays(list[Replay]):
    """The replays of a group, as a table where it is shown; `without` says of each other run why it has none."""

    def __init__(self, found: Iterable[Replay], without: Iterable[str] = ()) -> None:
        super().__init__(found)
        self.without = tuple(without)

    def _repr_markdown_(self) -> str:
        head = ["| run | replay | attempt | written |", "|:--|:--|--:|:--|"]
        rows = [f"| {r.run} | {r.path.name} | {r.attempt} | {r.written_at:%d %B %Y, %H:%M} UTC |" for r in self]
        return "\n".join([*(head + rows if rows else []), *(f"\n{line}" for line in self.without)])


class ReplayPicture:
    """A replay as it is shown. `gif` holds the animation, None where there is none; `note` says what it is, or why."""

    def __init__(self, title: str, note: str, gif: bytes | None = None) -> None:
        self.title, self.note, self.gif = title, note, gif

    def save(self, path: Path | str) -> Path:
        """Write the animation to `path`; raises InvalidInput when there is none."""
        if self.gif is None:
            raise InvalidInput(self.note)
        target = Path(path)
        target.write_bytes(self.gif)
        return target

    def _repr_html_(self) -> str:
        said = html.escape(self.note)
        if self.gif is None:
            return f"<p>{said}</p>"
        data = base64.b64encode(self.gif).decode("ascii")
        alt = html.escape(f"Replay of {self.title}")
        return (
            f'<figure style="margin:0"><img alt="{alt}" style="max-width:100%" src="data:image/gif;base64,{data}">'
            f'<figcaption style="color:#6b7280">{said}</figcaption></figure>'
        )

    def __repr__(self) -> str:
        return self.note


def get_available_replays(group: str | GroupResults | GroupView, *, state_dir: Path | str | None = None) -> Replays:
    """Return the replays that the runs of `group` have left so far, of each run the newest first.

    Raises UnknownName when there is no such group.

        >>> for replay in get_available_replays("arena_experiment_20260101_120000"):
        ...     print(replay.run, replay.path)
    """
    found: list[Replay] = []
    without: list[str] = []
    for job in runs_of(_view(group, state_dir)):
        of_run = _replays_of(job)
        found += of_run
        if not of_run:
            without.append(_none(job))
    return Replays(found, without)


def show_replay(
    run: str | int | Path | Replay | JobView,
    group: str | GroupResults | GroupView | None = None,
    *,
    state_dir: Path | str | None = None,
) -> ReplayPicture:
    """Return the newest replay of a run as an animation that a notebook shows.

    `run` is a job ("group/name", its id, or its name with `group`; a JobView), one of `get_available_replays`, or the
    path of a replay file. Drawn in a few seconds when first asked for, and kept beside the replay. A run without a
    replay is no error: what is returned says so. Raises UnknownName when there is no such run, and MissingExtra.

        >>> show_replay("baseline.s1", "arena_experiment_20260101_120000")
        >>> show_replay(14).save("baseline.gif")
    """
    require("PIL", "matplotlib")
    if isinstance(run, Path):
        written = datetime.fromtimestamp(run.stat().st_mtime, UTC) if run.is_file() else datetime.now(UTC)
        return _picture(Replay(run.name.split(".")[0], run, 0, written), "")
    if isinstance(run, Replay):
        return _picture(run, "")
    job = run if isinstance(run, JobView) else _job(str(run), group, state_dir)
    replays = _replays_of(job)
    if not replays:
        return ReplayPicture(job.name, _none(job))
    return _picture(replays[0], f" · {describe_state(job)}" if not job.state.terminal else "")


def _picture(replay: Replay, state: str) -> ReplayPicture:
    of_attempt = f", attempt {replay.attempt}" if replay.attempt > 1 else ""
    note = f"{replay.run}{of_attempt} · {replay.path.name}, {replay.written_at:%d %B %Y, %H:%M} UTC{state}"
    try:
        return ReplayPicture(replay.run, note, _drawn(replay))
    except InvalidInput as error:
        return ReplayPicture(replay.run, str(error))


def _drawn(replay: Replay) -> bytes:
    """The animation: the one that is kept, where the replay has not changed since, else a new one."""
    mark = zlib.crc32(f"{_DRAWING}\n{replay.run}".encode())
    # Names that begin with a dot are nobody's artefact.
    kept = replay.path.with_name(f".{replay.path.name}.{mark:08x}.gif")
    try:
        age = replay.path.stat().st_mtime_ns
        if kept.is_file() and kept.stat().st_mtime_ns == age:
            return kept.read_bytes()
    except OSError as error:
        raise InvalidInput(f"The replay {replay.path.name} cannot be read ({error.strerror}).") from error
    drawn = animate(read_replay(replay.path), replay.run)
    aside = kept.with_name(f"{kept.name}.{os.getpid()}")
    try:
        aside.write_bytes(drawn)
        os.utime(aside, ns=(age, age))
        aside.replace(kept)
    except OSError as error:
        # Somebody else's folder, or a full disk: what was drawn can be shown all the same.
        aside.unlink(missing_ok=True)
        _log.info("the animation of %s is not kept (%s)", replay.path.name, error.strerror)
    return drawn


def _replays_of(job: JobView) -> list[Replay]:
    """The newest first, then those of earlier attempts."""
    if job.folder is None:
        return []
    found = []
    for number in range(job.attempt, 0, -1):
        folder = job.folder.with_name(str(number)) if number != job.attempt else job.folder
        paths = [Path(item.target) for item in find_artifacts(folder) if item.kind == "replay"]
        for path in reversed(paths):
            found.append(Replay(job.name, path, number, datetime.fromtimestamp(path.stat().st_mtime, UTC)))
    return found


def _none(job: JobView) -> str:
    if job.folder is None or not job.attempt:
        return f"{job.name} has no replay: it has not run."
    if not job.state.terminal:
        return f"{job.name} has no replay yet: it is {describe_state(job)}, and the recipes write theirs at the end."
    return (
        f"{job.name} ({describe_state(job)}) left no replay. MettaGrid runs that finish write one into replays/; "
        "Gymnasium tasks have none."
    )


def _job(name: str, group: str | GroupResults | GroupView | None, state_dir: Path | str | None) -> JobView:
    if group is None:
        with JobManager(state_dir) as manager:
            return manager.one(name)
    view = _view(group, state_dir)
    by_name = {job.name: job for job in runs_of(view)} | {str(job.id): job for job in runs_of(view)}
    if name not in by_name:
        raise UnknownName(f"There is no run {name!r} in {view.name}.{nearest(name, [j.name for j in runs_of(view)])}")
    return by_name[name]


def _view(group: str | GroupResults | GroupView, state_dir: Path | str | None) -> GroupView:
    if isinstance(group, GroupResults):
        return group.view()
    if isinstance(group, GroupView):
        return group
    with JobManager(state_dir) as manager:
        return manager.group(group)
