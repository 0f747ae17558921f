"""Notebooks as single HTML files, and opening what was made."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import webbrowser
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from metta_jobs.errors import InvalidInput
from metta_jobs.notebook.extra import require
from metta_jobs.paths import find_project

if TYPE_CHECKING:
    from nbformat import NotebookNode

#: What nbconvert's pages load from the web: formulas, widgets, diagrams. Curves and tables need none of it.
_SCRIPTS = re.compile(
    r'<script src="">\s*</script>|<script type="module">(?:(?!</script>).)*mermaid.*?</script>', re.DOTALL
)
#: Links to files, as they are seen from the notebook's folder.
_RELATIVE = re.compile(r'(<(?:a|img)\b[^>]*?\s(?:href|src)=")(?!#|/|[a-zA-Z][a-zA-Z0-9+.-]*:)([^"]+)')
_REMOTE = ("mathjax_url", "require_js_url", "jquery_url", "jupyter_widgets_base_url", "mermaid_js_url")


def export_html(notebook: Path | str, output: Path | str | None = None) -> Path:
    """Write a notebook, as it was last saved, as one HTML file that needs nothing else; return its absolute path.

    By default notebooks/log/<name>_<date>_<time>.html in the notebook's project. Raises InvalidInput, MissingExtra.

        >>> export_html("notebooks/my_group.ipynb")
    """
    require("nbformat", "nbconvert")
    import nbformat

    path = Path(notebook).expanduser().resolve()
    try:
        found = nbformat.read(path, as_version=4)
    except OSError as error:
        raise InvalidInput(f"The notebook {path} cannot be read ({error.strerror}).") from error
    except ValueError as error:
        raise InvalidInput(f"{path} is no notebook that Jupyter could read.") from error
    page = html_path(path) if output is None else Path(output).expanduser().resolve()
    return export(found, page, path.stem, path.parent)


def html_path(notebook: Path) -> Path:
    """Where the HTML of a notebook goes: notebooks/log/<name>_<date>_<time>.html in its project, in local time."""
    now = datetime.now().astimezone()
    return find_project(notebook.parent) / "notebooks" / "log" / f"{notebook.stem}_{now:%Y%m%d_%H%M%S}.html"


def export(notebook: NotebookNode, path: Path, title: str, folder: Path) -> Path:
    """Write `notebook`, which lies in `folder`, as one HTML file. Raises InvalidInput where that cannot be."""
    require("nbconvert")
    from nbconvert import HTMLExporter

    exporter = HTMLExporter(template_name="lab")  # type: ignore[no-untyped-call]
    for name in _REMOTE:
        if exporter.has_trait(name):
            setattr(exporter, name, "")
    text, _ = exporter.from_notebook_node(notebook, resources={"metadata": {"name": title}})
    text = _SCRIPTS.sub("", text)
    way = quote(Path(os.path.relpath(folder, path.parent)).as_posix())
    text = _RELATIVE.sub(lambda link: f"{link[1]}{way}/{link[2]}", text)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        aside = path.with_name(f".{path.name}.{os.getpid()}")
        try:
            aside.write_text(text, encoding="utf-8")
            aside.replace(path)
        finally:
            aside.unlink(missing_ok=True)
    except OSError as error:
        raise InvalidInput(f"{path} cannot be written ({error.strerror}).") from error
    return path


def open_page(path: Path) -> bool:
    """Open an HTML file in the browser; False where there is no display to show it on."""
    return _has_display() and webbrowser.open(path.as_uri())


def open_marimo(path: Path) -> int:
    """Let marimo edit a file, in the browser, until Ctrl-C; return its exit code. Raises MissingExtra."""
    require("marimo", extra="marimo")
    headless = [] if _has_display() else ["--headless"]
    return subprocess.run([sys.executable, "-m", "marimo", "edit", str(path), *headless], check=False).returncode


def _has_display() -> bool:
    return sys.platform == "darwin" or any(os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY"))
