"""One round of the daemon. `tick` is the table of contents; every part may be cut off at any point and done again."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta

from metta_jobs.clock import Clock
from metta_jobs.daemon import decide
from metta_jobs.daemon.launch import launch_spec
from metta_jobs.daemon.plan import plan
from metta_jobs.daemon.secrets import Secrets
from metta_jobs.executors.base import Executor, Key, LaunchRefused, Observation, Unknown
from metta_jobs.paths import StateDir
from metta_jobs.states import JobState
from metta_jobs.store import queue, transitions, wishes
from metta_jobs.store.engine import Store
from metta_jobs.store.schema import RETRY

log = logging.getLogger("metta_jobs.daemon")


@dataclass
class _Launches:
    """Launches of one attempt in this daemon's life, for pauses between them."""

    count: int = 0
    next_at: float = 0.0
    impossible: str | None = None


@dataclass
class House:
    """What a tick works with. Nothing here must survive the daemon."""

    store: Store
    state_dir: StateDir
    executors: Mapping[str, Executor]
    clock: Clock
    cpus: float
    gpus: Sequence[str]
    max_parallel: int | None = None
    secrets: Secrets = field(default_factory=Secrets)
    launches: dict[Key, _Launches] = field(default_factory=dict)
    planned: tuple[int, int] | None = None  # the version of the store that the last plan was made from
    hear: Callable[[], dict[str, dict[str, str]]] = dict  # secrets that submitters have sent and nobody has read yet


def tick(house: House) -> bool:
    """Do one round; return True when something changed, so that the next round should follow at once."""
    changed = fulfil_wishes(house)
    changed |= settle(house, *observe(house))
    changed |= start_and_skip(house)
    return changed


def fulfil_wishes(house: House) -> bool:
    """Retry what people want retried, cancel what never started; the living are stopped by `settle`."""
    with house.store.read() as connection:
        found = wishes.open_wishes(connection)
    found = [wish for wish in found if not JobState(wish[1]).live]
    if not found:
        return False
    with house.store.write() as connection:
        now = house.clock.now()
        for job_id, _, wish in found:
            if wish == RETRY:
                done = transitions.retry(connection, now, job_id)
            else:
                done = transitions.cancel(connection, now, job_id)
            if not done:
                wishes.drop(connection, job_id, wish)
    return True


def observe(house: House) -> tuple[list[queue.LiveAttempt], dict[Key, Observation]]:
    """Ask each executor once for all its live attempts."""
    with house.store.read() as connection:
        live = queue.live_attempts(connection)
    seen: dict[Key, Observation] = {}
    for name, executor in house.executors.items():
        if keys := [attempt.key for attempt in live if attempt.executor == name]:
            seen |= executor.observe(keys)
    for attempt in live:
        seen.setdefault(attempt.key, Unknown(f"this daemon has no executor {attempt.executor!r}"))
    for key in set(house.launches) - {attempt.key for attempt in live}:
        del house.launches[key]
    return live, seen


def settle(house: House, live: Sequence[queue.LiveAttempt], seen: Mapping[Key, Observation]) -> bool:
    """Decide about each live attempt, and do it: stops and launches first, then what is to be recorded."""
    decisions = [(attempt, decide.decide_live(_facts(house, attempt), seen[attempt.key])) for attempt in live]
    record: list[tuple[queue.LiveAttempt, decide.Decision]] = []
    for attempt, decision in decisions:
        match decision:
            case decide.Stop():
                record.append((attempt, _stop(house, attempt, decision)))
            case decide.Launch():
                record.append((attempt, _launch(house, attempt)))
            case decide.Finish(void=True):
                record.append((attempt, _void(house, attempt, decision)))
            case _:
                record.append((attempt, decision))
    record = [(a, d) for a, d in record if not (isinstance(d, decide.Keep) and d.note == a.reason)]
    if not record:
        return False
    with house.store.write() as connection:
        now = house.clock.now()
        for attempt, decision in record:
            match decision:
                case decide.Keep():
                    transitions.explain(connection, attempt.job_id, attempt.number, decision.note)
                case decide.MarkRunning():
                    transitions.seen_alive(connection, now, *attempt.key)
                case decide.Finish():
                    ran = decision.running_s
                    transitions.finish(
                        connection,
                        now,
                        *attempt.key,
                        decision.state,
                        exit_code=decision.exit_code,
                        reason=decision.reason,
                        duration_s=ran,
                        started_at=now - timedelta(seconds=ran)
                        if ran is not None and attempt.state is JobState.LAUNCHING
                        else None,
                    )
                    log.info("job %d.%d ended: %s", *attempt.key, decision.reason or decision.state.value)
    return any(not isinstance(decision, decide.Keep) for _, decision in record)


def start_and_skip(house: House) -> bool:
    """Claim what can start, oldest first, and skip what no longer can; when the claims are on disk, launch them.

    What depends on a skipped job follows in the next round. The plan follows from what is stored and from nothing else,
    so while that has not changed there is nothing to plan.
    """
    version = house.store.version()
    if version == house.planned:
        return False
    house.planned = version
    with house.store.read() as connection:
        pending = queue.pending_jobs(connection)
        held = queue.holdings(connection) if pending else []
    capacity = decide.Capacity(house.cpus, house.gpus, house.max_parallel)
    verdicts = [
        (job, verdict) for job, verdict in plan(pending, held, capacity) if not isinstance(verdict, decide.Waits)
    ]
    if not verdicts:
        return False
    claimed: set[Key] = set()
    with house.store.write() as connection:
        now = house.clock.now()
        for job, verdict in verdicts:
            if isinstance(verdict, decide.Skip):
                transitions.skip(connection, now, job.job_id, verdict.reason)
                continue
            number = transitions.claim(connection, now, job.job_id, "local", verdict.gpus, job.cpus)
            if number is not None:
                claimed.add((job.job_id, number))
    with house.store.read() as connection:
        launching = [attempt for attempt in queue.live_attempts(connection) if attempt.key in claimed]
    for attempt in launching:
        note = _launch(house, attempt).note
        if note is not None:
            with house.store.write() as connection:
                transitions.explain(connection, *attempt.key, note)
    return True


def _facts(house: House, attempt: queue.LiveAttempt) -> decide.Live:
    config, launches = attempt.config, house.launches.get(attempt.key, _Launches())
    return decide.Live(
        state=attempt.state,
        kill=attempt.kill,
        force=attempt.force,
        timeout_s=config.timeout_s,
        grace_s=config.grace_s,
        launches=launches.count,
        launch_due=house.clock.monotonic() >= launches.next_at,
        impossible=launches.impossible,
    )


def _launch(house: House, attempt: queue.LiveAttempt) -> decide.Keep:
    launches = house.launches.setdefault(attempt.key, _Launches())
    try:
        # Who submits sends the secrets first and commits then: what belongs to a stored job has been sent.
        house.secrets.submitted |= house.hear()
        secrets = house.secrets.of(attempt.environment, attempt.secrets)
        house.executors[attempt.executor].launch(launch_spec(attempt, house.state_dir, secrets))
    except LaunchRefused as refusal:
        # A full disk or no free process is no fault of the job's, so it is tried again and again.
        launches.next_at = house.clock.monotonic() + 5
        launches.impossible = str(refusal) if refusal.for_ever else None
        log.warning("job %d.%d %s", *attempt.key, refusal)
        return decide.Keep(str(refusal))
    launches.count += 1
    launches.next_at = house.clock.monotonic() + 2 ** (launches.count - 1)
    if missing := [name for name in attempt.secrets if name not in secrets]:
        log.warning("job %d.%d is launched without %s", *attempt.key, ", ".join(missing))
        with house.store.write() as connection:
            transitions.record(
                connection,
                house.clock.now(),
                attempt.job_id,
                "note",
                attempt=attempt.number,
                reason=f"launched without {', '.join(missing)}, which this daemon does not know",
            )
    return decide.Keep(None)


def _stop(house: House, attempt: queue.LiveAttempt, decision: decide.Stop) -> decide.Keep:
    try:
        house.executors[attempt.executor].stop(attempt.key, decision.cause, force=decision.force)
    except OSError as error:
        log.warning("job %d.%d cannot be stopped now: %s", *attempt.key, error)
        return decide.Keep(f"cannot be stopped now ({error.strerror}); tried again every second")
    return decide.Keep(decision.note)


def _void(house: House, attempt: queue.LiveAttempt, decision: decide.Finish) -> decide.Decision:
    try:
        never = house.executors[attempt.executor].abandon(attempt.key)
    except LaunchRefused as refusal:
        return decide.Keep(str(refusal))
    # If it has started after all, the next round sees it alive and goes on from there.
    return decision if never else decide.Keep("starting")
