"""What is told of attempts elsewhere: facts as they become known, and what an hour of each kind of machine costs."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from metta_jobs.executors.base import Key
from metta_jobs.executors.sky.attempt import Attempt
from metta_jobs.executors.sky.questions import Questions


class Facts:
    """Facts that nobody has asked for yet, and prices, each asked for once."""

    def __init__(self, questions: Questions) -> None:
        self._questions = questions
        self._changed: set[Key] = set()
        self._prices: dict[str, float | None] = {}

    def note(self, attempt: Attempt, facts: Mapping[str, Any]) -> None:
        """Keep what is new of these."""
        new = {name: value for name, value in facts.items() if attempt.facts.get(name) != value}
        if new:
            attempt.facts |= new
            attempt.new_facts |= new
            self._changed.add(attempt.key)

    def price(self, attempt: Attempt, resources: Mapping[str, Any]) -> None:
        """Have the price of an hour on such machines noted, asked for once for each kind."""
        attempt.priced_as = what = json.dumps(resources, sort_keys=True)
        if what not in self._prices:
            self._prices[what] = None
            self._questions.ask(("price", what), "price", resources=dict(resources))
        elif (price := self._prices[what]) is not None:
            self.note(attempt, {"hourly_usd": price})

    def priced(self, what: str, value: Mapping[str, Any] | None, attempts: Iterable[Attempt]) -> None:
        """A price has come; None where none is known."""
        self._prices[what] = price = (value or {}).get("hourly_usd")
        for attempt in attempts:
            if attempt.priced_as == what and price is not None:
                self.note(attempt, {"hourly_usd": price})

    def new(self, attempts: Mapping[Key, Attempt]) -> dict[Key, dict[str, Any]]:
        """What has changed since this was last asked."""
        changed, self._changed = self._changed, set()
        found: dict[Key, dict[str, Any]] = {}
        for key in changed:
            if (attempt := attempts.get(key)) is not None:
                found[key], attempt.new_facts = attempt.new_facts, {}
        return found
