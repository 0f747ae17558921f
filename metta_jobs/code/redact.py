"""Text that is stored must hold no secret: addresses without credentials, diffs without lines that show one."""

from __future__ import annotations

import re
from collections.abc import Collection

from metta_jobs.environment import is_secret

LEFT_OUT = "(a line that may show a secret is left out)"
_USERINFO = re.compile(r"^([A-Za-z][A-Za-z0-9+.-]*)://(?:([^/?#]*)@)?(.*)$", re.DOTALL)
#: A name that is given a value as it stands, quoted or bare: NAME=value, "name": "value", --name value. What is
#: computed (`key = split(key)`) shows nothing, and neither does a short number (`max_tokens = 512`).
_GIVEN = re.compile(
    r"""([A-Za-z_][A-Za-z0-9_-]*)["']?\s*[:=]\s*(?:[rbfuRBFU]{0,2}["'][^"']+|(?!\d{1,7}\b)[^\s"'()\[\]{},.]+\s*(?:["']|$))"""
)


def without_credentials(url: str) -> str:
    """Return the address of a repository without password, and over http without user and query, too."""
    found = _USERINFO.match(url)
    if found is None:
        return url  # a path, or user@host:path, which has no room for a password
    scheme, userinfo, rest = found.groups()
    if scheme.lower() in ("http", "https"):
        return f"{scheme}://{re.split('[?#]', rest, maxsplit=1)[0]}"
    user = (userinfo or "").partition(":")[0]
    return f"{scheme}://{user}@{rest}" if user else f"{scheme}://{rest}"


def without_secrets(diff: str, known: Collection[str] = ()) -> str:
    """Return a diff in which lines that may show a secret, or any of the `known` ones, say so instead."""
    lines, in_key = [], False
    for line in diff.split("\n"):
        body = line[1:] if line[:1] in ("+", "-", " ") else line
        in_key = in_key or bool(re.search("-----BEGIN [A-Z ]*PRIVATE KEY", body))
        if in_key or _shows(body, known):
            in_key = in_key and "-----END" not in body and not line.startswith(("@@", "diff --git "))
            line = f"{line[:1] if line[:1] in ('+', '-', ' ') else ''}{LEFT_OUT}"
        lines.append(line)
    return "\n".join(lines)


def _shows(body: str, known: Collection[str]) -> bool:
    if is_secret("", body) or any(secret in body for secret in known):
        return True
    return any(is_secret(given[1].replace("-", "_"), "") for given in _GIVEN.finditer(body))
