"""Pictures of what the terminal shows, for documents: SVG that needs nothing from anywhere else."""

from __future__ import annotations

import io
import re
from pathlib import Path

from rich.console import Console, RenderableType
from rich.terminal_theme import TerminalTheme

_FONTS = 'ui-monospace, "DejaVu Sans Mono", Menlo, Consolas, monospace'
# Dark, and calm: black, red, green, yellow, blue, magenta, cyan, white; then the same, brighter.
_THEME = TerminalTheme(
    (24, 26, 31),
    (200, 204, 212),
    [
        (40, 44, 52),
        (224, 108, 117),
        (152, 195, 121),
        (229, 192, 123),
        (97, 175, 239),
        (198, 120, 221),
        (86, 182, 194),
        (171, 178, 191),
    ],
)


def save_svg(renderable: RenderableType, path: Path, width: int, height: int, title: str) -> None:
    """Write the picture of a terminal of `width` by `height` cells that shows `renderable` to `path`.

    The file refers to nothing remote, and is the same for the same input.
    """
    console = Console(
        record=True,
        file=io.StringIO(),
        width=width,
        height=height,
        force_terminal=True,
        color_system="truecolor",
        highlight=False,
        # The environment of whoever makes the picture must not change it.
        _environ={},
    )
    console.print(renderable)
    svg = console.export_svg(title=title, theme=_THEME, unique_id="terminal", font_aspect_ratio=0.6)
    path.write_text(_without_references(svg), encoding="utf-8")


def _without_references(svg: str) -> str:
    """Take out what rich's picture would fetch or lead to: web fonts, its own address, links."""
    svg = re.sub(r"@font-face \{.*?\}", "", svg, flags=re.DOTALL)
    svg = re.sub(r"<!--.*?-->", "", svg, flags=re.DOTALL)
    svg = re.sub(r"</?a\b[^>]*>", "", svg)
    return svg.replace("font-family: Fira Code, monospace", f"font-family: {_FONTS}")
