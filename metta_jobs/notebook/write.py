"""Writes a group's notebook and executes it."""

from __future__ import annotations

import logging
import os
from pathlib import Path

from metta_jobs.errors import InvalidInput, RunFailed
from metta_jobs.notebook.cells import build_notebook, digest
from metta_jobs.notebook.execute import execute as execute_cells
from metta_jobs.notebook.extra import require
from metta_jobs.notebook.scrub import scrub
from metta_jobs.paths import find_project
from metta_jobs.views import GroupView

_log = logging.getLogger(__name__)
_CELL_TIMEOUT_S = 600.0


def default_path(group: str, project_dir: Path) -> Path:
    """Where the notebook of a group goes when nobody says otherwise: notebooks/<group>.ipynb in the project."""
    return project_dir / "notebooks" / f"{group}.ipynb"


def write_notebook(
    group: GroupView, path: Path, state_dir: Path, execute: bool = True, cell_timeout_s: float = _CELL_TIMEOUT_S
) -> Path:
    """Write the notebook of `group` to `path`, executed with the data of now, and return its absolute path.

    A notebook that somebody has edited is kept under another name beside it. The notebook is written although a cell
    fails; then RunFailed names the cell. Raises InvalidInput when it cannot be written there, and MissingExtra.
    """
    require("nbformat", "nbclient", "ipykernel", "matplotlib", "pandas")
    path = path.expanduser().resolve()
    state_dir = state_dir.expanduser().resolve()
    if path.suffix != ".ipynb":
        raise InvalidInput(f"{path} cannot be a notebook: its name must end with .ipynb.")
    notebook = build_notebook(group, path, state_dir)
    failure: str | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _keep_edited(path)
        if not path.exists():
            _write(notebook, path)
        if execute:
            try:
                failure = execute_cells(notebook, path.parent, state_dir, cell_timeout_s)
            finally:
                scrub(notebook, find_project(path.parent), state_dir)
        _write(notebook, path)
    except OSError as error:
        raise InvalidInput(
            f"The notebook {path} cannot be written ({error.strerror}). Name another place with --output."
        ) from error
    if failure:
        raise RunFailed(f"The notebook {path} was written, but {failure}")
    return path


def _write(notebook: object, path: Path) -> None:
    """Write aside and rename: readers see the old notebook or the new one, never half of one."""
    import nbformat

    aside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        aside.write_text(nbformat.writes(notebook), encoding="utf-8")
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)


def _keep_edited(path: Path) -> None:
    """Move the notebook at `path` aside if its cells are not as they were written."""
    if not path.exists() or _is_ours(path):
        return
    number = 1
    while (kept := path.with_name(f"{path.stem}.edited-{number}.ipynb")).exists():
        number += 1
    path.rename(kept)
    _log.warning("%s was edited by hand; it is kept as %s.", path.name, kept.name)


def _is_ours(path: Path) -> bool:
    import nbformat

    try:
        notebook = nbformat.read(path, as_version=4)
        return bool(notebook.metadata.get("metta_jobs", {}).get("digest") == digest(notebook))
    except (ValueError, AttributeError, KeyError):  # no notebook at all
        return False
