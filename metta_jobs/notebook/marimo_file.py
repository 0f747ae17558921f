"""A notebook as marimo has it: a plain Python file, whose cells run anew by themselves while runs go on."""

from __future__ import annotations

import ast
import builtins
import hashlib
from dataclasses import dataclass, replace

from metta_jobs.notebook.content import Piece, Plan, pieces, setup_parts

EVERY_S = 30
_MARK = "# metta-jobs: "
_PLOTS = "from matplotlib import pyplot as plt"
#: Whether all runs have ended is known when they are loaded, and decides whether they are loaded again.
_STATE = "ended, set_ended = mo.state(False)"
_REFRESH = f"""\
refresh = mo.ui.refresh(options=["10s", "{EVERY_S}s", "5m"], default_interval=None if ended() else "{EVERY_S}s")
refresh"""
_SCRATCH = "# Yours. A file that you have changed is kept, under another name, when it is written again."
_LOADED = """\
if results.group.finished and not ended():
    set_ended(True)  # nothing changes any more
results"""


def build_marimo(plan: Plan) -> str:
    """Return the text of the file for `plan`. Its second line holds a checksum of what follows, which tells edits."""
    cells = [Piece("setup", "", "import marimo as mo", code=True), *_cells(plan)]
    parsed = [_Cell.of(piece) for piece in cells]
    made = {name for cell in parsed for name in cell.makes}
    body = "\n\n".join(cell.text(made) for cell in parsed)
    app = f'app = marimo.App(width="medium", app_title="{plan.group.name}")'
    end = 'if __name__ == "__main__":\n    app.run()\n'
    text = f"import marimo\n\n{app}\n\n\n{body}\n\n{end}"
    return f"# Experiment {plan.group.name}: `marimo edit` or `marimo run` shows it.\n{_MARK}{_checksum(text)}\n{text}"


def is_untouched(text: str) -> bool:
    """True when a file is as `build_marimo` wrote it."""
    _, _, rest = text.partition("\n")
    mark, _, body = rest.partition("\n")
    return mark == f"{_MARK}{_checksum(body)}"


def _checksum(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _cells(plan: Plan) -> list[Piece]:
    found = []
    for piece in pieces(plan):
        if piece.section == "export":
            continue  # marimo exports by itself: `marimo export html`
        if piece.name == "title":
            live = piece.text.rpartition("\n\n")[0]
            words = f"{live}\n\nIt looks for news every {EVERY_S} s while runs go on."
            found.append(Piece(piece.section, piece.name, words))
        elif piece.name == "setup":
            imports, parameters, opening = setup_parts(plan)
            load = ["refresh  # runs this cell again, and with it all that use the results", *opening, _LOADED]
            load.insert(1, 'plt.close("all")  # the plots of the round before')
            texts = [[*imports, _PLOTS], parameters, [_STATE], [_REFRESH], load]
            found += [Piece("setup", "", "\n".join(lines), code=True) for lines in texts]
        elif piece.name == "scratch":
            found.append(replace(piece, text=_SCRATCH))
        else:
            found.append(piece)
    return found


@dataclass(frozen=True)
class _Cell:
    """A cell with the names that it makes for others, and those that it uses."""

    piece: Piece
    body: str
    makes: tuple[str, ...]
    uses: frozenset[str]

    @classmethod
    def of(cls, piece: Piece) -> _Cell:
        body = piece.text.removesuffix(";") if piece.code else f"mo.md({_quoted(piece.text)})"
        makes, uses = _names(body)
        return cls(piece, body, makes, uses)

    def text(self, made: set[str]) -> str:
        """The function that marimo reads: parameters are what it needs of others, its return what they may use."""
        decorator = "@app.cell" if self.piece.code else "@app.cell(hide_code=True)"
        wanted = ", ".join(sorted((self.uses & made) - set(self.makes)))
        inner = "\n".join(f"    {line}" if line else "" for line in self.body.splitlines())
        given = f" ({', '.join(self.makes)},)" if self.makes else ""
        return f"{decorator}\ndef _({wanted}):\n{inner}\n    return{given}\n"


def _quoted(text: str) -> str:
    """A literal for a text, over several lines where it has them, as marimo itself writes it."""
    safe = text.replace("\\", "\\\\").replace('"""', '\\"\\"\\"')
    return f'"""\n{safe}\n"""'


def _names(body: str) -> tuple[tuple[str, ...], frozenset[str]]:
    makes: dict[str, None] = {}
    uses: set[str] = set()
    for node in ast.walk(ast.parse(body)):
        if isinstance(node, ast.Name):
            if isinstance(node.ctx, ast.Store):
                makes[node.id] = None
            else:
                uses.add(node.id)
        elif isinstance(node, ast.Import | ast.ImportFrom):
            makes |= dict.fromkeys((alias.asname or alias.name).partition(".")[0] for alias in node.names)
    return tuple(makes), frozenset(uses - set(dir(builtins)))
