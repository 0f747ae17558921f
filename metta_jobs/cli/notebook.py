"""`metta notebook GROUP`."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer

from metta_jobs.cli.context import complete_group, manager


def notebook(
    group: Annotated[
        str | None, typer.Argument(metavar="GROUP", help="The group to tell of.", autocompletion=complete_group)
    ] = None,
    job_ids: Annotated[
        list[str] | None, typer.Option("--job-ids", metavar="ID…", help="Jobs instead, also of several groups: 3 5 8.")
    ] = None,
    sections: Annotated[
        list[str] | None,
        typer.Option(help="setup, state, launch, monitor, analysis, replays, log, scratch, export; with commas."),
    ] = None,
    format: Annotated[str, typer.Option(metavar="jupyter|marimo", help="Which kind of notebook.")] = "jupyter",
    output: Annotated[Path | None, typer.Option(help="Where to; by default notebooks/GROUP.ipynb.")] = None,
    html: Annotated[bool, typer.Option("--html", help="Also as a page of its own, to notebooks/log/.")] = False,
    open_it: Annotated[bool, typer.Option("--open", help="Open the page, or marimo, afterwards.")] = False,
) -> None:
    """Write a notebook of a group, or of jobs, and run it, now."""
    from metta_jobs.notebook.make import Wish, job_ids_of, make, show

    wish = Wish(
        group=group,
        job_ids=job_ids_of(job_ids or []),
        output=output,
        sections=tuple(sections or ()),
        format=format,
        html=html,
        open_it=open_it,
    )
    with manager() as opened:
        written, page = make(wish, opened)
    typer.echo(f"Written{'' if format == 'marimo' else ' and run'}: {written}")
    if page is not None:
        typer.echo(f"As a page: {page}")
    if format == "marimo" and find_spec("marimo") is None:
        typer.echo("To see it, install metta-jobs[marimo]; then `marimo edit` shows it.", err=True)
    if open_it:
        show(written, page)
