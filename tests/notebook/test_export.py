"""The page of a notebook lies in another folder than the notebook."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import unquote

import nbformat
from nbformat.v4 import new_markdown_cell, new_notebook

from metta_jobs.notebook import export_html


def test_links_of_a_page_lead_where_those_of_its_notebook_do(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").touch()
    log = tmp_path / "job_state" / "jobs" / "1" / "1" / "a log.txt"
    log.parent.mkdir(parents=True)
    log.touch()
    path = tmp_path / "notebooks" / "my runs" / "g.ipynb"
    path.parent.mkdir(parents=True)
    told = "[log](../../job_state/jobs/1/1/a%20log.txt) [web](https://example.org/x) [up](#top) [root](/etc/hosts)"
    nbformat.write(new_notebook(cells=[new_markdown_cell(told)]), path)

    page = export_html(path)
    body = page.read_text().partition("</head>")[2]
    links = [part.partition('"')[0] for part in body.split('<a href="')[1:]]
    assert page.parent == tmp_path / "notebooks" / "log"
    assert (page.parent / unquote(links[0])).resolve() == log
    assert links[1:] == ["https://example.org/x", "#top", "/etc/hosts"]
