"""The folder of a run: where it lies, and files that appear in it whole or not at all."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

JOB_DIR_VARIABLE = "METTA_JOB_DIR"
#: Set by the queue when a health rule has ended an attempt so that the next one goes on where all was well.
CHECKPOINT_VARIABLE = "METTA_CHECKPOINT"


def run_name(recipe: str) -> str:
    """The run's name: the queue's or the user's WANDB_NAME, else the recipe's."""
    return os.environ.get("WANDB_NAME") or recipe


class RunFolder:
    """checkpoints/, replays/ and links.json of one run; `root` is $METTA_JOB_DIR, else runs/<name>-<time> here."""

    def __init__(self, root: Path) -> None:
        self.root = root
        root.mkdir(parents=True, exist_ok=True)

    @classmethod
    def of_this_process(cls, recipe: str) -> RunFolder:
        """The folder that the queue named, else a new one below the working directory."""
        if named := os.environ.get(JOB_DIR_VARIABLE):
            return cls(Path(named))
        name = re.sub(r"[^A-Za-z0-9._-]+", "-", run_name(recipe)).strip(".-") or "run"
        stem = Path.cwd() / "runs" / f"{name}-{datetime.now(UTC):%Y%m%d-%H%M%S}"
        return cls(stem if not stem.exists() else stem.with_name(f"{stem.name}-{os.getpid()}"))

    def checkpoints(self) -> list[Path]:
        """The complete checkpoints, oldest first."""
        found = (self.root / "checkpoints").glob("[!.]*.zip")
        return sorted(found, key=lambda path: path.stat().st_mtime_ns)

    def add(self, relative: str, write: Callable[[Path], object]) -> Path:
        """Let `write` fill a file beside the wanted one, then rename it into place; returns its path."""
        target = self.root / relative
        target.parent.mkdir(parents=True, exist_ok=True)
        # The suffix stays: writers choose formats by it. Names that begin with a dot are nobody's artefact.
        part = target.with_name(f".part-{os.getpid()}-{target.name}")
        try:
            write(part)
            part.replace(target)
        finally:
            part.unlink(missing_ok=True)
        return target

    def write_links(self, links: dict[str, Any]) -> None:
        """Write links.json: what a person can open, by kind."""
        self.add("links.json", lambda part: part.write_text(json.dumps(links), encoding="utf-8"))
