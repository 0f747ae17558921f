"""Finding the files of a run folder that may hold metrics, at a bounded cost."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

_DEPTH = 4
_MOST_ENTRIES = 2000
_ELSEWHERE = frozenset({"wandb", "checkpoints", "replays", "artifacts", "plugins", "__pycache__"})
CSV_NAMES = ("progress.csv", "metrics.csv")
JSONL_NAMES = ("progress.json", "metrics.jsonl", "result.json")


def before(folder: Path) -> list[Path]:
    """The folders of the same job's earlier attempts, oldest first; of a folder that is no attempt's, none."""
    if not (folder.name.isascii() and folder.name.isdigit() and folder.parent.name.isdigit()):
        return []
    if folder.parent.parent.name != "jobs":
        return []
    return [folder.with_name(str(number)) for number in range(1, int(folder.name))]


def telling_files(folder: Path) -> list[Path]:
    """The files below `folder` that may hold metrics, but W&B's own, in the order of their names."""
    return sorted(_walk(folder, _DEPTH, [_MOST_ENTRIES]))


def _walk(folder: Path, depth: int, left: list[int]) -> Iterator[Path]:
    """Look at a bounded number of entries: a job may leave a million files."""
    try:
        entries = os.scandir(folder)
    except (FileNotFoundError, NotADirectoryError):
        return
    inner: list[str] = []
    with entries:
        for entry in entries:
            left[0] -= 1
            if left[0] < 0:
                return
            name = entry.name
            if "tfevents" in name or name in CSV_NAMES or name in JSONL_NAMES:
                yield Path(entry.path)
            elif depth and name not in _ELSEWHERE and not name.startswith(".") and entry.is_dir(follow_symlinks=False):
                inner.append(entry.path)
    for path in sorted(inner):
        yield from _walk(Path(path), depth - 1, left)
