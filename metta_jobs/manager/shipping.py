"""The code that remote jobs take along, fixed at submit: what is edited afterwards changes nothing of them."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

from metta_jobs.code.git import GitState, look
from metta_jobs.code.snapshot import freeze
from metta_jobs.errors import InvalidInput
from metta_jobs.job import JobConfig


def ship(configs: Sequence[JobConfig], project: Path, snapshots: Path) -> list[JobConfig]:
    """Return the jobs, the remote ones with what they ship: a frozen working tree, or a repository's URL and commit.

    The commit and what differs from it are kept beside a snapshot, where there is a repository. Raises InvalidInput.
    """
    wanted = {config.remote.workdir for config in configs if config.remote is not None}
    found: dict[str, dict[str, str]] = {}
    if "snapshot" in wanted:
        snapshots.mkdir(mode=0o700, parents=True, exist_ok=True)
        frozen = freeze(project, snapshots)
        found["snapshot"] = {"path": str(frozen.path), **_described(project, frozen.path)}
    if "git" in wanted:
        state = look(project)
        found["git"] = {**state.workdir, "prefix": state.prefix}
    return [_with(config, found) for config in configs] if found else list(configs)


def _with(config: JobConfig, found: dict[str, dict[str, str]]) -> JobConfig:
    remote = config.remote
    if remote is None or not isinstance(remote.workdir, str):
        return config
    return config.model_copy(update={"remote": remote.model_copy(update={"shipped": found[remote.workdir]})})


def _described(project: Path, snapshot: Path) -> dict[str, str]:
    """The commit that a snapshot goes back to; what differs from that is put beside it."""
    try:
        state: GitState = look(project)
    except InvalidInput:
        return {}  # no repository, or no commit yet: the snapshot itself is all there is
    said = {"commit": state.commit, "branch": state.branch or ""}
    if not state.clean:
        name = f"{snapshot.name}.{hashlib.sha256(state.diff.encode()).hexdigest()[:8]}.diff"
        snapshot.with_name(name).write_text(state.diff)
        said["diff"] = name
    return said
