"""How far a running job is, cheap enough to ask every second."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Protocol

from metta_jobs.metrics.base import Progress as Progress
from metta_jobs.metrics.base import Row, as_number
from metta_jobs.metrics.names import STEP_KEYS, first_of, spellings
from metta_jobs.metrics.reading import progress_of
from metta_jobs.metrics.tables import newest_of_csv, newest_of_json_lines
from metta_jobs.metrics.tensorboard import prefix_of
from metta_jobs.metrics.tfevents import EventTail
from metta_jobs.metrics.walk import CSV_NAMES, telling_files
from metta_jobs.metrics.wandb_progress import WandbFollower


class ProgressReader:
    """Follows whatever the job whose attempt folder is `folder` logs: W&B's log, event files, CSV or JSON lines.

    A canonical key that is not logged stands for its other well-known names (names.py). `keys` are to be among
    Progress.values.
    """

    def __init__(
        self,
        folder: Path,
        reward_key: str = "overview/reward",
        sps_key: str = "overview/sps",
        keys: Collection[str] = (),
    ) -> None:
        self.folder = folder
        self.reward_key = reward_key
        self.sps_key = sps_key
        self._measured = spellings(reward_key), spellings(sps_key)
        self._keys = {key: spellings(key) for key in sorted(set(keys))}
        self._wandb = WandbFollower(folder, (*self._measured, *self._keys.values()))
        self._files: dict[Path, _Follower] = {}

    def poll(self) -> Progress:
        """Read what is new and return the newest values. Raises OSError when a log may not be read."""
        newest, total = self._wandb.poll()
        first = self._progress(newest, total)
        if first.reward is not None:
            return first
        return _together([first, *(self._progress(one, total) for one in self._others())])

    def _progress(self, newest: Row, total: float | None) -> Progress:
        logged = {key: first_of(names, newest) for key, names in self._keys.items()}
        values = {key: as_number(newest[name]) for key, name in logged.items() if name is not None}
        numbers = {key: value for key, value in values.items() if value is not None}
        return replace(progress_of(newest, total, *self._measured), values=numbers)

    def _others(self) -> list[Row]:
        """The newest values of each kind of file that is no W&B log."""
        events: Row = {}
        tables: list[Row] = []
        for path in telling_files(self.folder):
            follower = self._files.get(path)
            if follower is None:
                follower = self._files[path] = self._follow(path)
            row = follower.poll()
            if isinstance(follower, _Events):
                events |= {key: value for key, value in row.items() if key != "_step"}
                events["_step"] = max(row.get("_step", 0), events.get("_step", 0))
            else:
                tables.append(row)
        return [events, *tables] if events else tables

    def _follow(self, path: Path) -> _Follower:
        if "tfevents" in path.name:
            wanted = {*chain(*self._measured, *self._keys.values()), *STEP_KEYS}
            return _Events(path, prefix_of(self.folder, path), wanted)
        return _Table(path)


class _Follower(Protocol):
    def poll(self) -> Row: ...


class _Events:
    """The newest scalars of one event file."""

    def __init__(self, path: Path, prefix: str, wanted: Iterable[str]) -> None:
        self._tail = EventTail(path)
        self._prefix = prefix
        self._wanted = frozenset(wanted)
        self._newest: Row = {}

    def poll(self) -> Row:
        for step, at, tag, value in self._tail.poll():
            self._newest["_step"], self._newest["_timestamp"] = step, at
            for key in (tag, self._prefix + tag):
                if key in self._wanted:
                    self._newest[key] = value
        return self._newest


class _Table:
    """The newest cells of a CSV or JSON-lines file, read again when the file has changed."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._seen = (0, 0)
        self._newest: Row = {}

    def poll(self) -> Row:
        try:
            found = self._path.stat()
        except FileNotFoundError:
            return self._newest
        if (now := (found.st_mtime_ns, found.st_size)) != self._seen:
            read = newest_of_csv if self._path.name in CSV_NAMES else newest_of_json_lines
            self._newest, self._seen = {"_timestamp": found.st_mtime, **read(self._path)}, now
        return self._newest


def _together(found: list[Progress]) -> Progress:
    """The first that has a reward, else steps; what it lacks is filled in from the others."""
    main = next((one for one in found if one.reward is not None), None) or next(
        (one for one in found if one.steps is not None), Progress()
    )
    for other in found:
        lacking = {name: value for name, value in vars(other).items() if getattr(main, name) is None}
        main = replace(main, **lacking, values={**other.values, **main.values})
    return main
