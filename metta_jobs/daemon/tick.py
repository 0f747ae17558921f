"""One round of the daemon. `tick` is the table of contents; every part may be cut off at any point and done again."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from metta_jobs.daemon import accept, decide, start
from metta_jobs.daemon.house import House, Launches
from metta_jobs.daemon.launch import launch
from metta_jobs.executors.base import Alive, Exited, Key, LaunchRefused, Observation, Queued, Unknown
from metta_jobs.policy import RetryPolicy
from metta_jobs.states import JobState
from metta_jobs.store import queue, silences, transitions, wishes
from metta_jobs.store.queue import LiveAttempt, LiveRow
from metta_jobs.store.words import RETRY
from metta_jobs.views import Silence

log = logging.getLogger("metta_jobs.daemon")

#: A lane whose last job has ended within this many seconds may have a line.
QUICK_S = 0.05


@dataclass
class _Record:
    """What is to be written of this round's live attempts."""

    alive: list[Key] = field(default_factory=list)
    ends: list[transitions.End] = field(default_factory=list)
    back: list[Key] = field(default_factory=list)
    reasons: dict[Key, str | None] = field(default_factory=dict)
    facts: dict[Key, dict[str, Any]] = field(default_factory=dict)
    silences: dict[str, Silence] | None = None  # None: as before

    def __bool__(self) -> bool:
        return bool(self.alive or self.ends or self.back or self.reasons or self.facts) or self.silences is not None


def tick(house: House) -> bool:
    """Do one round; return True when something changed, so that the next round should follow at once."""
    version = house.store.version()
    if house.quiet is not None and house.quiet == version and not start.is_due(house):
        return False
    rows, seen = observe(house)
    record = act(house, rows, seen)
    house.in_line = any(isinstance(observation, Queued) and observation.behind for observation in seen.values())
    claimed, changed = write_down_and_claim(house, record)
    # What somebody wrote between the look and the plan has not been seen: then another round follows.
    house.quiet = version if not rows and not changed and house.planned == version else None
    launch_all(house, claimed)
    return changed


def observe(house: House) -> tuple[list[LiveRow], dict[Key, Observation]]:
    """Fulfil what people wish of jobs that do not live, and ask each executor once for all that do."""
    with house.store.read() as connection:
        rows = queue.live_rows(connection)
        wished = [wish for wish in wishes.open_wishes(connection) if not JobState(wish[1]).live]
        if new := [row.key[0] for row in rows if row.key not in house.known]:
            house.known |= {attempt.key: attempt for attempt in queue.live_attempts(connection, new)}
    if wished:
        _fulfil(house, wished)
    keys = {row.key for row in rows}
    for memory in (house.known, house.launches):
        for key in [key for key in memory if key not in keys]:
            del memory[key]
    house.judging &= keys
    seen: dict[Key, Observation] = {}
    for name, executor in house.executors.items():
        seen |= executor.observe([row.key for row in rows if house.known[row.key].executor == name])
    for row in rows:
        seen.setdefault(row.key, Unknown(f"this daemon has no executor {house.known[row.key].executor!r}"))
    return rows, seen


def _fulfil(house: House, wished: Sequence[tuple[int, str, str]]) -> None:
    with house.store.write() as connection:
        now = house.clock.now()
        again = [job_id for job_id, _, wish in wished if wish == RETRY]
        done = set(transitions.retry(connection, now, again)) if again else set()
        done |= set(transitions.cancel(connection, now, [job_id for job_id, _, wish in wished if wish != RETRY]))
        for job_id, _, wish in wished:
            if job_id not in done:
                wishes.drop(connection, job_id, wish)


def act(house: House, rows: Sequence[LiveRow], seen: Mapping[Key, Observation]) -> _Record:
    """Decide about each live attempt; stop, launch and take back at once, and return what is to be recorded."""
    record = _Record()
    lanes: dict[str, list[Key]] = defaultdict(list)
    for row in rows:
        lanes[house.known[row.key].lane or str(row.key)].append(row.key)
    for row in rows:
        attempt = house.known[row.key]
        lane = lanes[attempt.lane or str(row.key)]
        decision = decide.decide_live(_facts(house, row, attempt, lane, seen), seen[row.key])
        note: str | None = None
        match decision:
            case decide.Finish(void=True) if not _never(house, attempt):
                note = "starting"  # it has started after all: the next round sees it
            case decide.Finish():
                record.ends.append(_end(row, decision, seen[row.key]))
                _note_pace(house, attempt, seen[row.key])
                if decision.state is not JobState.SUCCEEDED:
                    log.info("job %d.%d ended: %s", *row.key, decision.reason or decision.state.value)
                continue
            case decide.Withdraw():
                if _never(house, attempt):
                    record.back.append(row.key)
                    house.quick.pop(attempt.lane, None)
                continue
            case decide.MarkRunning():
                record.alive.append(row.key)
                note = decision.note
            case decide.Stop():
                note = _stop(house, attempt, decision)
            case decide.Launch():
                note = launch(house, attempt)
            case decide.ReadMetrics():
                note = accept.read(house, attempt, decision)
            case decide.Keep():
                note = decision.note
        if note != row.reason:
            record.reasons[row.key] = note
    for executor in house.executors.values():
        record.facts |= executor.facts()
    now_silent = {name: silence for name, executor in house.executors.items() if (silence := executor.silence())}
    if now_silent != house.silences:
        record.silences = now_silent
    return record


def write_down_and_claim(house: House, record: _Record) -> tuple[dict[int, int], bool]:
    """Record what was seen and claim what can start by it, in one transaction; return the claims, and if any did."""
    if not record and not start.is_due(house):
        return {}, False
    start.look_at_neighbours(house)
    with house.store.write() as connection:
        now = house.clock.now()
        if record.facts:
            transitions.know(connection, now, record.facts)
        if record.silences is not None:
            silences.save(connection, record.silences)
        if record.alive:
            transitions.seen_alive(connection, now, record.alive)
        if record.ends:
            transitions.finish(connection, now, record.ends)
        for key in record.back:
            transitions.withdraw(connection, now, *key, "it stood behind a job that runs longer than those before")
        if record.reasons:
            transitions.explain(connection, record.reasons)
        claimed, changed = start.claim(house, connection)
    if record.silences is not None:
        house.silences = record.silences
    return claimed, bool(changed or record.alive or record.ends or record.back)


def launch_all(house: House, claimed: Mapping[int, int]) -> None:
    """The claims are on disk: hand them to their executors."""
    if not claimed:
        return
    with house.store.read() as connection:
        attempts = queue.live_attempts(connection, list(claimed))
    reasons: dict[Key, str | None] = {}
    for attempt in attempts:
        house.known[attempt.key] = attempt
        if (note := launch(house, attempt)) is not None:
            reasons[attempt.key] = note
    if reasons:
        with house.store.write() as connection:
            transitions.explain(connection, reasons)


def _facts(
    house: House, row: LiveRow, attempt: LiveAttempt, lane: Sequence[Key], seen: Mapping[Key, Observation]
) -> decide.Live:
    launches = house.launches.get(row.key, Launches())
    ahead = [s.running_s for key in lane if key != row.key and isinstance(s := seen[key], Alive)]
    return decide.Live(
        state=row.state,
        kill=row.kill,
        force=row.force,
        timeout_s=attempt.timeout_s,
        grace_s=attempt.grace_s,
        launches=launches.count,
        launch_due=house.clock.monotonic() >= launches.next_at,
        refused=launches.refused,
        ahead_s=max((s for s in ahead if s is not None), default=None),
        alone=len(lane) == 1,
        same_boot=attempt.executor != "local" or attempt.boot in ("", house.boot),
        queue_timeout_s=attempt.queue_timeout_s if attempt.remote is not None else None,
        retry=None if attempt.retry is None else RetryPolicy.model_validate(attempt.retry),
        tries=attempt.tries,
        restart=row.restart,
        **(accept.facts(house, attempt) if attempt.acceptance and isinstance(seen[row.key], Exited) else {}),
    )


def _end(row: LiveRow, decision: decide.Finish, seen: Observation) -> transitions.End:
    left = seen.left if isinstance(seen, Exited) and seen.stopped is None else 0
    return transitions.End(
        *row.key, decision.state, decision.exit_code, decision.reason, decision.running_s, decision.again_s, left
    )


def _note_pace(house: House, attempt: LiveAttempt, seen: Observation) -> None:
    quick = isinstance(seen, Exited) and seen.running_s is not None and seen.running_s < QUICK_S
    house.quick[attempt.lane] = quick and not attempt.gpus


def _stop(house: House, attempt: LiveAttempt, decision: decide.Stop) -> str:
    try:
        house.executors[attempt.executor].stop(attempt.key, decision.cause, force=decision.force)
    except OSError as error:
        log.warning("job %d.%d cannot be stopped now: %s", *attempt.key, error)
        return f"cannot be stopped now ({error.strerror}); tried again every second"
    return decision.note


def _never(house: House, attempt: LiveAttempt) -> bool:
    """Make sure that it never starts."""
    try:
        return house.executors[attempt.executor].abandon(attempt.key)
    except LaunchRefused as refusal:
        log.warning("job %d.%d %s", *attempt.key, refusal)
        return False
