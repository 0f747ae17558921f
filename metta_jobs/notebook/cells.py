"""The cells of a Jupyter notebook: what it says, what tells edits, and what people have written that stays."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from metta_jobs.notebook.content import OWN_SECTIONS, Plan, pieces

if TYPE_CHECKING:
    from nbformat import NotebookNode


def build_notebook(plan: Plan) -> NotebookNode:
    """Return the notebook of `plan`, not executed. It holds names and metrics' keys only.

    Cells keep their ids from writing to writing.
    """
    from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

    notebook = new_notebook(
        cells=[
            new_code_cell(piece.text, id=piece.name) if piece.code else new_markdown_cell(piece.text, id=piece.name)
            for piece in pieces(plan)
        ],
        metadata={
            "kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"},
            "language_info": {"name": "python"},
        },
    )
    notebook.metadata["metta_jobs"] = {"group": plan.group.name, "digest": digest(notebook)}
    return notebook


def digest(notebook: NotebookNode) -> str:
    """Return a checksum of what the cells say, outputs and people's own sections aside: it tells edits."""
    said = [(cell.cell_type, cell.source) for cell, section in _sectioned(notebook) if section is None]
    return hashlib.sha256(json.dumps(said).encode()).hexdigest()


def keep_own_sections(notebook: NotebookNode, old: NotebookNode, plan: Plan) -> None:
    """Take over what people have written into the log and the scratch section of `old`, also where `notebook` was not
    to have that section."""
    for section in OWN_SECTIONS:
        written = [cell for cell, own in _sectioned(old) if own == section]
        fresh = [(piece.name, piece.text) for piece in pieces(replace(plan, sections=(section,)))]
        if not written or [(cell.get("id"), cell.source) for cell in written] == fresh:
            continue
        for cell in written:
            if cell.cell_type == "code":  # an error of theirs does not end the writing
                tags = cell.metadata.get("tags", [])
                cell.metadata["tags"] = [*tags, *({"raises-exception"} - set(tags))]
        at, cells = _place(notebook, section)
        notebook.cells[at : at + cells] = _with_new_ids(written, notebook)


def _place(notebook: NotebookNode, section: str) -> tuple[int, int]:
    """Where a section begins, and how many cells it has."""
    own = [i for i, (_, name) in enumerate(_sectioned(notebook)) if name == section]
    if own:
        return own[0], len(own)
    later = OWN_SECTIONS[OWN_SECTIONS.index(section) + 1 :]
    heads = {"about-export", *(f"about-{name}" for name in later)}
    return next((i for i, cell in enumerate(notebook.cells) if cell.id in heads), len(notebook.cells)), 0


def _with_new_ids(written: Sequence[NotebookNode], notebook: NotebookNode) -> list[NotebookNode]:
    from nbformat.v4 import new_code_cell

    others = {cell.id for cell, section in _sectioned(notebook) if section is None}
    for cell in written:
        if "id" not in cell or cell.id in others:  # as in a notebook of an older format, or a copied cell
            cell["id"] = new_code_cell().id
    return list(written)


def _sectioned(notebook: NotebookNode) -> list[tuple[NotebookNode, str | None]]:
    """Each cell with the section of people's own that it stands in, None elsewhere."""
    found: list[tuple[NotebookNode, str | None]] = []
    here: str | None = None
    for cell in notebook.cells:
        name = cell.get("id", "")
        if name.startswith("about-"):
            here = name.removeprefix("about-") if name.removeprefix("about-") in OWN_SECTIONS else None
        found.append((cell, here))
    return found
