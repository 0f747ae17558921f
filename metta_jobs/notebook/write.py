"""Writes a notebook, in either format, and executes it."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from metta_jobs.errors import InvalidInput, RunFailed
from metta_jobs.experiment.sections import choose_sections
from metta_jobs.notebook.cells import build_notebook, digest, keep_own_sections
from metta_jobs.notebook.content import Plan
from metta_jobs.notebook.execute import execute as execute_cells
from metta_jobs.notebook.export import export
from metta_jobs.notebook.extra import require
from metta_jobs.notebook.marimo_file import build_marimo, is_untouched
from metta_jobs.notebook.scrub import scrub
from metta_jobs.paths import find_project
from metta_jobs.views import GroupView

if TYPE_CHECKING:
    from nbformat import NotebookNode

Format = Literal["jupyter", "marimo"]
SUFFIXES: dict[Format, str] = {"jupyter": ".ipynb", "marimo": ".py"}
_log = logging.getLogger(__name__)
_CELL_TIMEOUT_S = 600.0


def default_path(group: str, project_dir: Path, format: Format = "jupyter") -> Path:
    """Where a notebook goes when nobody says otherwise: notebooks/<group>.ipynb in the project, or .py for marimo."""
    return project_dir / "notebooks" / f"{group}{SUFFIXES[format]}"


def write_notebook(
    group: GroupView,
    path: Path,
    state_dir: Path,
    execute: bool = True,
    cell_timeout_s: float = _CELL_TIMEOUT_S,
    *,
    sections: Sequence[str] = (),
    job_ids: Sequence[int] = (),
    html: Path | None = None,
) -> Path:
    """Write the Jupyter notebook of `group`, executed with the data of now, and return its absolute path.

    `sections` are those that it is to have (default: experiment.sections.DEFAULT_SECTIONS). `html` names a page that
    is written too, as by `export_html`. `job_ids` make it one of these jobs, which `group` then holds. The sections log
    and scratch stay as people have left them; a notebook in which they have edited anything else is kept under another
    name beside it. The notebook is written although a cell fails; then RunFailed names the cell. Raises InvalidInput
    when it cannot be written there, UnknownName and MissingExtra.
    """
    plan = _plan(group, path, state_dir, "jupyter", sections, job_ids)
    require("nbformat", "nbclient", "ipykernel", "matplotlib", "pandas", *(["nbconvert"] if html else []))
    notebook = build_notebook(plan)
    failure: str | None = None
    try:
        plan.path.parent.mkdir(parents=True, exist_ok=True)
        old = _read(plan.path)
        if old is not None:
            keep_own_sections(notebook, old, plan)
        _keep_edited(plan.path, old is not None and _is_ours(old))
        if not plan.path.exists():
            _write(plan.path, _text(notebook))
        if execute:
            failure = _executed(notebook, plan, cell_timeout_s)
        _write(plan.path, _text(notebook))
    except OSError as error:
        raise _refused(plan.path, error) from error
    if html is not None:
        export(notebook, html, group.name, plan.path.parent)
    if failure:
        raise RunFailed(f"The notebook {plan.path} was written, but {failure}")
    return plan.path


def write_marimo(
    group: GroupView,
    path: Path,
    state_dir: Path,
    *,
    sections: Sequence[str] = (),
    job_ids: Sequence[int] = (),
    html: Path | None = None,
) -> Path:
    """Write the marimo notebook of `group` and return its absolute path. It runs when it is opened.

    A file that somebody has edited is kept under another name. Otherwise as `write_notebook`.
    """
    plan = _plan(group, path, state_dir, "marimo", sections, job_ids)
    try:
        plan.path.parent.mkdir(parents=True, exist_ok=True)
        _keep_edited(plan.path, plan.path.exists() and is_untouched(plan.path.read_text("utf-8", errors="replace")))
        _write(plan.path, build_marimo(plan))
    except OSError as error:
        raise _refused(plan.path, error) from error
    if html is not None:
        require("nbformat", "nbclient", "ipykernel", "matplotlib", "pandas", "nbconvert")
        notebook = build_notebook(plan)
        failure = _executed(notebook, plan, _CELL_TIMEOUT_S)
        export(notebook, html, group.name, plan.path.parent)
        if failure:
            raise RunFailed(f"The page {html} was written, but {failure}")
    return plan.path


def _plan(
    group: GroupView,
    path: Path,
    state_dir: Path,
    format: Format,
    sections: Sequence[str],
    job_ids: Sequence[int],
) -> Plan:
    path = path.expanduser().resolve()
    if path.suffix != SUFFIXES[format]:
        raise InvalidInput(f"{path} cannot be a {format} notebook: its name must end with {SUFFIXES[format]}.")
    return Plan(group, path, state_dir.expanduser().resolve(), choose_sections(sections), tuple(job_ids))


def _executed(notebook: NotebookNode, plan: Plan, cell_timeout_s: float) -> str | None:
    try:
        return execute_cells(notebook, plan.path.parent, plan.state_dir, cell_timeout_s)
    finally:
        scrub(notebook, find_project(plan.path.parent), plan.state_dir)


def _text(notebook: NotebookNode) -> str:
    import nbformat

    text: str = nbformat.writes(notebook)
    return text


def _refused(path: Path, error: OSError) -> InvalidInput:
    return InvalidInput(f"The notebook {path} cannot be written ({error.strerror}). Name another place with --output.")


def _write(path: Path, text: str) -> None:
    """Write aside and rename: readers see the old notebook or the new one, never half of one."""
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        aside.write_text(text, encoding="utf-8")
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)


def _keep_edited(path: Path, ours: bool) -> None:
    """Move what is at `path` aside, unless it is as it was written."""
    if not path.exists() or ours:
        return
    number = 1
    while (kept := path.with_name(f"{path.stem}.edited-{number}{path.suffix}")).exists():
        number += 1
    path.rename(kept)
    _log.warning("%s was edited by hand; it is kept as %s.", path.name, kept.name)


def _read(path: Path) -> NotebookNode | None:
    """The notebook at `path`, None where there is none, or something else."""
    import nbformat

    try:
        return nbformat.read(path, as_version=4)
    except (FileNotFoundError, ValueError, AttributeError, KeyError):
        return None


def _is_ours(notebook: NotebookNode) -> bool:
    said = notebook.metadata.get("metta_jobs", {})
    return bool(said and said.get("digest") == digest(notebook))
