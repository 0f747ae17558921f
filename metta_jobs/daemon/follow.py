"""Following the metrics of running jobs: what was read is stored, and held against the rules of their groups.

Nothing is written while nothing changes. What was read last before an end, and once more after it, stays.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from pydantic import TypeAdapter, ValidationError

from metta_jobs.criteria import HealthRule, Vitals
from metta_jobs.daemon.house import House
from metta_jobs.daemon.readings import Keys, Reading
from metta_jobs.executors.base import Key
from metta_jobs.store import health, progress
from metta_jobs.store.health import Finding
from metta_jobs.store.queue import LiveAttempt
from metta_jobs.views import Progress

log = logging.getLogger("metta_jobs.daemon")

#: What changed is stored so often (seconds).
SAVE_S = 3.0
_RULES = TypeAdapter(tuple[HealthRule, ...])


@dataclass
class _Run:
    """One attempt that is followed. Times are of the daemon's monotonic clock."""

    attempt: LiveAttempt
    moved_at: float  # when it was last seen at a new step
    progress: Progress = field(default_factory=Progress)
    holding: dict[HealthRule, float] = field(default_factory=dict)  # since when what is wrong by a rule holds
    well_at: dict[HealthRule, datetime] = field(default_factory=dict)
    acted: set[HealthRule] = field(default_factory=set)
    error: str | None = None


class Follower:
    """Tells the thread whom to follow, stores what it finds, applies the rules. Belongs to the daemon's thread."""

    def __init__(self) -> None:
        self._runs: dict[Key, _Run] = {}
        self._unsaved: dict[Key, tuple[Progress, bool]] = {}
        self._rules: dict[int, tuple[HealthRule, ...]] = {}
        self._parsed: dict[str, tuple[HealthRule, ...]] = {}
        self._seen: tuple[int, int] | None = None
        self._saved_at = float("-inf")
        self._changed = True  # whom to follow
        self._speeds: dict[int, list[float]] = {}  # by group, as they are in this round
        self._begun = False

    def tend(self, house: House) -> bool:
        """Do what is due; True when a job is to be ended, so that the next round should follow at once."""
        self._notice(house)
        self._look_at_rules(house)
        now = house.clock.monotonic()
        if self._changed:
            self._changed = False
            here = {key: self._keys(run.attempt) for key, run in self._runs.items() if run.attempt.executor == "local"}
            house.readings.follow(here, house.known)
        self._speeds.clear()
        findings = [finding for reading in house.readings.take() for finding in self._take(house, reading)]
        if self._unsaved and (findings or now - self._saved_at >= SAVE_S or not self._runs):
            self._saved_at = now
            self._save(house)
        return self._act(house, findings)

    @property
    def busy(self) -> bool:
        """True while something is to be stored."""
        return bool(self._unsaved)

    def close(self, house: House) -> None:
        """Store what was read last."""
        for reading in house.readings.take():
            self._note(house, reading)
        if self._unsaved:
            self._save(house)

    # ------------------------------------------------------------------------------------------------ whom

    def _notice(self, house: House) -> None:
        """Who has come, and who has ended."""
        if not self._begun:
            self._begun = True
            with house.store.read() as connection:
                for key, metrics in progress.unread_ends(connection):
                    house.readings.finish(key, tuple(sorted(metrics)), urgent=False)
        for key, attempt in house.known.items():
            if key not in self._runs and attempt.kind == "run":
                self._runs[key], self._changed = _Run(attempt, house.clock.monotonic()), True
        for key in [key for key in self._runs if key not in house.known]:
            self._changed = True
            run = self._runs.pop(key)
            if (last := house.readings.final(key)) is not None and last.error is None:
                self._note(house, last)
            else:
                house.readings.finish(key, self._keys(run.attempt), urgent=False)

    def _look_at_rules(self, house: House) -> None:
        if not self._runs or (version := house.store.version()) == self._seen:
            return
        self._seen = version
        with house.store.read() as connection:
            stored = health.rules(connection)
        rules = {group: self._parse(text) for group, text in stored.items()}
        if rules != self._rules:
            self._rules, self._changed = rules, True

    def _parse(self, text: str) -> tuple[HealthRule, ...]:
        if text not in self._parsed:
            try:
                self._parsed[text] = _RULES.validate_json(text)
            except ValidationError as error:
                log.error("health rules of another version are left out: %s", error)
                self._parsed[text] = ()
        return self._parsed[text]

    def _keys(self, attempt: LiveAttempt) -> Keys:
        asked = {rule.metric for rule in self._rules.get(attempt.group_id, ()) if rule.metric}
        return keys_of(attempt, asked)

    # ------------------------------------------------------------------------------------------------ what

    def _take(self, house: House, reading: Reading) -> Iterable[Finding]:
        moved = self._note(house, reading)
        run = self._runs.get(reading.key)
        if run is None or reading.final or reading.error is not None:
            return []
        if moved:
            run.moved_at = house.clock.monotonic()
        return self._examine(house, reading.key, run)

    def _note(self, house: House, reading: Reading) -> bool:
        """Remember what is new; True when the run has made steps."""
        run = self._runs.get(reading.key)
        if reading.error is not None:
            if run is None or run.error != reading.error:
                log.warning("job %d.%d: %s", *reading.key, reading.error)
            if run is not None:
                run.error = reading.error
            return False
        before = run.progress if run is not None else Progress()
        if run is not None:
            run.progress = reading.progress
        if _differ(reading.progress, before if not reading.final else Progress()):
            self._unsaved[reading.key] = reading.progress, reading.final
        return reading.progress.steps != before.steps

    def _examine(self, house: House, key: Key, run: _Run) -> Iterable[Finding]:
        rules = self._rules.get(run.attempt.group_id, ())
        if not rules:
            return
        now = house.clock.monotonic()
        seen = run.progress
        speeds = self._speeds_of(run.attempt.group_id) if any(rule.when == "slow" for rule in rules) else ()
        vitals = Vitals(seen.steps, seen.sps, seen.by_name(), now - run.moved_at, speeds)
        for rule in rules:
            if (said := rule.problem(vitals)) is None:
                run.holding.pop(rule, None)
                run.well_at[rule] = house.clock.now()
            elif now - run.holding.setdefault(rule, now) >= rule.hold_s and rule not in run.acted:
                run.acted.add(rule)
                yield Finding(key, rule, said, run.well_at.get(rule))

    def _speeds_of(self, group_id: int) -> Sequence[float]:
        if group_id not in self._speeds:
            same = (run.progress.sps for run in self._runs.values() if run.attempt.group_id == group_id)
            self._speeds[group_id] = [sps for sps in same if sps is not None]
        return self._speeds[group_id]

    # ------------------------------------------------------------------------------------------------ writing

    def _save(self, house: House) -> None:
        before = house.store.version()
        with house.store.write() as connection:
            progress.save(connection, self._unsaved)
        self._unsaved = {}
        after = house.store.version()
        if house.planned == before and after[0] == before[0]:
            house.planned = after  # nothing that a plan is made from has changed

    def _act(self, house: House, findings: Sequence[Finding]) -> bool:
        if not findings:
            return False
        try:
            with house.store.write() as connection:
                events = health.act(connection, house.clock.now(), findings)
        except BaseException:
            for finding in findings:
                if (run := self._runs.get(finding.key)) is not None:
                    run.acted.discard(finding.rule)  # found again at the next look
            raise
        for said in events:
            log.warning("%s", said)
        return any(finding.rule.action in ("kill", "retry") for finding in findings)


def keys_of(attempt: LiveAttempt, others: Iterable[str] = ()) -> Keys:
    """The metrics of an attempt that are followed: its own, those of its acceptance criteria, and `others`."""
    asked = {criterion["metric"] for criterion in attempt.acceptance}
    return tuple(sorted({*attempt.metrics, *asked, *others}))


def _differ(one: Progress, other: Progress) -> bool:
    """NaN is like NaN here."""
    return one != other and repr(one) != repr(other)
