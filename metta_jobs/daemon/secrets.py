"""Secrets in the daemon's memory: each submission's own, and those of the shell that started the daemon."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field


@dataclass
class Secrets:
    """`own` are the daemon's; `submitted` maps the id of a stored environment to what its submitter had."""

    own: Mapping[str, str] = field(default_factory=dict)
    submitted: dict[str, dict[str, str]] = field(default_factory=dict)

    def of(self, environment: str, names: Sequence[str]) -> dict[str, str]:
        """Return those of `names` that are known: as they were submitted, else (after a restart) the daemon's own."""
        known = self.submitted.get(environment, self.own)
        return {name: known[name] for name in names if name in known}
