"""Snapshots, and configuration files of trainings, that no stored job names any more."""

from __future__ import annotations

import os
import re
import secrets
import time
from pathlib import Path

from metta_jobs.code.snapshot import guard
from metta_jobs.paths import StateDir

#: A snapshot is frozen, or taken up again, before its job is stored: what was touched this lately is left alone.
FRESH_S = 3600.0
_IDENTITY = re.compile(r"[0-9a-f]{40}")
_NAMED = re.compile(r"(?:snapshots|configs)/([0-9a-f]{40})\b")


def named_in(text: str) -> set[str]:
    """The ids of all snapshots and configurations that a stored text (a configuration, say) names by their paths."""
    return set(_NAMED.findall(text))


def orphaned(state_dir: Path, named: set[str]) -> list[Path]:
    """The snapshots and configurations in a state folder that are not among the ids `named`, and half ones that
    somebody left.

    None that was used within the last hour. Raises OSError when they cannot be listed.
    """
    places = StateDir(state_dir)
    return [*_orphaned(places.snapshots, named), *_orphaned(places.configs, named)]


def _orphaned(store: Path, named: set[str]) -> list[Path]:
    try:
        with os.scandir(store) as entries:
            found = [
                Path(entry.path)
                for entry in entries
                if entry.name not in named
                and (_IDENTITY.fullmatch(entry.name) or entry.name.startswith("."))
                and entry.is_dir(follow_symlinks=False)
            ]
    except FileNotFoundError:
        return []
    return sorted(path for path in found if _is_old(path))


def take_away(snapshot: Path) -> Path | None:
    """Rename a snapshot so that no submit finds it any more; return where it is now, to be removed.

    None when it is gone, or somebody has used it meanwhile.
    """
    aside = snapshot.with_name(f".{secrets.token_hex(8)}")
    try:
        with guard(snapshot.parent, exclusive=True):
            if not _is_old(snapshot):
                return None
            snapshot.rename(aside)
    except FileNotFoundError:
        return None
    return aside


def _is_old(path: Path) -> bool:
    try:
        return path.lstat().st_mtime < time.time() - FRESH_S
    except FileNotFoundError:
        return False
