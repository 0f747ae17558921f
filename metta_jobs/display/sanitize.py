"""Makes text of unknown origin fit for a terminal: logs, reasons and names never move the cursor or change colours."""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache

_ESCAPES = re.compile(
    r"""
      (?: \x1b\[ | \x9b ) [0-?]* [ -/]* [@-~]           # CSI: colours, cursor movements
    | (?: \x1b\] | \x9d ) [^\x07\x1b\x9c]* (?: \x07 | \x1b\\ | \x9c )?   # OSC: titles, links
    | (?: \x1b[PX^_] | [\x90\x98\x9e\x9f] ) [^\x1b\x9c]* (?: \x1b\\ | \x9c )?   # DCS, SOS, PM, APC
    | \x1b [ -/]* [0-~]                                 # two-character sequences
    """,
    re.VERBOSE,
)
_OVERWRITES = re.compile(r"[\r\x08]+")
_BREAKS = re.compile(r"\n|\x0b|\x0c|\x85|\u2028|\u2029")
# Cf reorders or hides text (bidirectional overrides, zero-width characters); variation selectors change a width
# that terminals disagree on.
_HIDDEN_CATEGORIES = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})


def clean_lines(text: str) -> list[str]:
    """Return the lines of a log as a terminal would have left them: non-empty ones, without escapes and control
    characters. A line that was overwritten by carriage returns (a progress bar) counts with its last content."""
    cleaned = (_last_content(line) for line in _BREAKS.split(_ESCAPES.sub("", text)))
    return [line for line in cleaned if line]


def one_line(text: str) -> str:
    """Return a name, a reason or a message as one printable line: any run of blanks and breaks is one blank."""
    return _printable(" ".join(_ESCAPES.sub("", text).split()))


def _last_content(line: str) -> str:
    for part in reversed(_OVERWRITES.split(line)):
        content = _printable(part.expandtabs(4)).rstrip()
        if content.strip():
            return content
    return ""


def _printable(text: str) -> str:
    if text.isascii() and text.isprintable():
        return text
    return "".join(character for character in text if not _hidden(character))


@lru_cache(maxsize=4096)
def _hidden(character: str) -> bool:
    if "\ufe00" <= character <= "\ufe0f":
        return True
    return unicodedata.category(character) in _HIDDEN_CATEGORIES
