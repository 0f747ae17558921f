"""Outputs of cells without places of this machine and without secrets: a notebook is made to be handed on."""

from __future__ import annotations

import os
import re
import sys
import sysconfig
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from metta_jobs.environment import is_secret

if TYPE_CHECKING:
    from nbformat import NotebookNode

_SHORTEST_SECRET = 8


def scrub(notebook: NotebookNode, project: Path, state_dir: Path, environ: Mapping[str, str] | None = None) -> None:
    """Rewrite the outputs of `notebook` in place: known folders become words, the environment's secrets stars."""
    replacements = _secrets(os.environ if environ is None else environ) + _places(project, state_dir)
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            for key in ("text", "evalue", "traceback", "data"):
                if key in output:
                    output[key] = _rewritten(output[key], replacements)


def _secrets(environ: Mapping[str, str]) -> list[tuple[re.Pattern[str], str]]:
    values = {value for name, value in environ.items() if len(value) >= _SHORTEST_SECRET and is_secret(name, value)}
    return [(re.compile(re.escape(value)), "***") for value in sorted(values, key=len, reverse=True)]


def _places(project: Path, state_dir: Path) -> list[tuple[re.Pattern[str], str]]:
    """The deepest folders first, so that none is cut in two; a name that only begins alike is another."""
    words = {
        str(Path.home()): "~",
        tempfile.gettempdir(): "<temporary>",
        sysconfig.get_path("stdlib"): "<python>",
        sys.base_prefix: "<python>",
        sys.prefix: "<environment>",
        str(state_dir): "<state>",
        str(project): "<project>",
    }
    deepest_first = sorted((place for place in words if place.strip("/")), key=len, reverse=True)
    return [(re.compile(rf"(?<![\w.-]){re.escape(place)}(?![\w.-])"), words[place]) for place in deepest_first]


def _rewritten(value: Any, replacements: list[tuple[re.Pattern[str], str]]) -> Any:
    if isinstance(value, list):
        return [_rewritten(item, replacements) for item in value]
    if isinstance(value, dict):
        return {
            kind: item if kind.startswith("image/") else _rewritten(item, replacements) for kind, item in value.items()
        }
    if isinstance(value, str):
        for pattern, word in replacements:
            value = pattern.sub(word, value)
    return value
