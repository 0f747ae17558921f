"""Things that a job leaves to be opened: what they are called, and where a click leads."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import quote

from metta_jobs.metrics.artifacts import Artifact

KINDS = {"notebook": "notebook", "wandb": "W&B", "checkpoint": "checkpoint", "replay": "replay", "log": "log"}


def shown_target(artifact: Artifact) -> str:
    """Return the target as people type it: a path below the current folder without the way to it."""
    if artifact.is_url or not Path(artifact.target).is_relative_to(Path.cwd()):
        return artifact.target
    return str(Path(artifact.target).relative_to(Path.cwd()))


def link_of(artifact: Artifact) -> str:
    """Return where a click on the artifact leads."""
    if artifact.is_url:
        return quote(artifact.target, safe="/:?#[]@!$&'()*+,;=%~-._")
    return Path(artifact.target).absolute().as_uri()
