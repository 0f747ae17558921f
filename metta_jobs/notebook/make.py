"""What `metta notebook` and `python -m metta_jobs.notebook` do."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from metta_jobs.errors import InvalidInput, UnknownName, nearest
from metta_jobs.experiment.sections import choose_sections
from metta_jobs.manager.look import Reader
from metta_jobs.notebook.export import html_path, open_marimo, open_page
from metta_jobs.notebook.results import jobs_name, view_of
from metta_jobs.notebook.write import SUFFIXES, Format, default_path, write_marimo, write_notebook


@dataclass(frozen=True)
class Wish:
    """A notebook of a group, or of jobs. `execute` is for Jupyter: a marimo notebook runs when it is opened."""

    group: str | None = None
    job_ids: tuple[int, ...] = ()
    output: Path | None = None
    sections: tuple[str, ...] = ()
    format: str = "jupyter"
    execute: bool = True
    html: bool = False
    open_it: bool = False


def make(wish: Wish, reader: Reader) -> tuple[Path, Path | None]:
    """Write the notebook, and its HTML where it is wished for; return their paths.

    Of jobs, it is called after their ids: notebooks/jobs_3_5_8.ipynb. Raises InvalidInput, UnknownName, MissingExtra,
    and RunFailed when a cell failed.
    """
    if (wish.group is None) == (not wish.job_ids):
        raise InvalidInput("Say what the notebook is to tell of: either a GROUP, or --job-ids 3 5 8.")
    if wish.format not in SUFFIXES:
        formats = " and ".join(SUFFIXES)
        raise UnknownName(f"There is no format {wish.format!r}.{nearest(wish.format, SUFFIXES)} There are: {formats}.")
    format: Format = wish.format
    sections = choose_sections(wish.sections)
    ids = tuple(dict.fromkeys(wish.job_ids))
    if wish.group is not None:
        view = reader.group(wish.group)
    else:
        view = view_of(reader.jobs(ids))
        view = type(view)(jobs_name(ids), view.created_at, view.jobs)
    path = wish.output or default_path(view.name, reader.project_dir, format)
    # A browser shows no .ipynb but its text: what is opened is the page.
    paged = wish.html or "export" in sections or (wish.open_it and format == "jupyter")
    page = html_path(path.expanduser().resolve()) if paged else None
    if format == "marimo":
        return write_marimo(view, path, reader.state_dir, sections=sections, job_ids=ids, html=page), page
    written = write_notebook(view, path, reader.state_dir, wish.execute, sections=sections, job_ids=ids, html=page)
    return written, page


def show(written: Path, page: Path | None) -> None:
    """Open what was made, or say where it is where there is no display."""
    if page is None:
        open_marimo(written)
    elif not open_page(page):
        sys.stderr.write(f"There is no display here: open {page}\n")


def job_ids_of(texts: Sequence[str]) -> tuple[int, ...]:
    """Ids as they were typed, apart or with commas. Raises InvalidInput."""
    parts = [part.strip() for text in texts for part in text.split(",") if part.strip()]
    if wrong := [part for part in parts if not (part.isascii() and part.isdigit())]:
        raise InvalidInput(f"{wrong[0]!r} is no job's id: --job-ids takes numbers, as `metta job list GROUP` shows.")
    return tuple(dict.fromkeys(int(part) for part in parts))
