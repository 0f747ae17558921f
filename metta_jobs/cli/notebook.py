"""`metta notebook GROUP`."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Annotated

import typer

from metta_jobs.cli.context import complete_group, manager


def notebook(
    group: Annotated[str, typer.Argument(metavar="GROUP", help="The group to tell of.", autocompletion=complete_group)],
    output: Annotated[Path | None, typer.Option(help="Where to; by default notebooks/GROUP.ipynb.")] = None,
    open_it: Annotated[bool, typer.Option("--open", help="Open it afterwards.")] = False,
) -> None:
    """Write a group's notebook and run it, now."""
    from metta_jobs.notebook import write_notebook

    with manager() as opened:
        view = opened.group(group)
        path = output or opened.project_dir / "notebooks" / f"{group}.ipynb"
        written = write_notebook(view, path, opened.state_dir)
    typer.echo(f"Written and run: {written}")
    if open_it:
        opener = "open" if sys.platform == "darwin" else "xdg-open"
        try:
            subprocess.Popen([opener, str(written)], start_new_session=True)
        except FileNotFoundError:
            typer.echo(f"There is no {opener} here; open it with Jupyter or your editor.", err=True)
            raise typer.Exit(1) from None
