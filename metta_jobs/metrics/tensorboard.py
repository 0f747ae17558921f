"""Metrics from the TensorBoard event files in a run folder."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from pathlib import Path

from metta_jobs.metrics.base import Row
from metta_jobs.metrics.reading import Reading
from metta_jobs.metrics.tfevents import EventTail
from metta_jobs.metrics.walk import telling_files


class TensorBoardFolder(Reading):
    """All event files below `folders`, in the order of their names, which hold when each was begun.

    A scalar's key is its tag, or its folder and tag ("eval/loss" is `loss` in the folder `eval`). Where several
    folders hold a tag, the plain one means the last of them; files in one folder are starts of one run. `_step` is
    TensorBoard's.
    """

    kind = "tensorboard"

    def __init__(self, *folders: Path) -> None:
        self.folders = folders

    def rows(self, keys: Collection[str] | None = None) -> Iterator[Row]:
        """Yield a row for each scalar."""
        fragment = -1
        for folder in self.folders:
            for path in event_files(folder):
                fragment += 1
                prefix = prefix_of(folder, path)
                for step, at, tag, value in EventTail(path).poll():
                    row: Row = {"_step": step, "_timestamp": at, "_fragment": fragment}
                    for key in {tag, prefix + tag}:
                        if keys is None or key in keys:
                            row[key] = value
                    if len(row) > 3:
                        yield row


def prefix_of(folder: Path, path: Path) -> str:
    """What stands before the tags of the event file `path` below `folder`: "" or "eval/"."""
    inner = path.parent.relative_to(folder).as_posix()
    return "" if inner == "." else f"{inner}/"


def event_files(folder: Path) -> list[Path]:
    """The event files below a run folder, oldest first."""
    return sorted((p for p in telling_files(folder) if "tfevents" in p.name), key=lambda path: path.name)
