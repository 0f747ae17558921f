"""Attempts as SkyPilot's managed jobs.

Nothing here waits: questions go to the worker process, answers are taken when they have come, and what is said of an
attempt in between is what was seen last. What must survive the daemon is in each attempt's ledger.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from metta_jobs.clock import Clock
from metta_jobs.errors import MettaError
from metta_jobs.executors.base import Absent, Cause, Failed, Key, LaunchRefused, LaunchSpec, Observation, Queued
from metta_jobs.executors.sky import doubles, statuses
from metta_jobs.executors.sky.attempt import LAST_BREATH_S, Attempt
from metta_jobs.executors.sky.client import Answer, SkyClient
from metta_jobs.executors.sky.facts import Facts
from metta_jobs.executors.sky.ledger import MARKER, Ledger, key_of, managed_name, project_id, sent_to
from metta_jobs.executors.sky.logs import Logs
from metta_jobs.executors.sky.questions import Questions
from metta_jobs.executors.sky.statuses import Seen
from metta_jobs.executors.sky.task import task_of
from metta_jobs.paths import StateDir
from metta_jobs.views import Silence

log = logging.getLogger("metta_jobs.daemon")

#: A cancellation that shows no effect is asked for again.
CANCEL_AGAIN_S = 30.0
#: What was launched twice is in the queue twice after so long.
SHOWN_S = 20.0
#: A launch whose worker has died has reached the API server after so long, if it ever does.
ARRIVED_S = 30.0
#: So many launches are under way at once.
LAUNCHES = 8
#: A worker without work is ended after so long.
IDLE_S = 60.0


class SkyExecutor:
    """The executor of remote jobs. `find_python` raises MettaError where no interpreter has SkyPilot."""

    name = "skypilot"

    def __init__(
        self, state_dir: StateDir, client: SkyClient, clock: Clock, find_python: Callable[[], str] = lambda: ""
    ) -> None:
        self._state_dir = state_dir
        self._client = client
        self._clock = clock
        self._find_python = find_python
        self._project: str | None = None
        self._attempts: dict[Key, Attempt] = {}
        self._waiting: dict[Key, LaunchSpec] = {}
        # Launches that were certainly not made: why, and whether that is nobody's fault.
        self._unsent: dict[Key, tuple[str, bool]] = {}
        self._questions = Questions(client, clock)
        self._facts = Facts(self._questions)
        self._logs = Logs(self._questions.ask, self._folder)
        self._busy_at = 0.0

    # -------------------------------------------------------------------------------------------------- launching

    def lane(self) -> str:
        """None stands in line behind another."""
        return ""

    def launch(self, spec: LaunchSpec) -> None:
        """Hand it to SkyPilot as soon as few enough launches are under way; once, whatever happens."""
        if self._knows(spec.key):
            return
        try:
            self._find_python()
        except MettaError as error:
            raise LaunchRefused(str(error)) from error
        self._unsent.pop(spec.key, None)
        if not self._is_there(spec):
            self._waiting[spec.key] = spec

    def _is_there(self, spec: LaunchSpec) -> bool:
        """True when a managed job is this attempt already: one that it takes back."""
        now, told = self._clock.monotonic(), (spec.remote or {}).get("adopted")
        if told is None or told["attempt"] != spec.key[1]:
            return False
        ledger = Ledger.new(told["name"]).of(told["managed_id"], told["token"])
        try:
            ledger.save(self._folder(spec.key), sync=True)
        except OSError as error:
            raise LaunchRefused(f"cannot be taken back: {error}") from error
        self._attempts[spec.key] = Attempt(spec.key, ledger, now, adopted=True)
        self._tell_first(self._attempts[spec.key], spec)
        self._questions.soon("queue")
        return True

    def _send_launches(self, now: float) -> None:
        room = LAUNCHES - self._questions.count("launch")
        for key in list(self._waiting)[: max(0, room)]:
            spec = self._waiting.pop(key)
            try:
                before, marker = Ledger.load(self._folder(key)), self._folder(key) / MARKER
                marker.unlink(missing_ok=True)
                ledger = Ledger.new(managed_name(self._id(), key, spec.name), before.dead if before else ())
                ledger.save(self._folder(key), sync=True)
            except (OSError, ValueError) as error:
                self._unsent[key] = (f"cannot be launched: {error}", True)
                continue
            self._attempts[key] = Attempt(key, ledger, now, asking=True)
            task = self._tell_first(self._attempts[key], spec)
            self._questions.ask(("launch", key), "launch", name=ledger.name, marker=str(marker), **task)
            self._questions.pace(changed=True)

    def _tell_first(self, attempt: Attempt, spec: LaunchSpec) -> dict[str, Any]:
        """Note what is known of a launch beforehand; return its request."""
        request = task_of(spec, attempt.ledger.token)
        self._facts.note(attempt, {"name": attempt.ledger.name, "nodes": (spec.remote or {}).get("nodes", 1)})
        self._facts.price(attempt, request["task"]["resources"])
        return request

    def _launched(self, key: Key, answer: Answer, now: float) -> None:
        attempt = self._attempts.get(key)
        if attempt is None:
            return
        attempt.asking = False
        if answer.value is not None:
            self._know(attempt, request_id=str(answer.value["request_id"]))
        elif answer.kind == "refused":
            attempt.final = Failed(f"SkyPilot refuses it: {answer.error}")
        elif answer.kind != "died" or not (self._folder(key) / MARKER).exists():
            self._not_sent(attempt, answer.error or "SkyPilot cannot be reached", excused=answer.kind != "error")
        else:
            attempt.doubted_at = now
            log.warning("job %d.%d: the answer to its launch is lost (%s); looking for it", *key, answer.error)

    def _not_sent(self, attempt: Attempt, why: str, *, excused: bool) -> None:
        """For certain nothing was sent: it is as if it had never been tried."""
        self._write(attempt.key, attempt.ledger.buried(), sync=False)
        del self._attempts[attempt.key]
        self._unsent[attempt.key] = (why, excused)

    # -------------------------------------------------------------------------------------------------- observing

    def observe(self, keys: Sequence[Key]) -> dict[Key, Observation]:
        """What is known of each now; questions that are due are asked."""
        now, wanted = self._clock.monotonic(), set(keys)
        for memory in (self._attempts, self._waiting, self._unsent):
            for key in [key for key in memory if key not in wanted]:
                del memory[key]
        for key in keys:
            self._knows(key)
        if not keys and not self._questions:
            return {}
        self._busy_at = now
        for kind, about, answer in self._questions.answers():
            self._take(kind, about, answer, now)
        self._send_launches(now)
        self._ask_what_is_due(now)
        return {key: self._observe(key, now) for key in keys}

    def _knows(self, key: Key) -> bool:
        """Whether it was launched, and not in vain; of launches by an earlier daemon, its ledger tells."""
        if key not in self._attempts and key not in self._waiting and key not in self._unsent:
            self._adopt(key, self._clock.monotonic())
        return key in self._attempts or key in self._waiting

    def _adopt(self, key: Key, now: float) -> None:
        try:
            ledger = Ledger.load(self._folder(key))
        except (OSError, ValueError) as error:
            # That there is one means that something was sent, under a name that can be worked out but for its end.
            log.error("job %d.%d: %s", *key, error)
            ledger = Ledger.new(managed_name(self._id(), key, ""))
        if ledger is not None and ledger.sent:
            stop = None if ledger.stop is None else Cause(ledger.stop)
            self._attempts[key] = Attempt(key, ledger, now, adopted=True, stop=stop, stopped_at=now, doubted_at=now)
            self._questions.soon("queue", "search")

    def _observe(self, key: Key, now: float) -> Observation:
        if (attempt := self._attempts.get(key)) is not None:
            return attempt.observe(now)
        if key in self._waiting:
            return Queued(note="waits for earlier launches")
        note, excused = self._unsent.get(key, (None, False))
        return Absent(launched=False, note=note, refused=excused)

    def _ask_what_is_due(self, now: float) -> None:
        attempts = [attempt for attempt in self._attempts.values() if attempt.final is None]
        known = [a for a in attempts if a.confirmed and not a.collects]
        asked = [
            a
            for a in attempts
            if a.ledger.request_id and not a.request_failed and (not a.confirmed or a.inactive_since is not None)
        ]
        lost = [a for a in attempts if a.to_look_for]
        for attempt in [a for a in lost if a.adopted and a.ledger.request_id is None and now - a.since > LAST_BREATH_S]:
            if not (self._folder(attempt.key) / MARKER).exists():
                self._not_sent(attempt, "an earlier daemon died before it was sent", excused=True)
                lost.remove(attempt)
        if asked:
            requests = [a.ledger.request_id for a in asked]
            self._questions.poll("requests", requests, ids=requests)
        if lost:
            self._questions.poll("search", {a.key for a in lost}, name_match=self._name_of(lost))
        if doubtful := [a for a in lost if a.ledger.request_id is None and now - a.doubted_at > ARRIVED_S]:
            names = {a.ledger.name: a.key for a in doubtful}
            since = min(a.ledger.asked_at for a in doubtful)
            self._questions.poll("launches", names, names=list(names), since=since)
        if unsure := [a for a in known if a.seen and not a.checked and now - a.since > SHOWN_S]:
            keys = {a.key for a in unsure}
            self._questions.poll("doubles", keys, name_match=self._name_of(unsure), skip_finished=True)
        if known:
            ids = {a.ledger.managed_id or 0 for a in known}
            self._questions.poll("queue", ids, job_ids=sorted(ids))
        self._cancel([a for a in known if (a.stop or a.stuck) and a.is_its_own(self._questions.failed_at)], now)
        self._logs.ask_what_is_due(attempts, now, quiet=self._questions.silence is not None)

    def _name_of(self, attempts: Sequence[Attempt]) -> str:
        return attempts[0].ledger.name if len(attempts) == 1 else f"metta-{self._id()}-"

    def _cancel(self, attempts: Sequence[Attempt], now: float) -> None:
        late = [a for a in attempts if a.cancelled_at is None or now - a.cancelled_at >= CANCEL_AGAIN_S]
        if late:
            for attempt in late:
                attempt.cancelled_at = now
            ids = sorted({a.ledger.managed_id or 0 for a in late})
            self._questions.ask(("cancel", tuple(a.key for a in late)), "cancel", job_ids=ids)
            self._questions.pace(changed=True)

    # ---------------------------------------------------------------------------------------------------- answers

    def _take(self, kind: str, about: Any, answer: Answer, now: float) -> None:
        match kind:
            case "launch":
                self._launched(about, answer, now)
            case "log" | "tail":
                self._logs.take(self._attempts.get(about), answer, now, whole=kind == "log")
            case "price":
                self._facts.priced(about, answer.value, self._attempts.values())
            case "cancel" if answer.value is None:
                log.warning("SkyPilot could not cancel: %s", answer.error)
            case "queue" if answer.value is not None:
                self._polled(answer.value, about, now)
            case "search" | "doubles" if answer.value is not None:
                self._found(answer.value, about, now)
            case "requests" if answer.value is not None:
                self._confirmed(answer.value, about)
            case "launches" if answer.value is not None:
                self._arrived(answer.value, about)

    def _polled(self, value: Mapping[str, Any], asked: Collection[int], now: float) -> None:
        seen = {record.managed_id: record for record in map(statuses.read, value["records"]) if record is not None}
        changed = False
        for attempt in self._attempts.values():
            if attempt.final is not None or attempt.ledger.managed_id not in asked or attempt.collects:
                continue
            found = seen.get(attempt.ledger.managed_id or 0)
            if found is not None and self._owns(attempt, found):
                if attempt.see(found, now):
                    changed = True
                    self._facts.note(attempt, found.facts())
            elif value.get("complete"):
                # An API server that was set up anew gives the same ids to others' jobs.
                attempt.elsewhere = found is not None
                attempt.miss(now)
        self._bury()
        self._questions.pace(changed=changed)

    def _owns(self, attempt: Attempt, found: Seen) -> bool:
        return found.name in (None, attempt.ledger.name) or key_of(self._id(), found.name) == attempt.key

    def _found(self, value: Mapping[str, Any], asked: Collection[Key], now: float) -> None:
        """By their names: those whose launch was not confirmed; and what was launched twice, of which one goes."""
        found = doubles.by_attempt(self._id(), value["records"], self._attempts)
        for attempt in [self._attempts[key] for key in asked if key in self._attempts]:
            of_it = found.get(attempt.key, [])
            if attempt.final is None and attempt.to_look_for:
                if of_it:
                    self._know(attempt, managed_id=of_it[0].managed_id)
                    attempt.see(of_it[0], now)
                    self._facts.note(attempt, of_it[0].facts())
                elif value.get("complete"):
                    attempt.not_found(now)
                    if attempt.never_arrived:
                        self._not_sent(attempt, "its launch never reached SkyPilot", excused=True)
            if not attempt.confirmed:
                continue
            if too_many := doubles.besides(attempt, of_it):
                attempt.doubled = f"SkyPilot has it twice: cancelling managed job {', '.join(map(str, too_many))}"
                log.warning("job %d.%d: %s, and keeping %s", *attempt.key, attempt.doubled, attempt.ledger.managed_id)
                self._questions.ask(("cancel", (attempt.key,)), "cancel", job_ids=too_many)
            elif value.get("complete"):
                attempt.checked, attempt.doubled = True, None

    def _confirmed(self, value: Mapping[str, Any], asked: Collection[str]) -> None:
        for attempt in self._attempts.values():
            request = attempt.ledger.request_id
            if request is None or attempt.request_failed is not None:
                continue
            if attempt.confirmed and attempt.inactive_since is None:
                continue
            answer = value.get(request)
            if answer is None:
                if request in asked:
                    attempt.request_failed = "the API server does not know its request any more"
                continue
            if answer.get("job_ids") and not attempt.confirmed:
                self._know(attempt, managed_id=int(answer["job_ids"][0]))
                self._questions.soon("queue")
            if answer["status"] in ("FAILED", "CANCELLED") or (
                answer["status"] == "SUCCEEDED" and not attempt.confirmed
            ):
                attempt.request_failed = answer.get("error") or f"its request is {answer['status'].lower()}"
                attempt.refused = True

    def _arrived(self, value: Mapping[str, Any], asked: Mapping[str, Key]) -> None:
        """Whether launches whose answer is lost have reached the API server: it keeps what it was asked for a day."""
        for name, key in asked.items():
            attempt = self._attempts.get(key)
            if attempt is None or not attempt.to_look_for or attempt.ledger.request_id is not None:
                continue
            if requests := value["requests"].get(name):
                self._know(attempt, request_id=str(requests[0]))
            elif value["complete"] and value["whose"] == sent_to(self._folder(key)):
                attempt.not_requested = True

    def _bury(self) -> None:
        """What SkyPilot lost is cancelled: nothing is left of that launch, and another may be made."""
        for attempt in [attempt for attempt in self._attempts.values() if attempt.buried]:
            log.warning("job %d.%d: SkyPilot lost its launch; it is launched anew", *attempt.key)
            if self._write(attempt.key, attempt.ledger.buried(), sync=True):
                self._not_sent(attempt, "SkyPilot lost its launch before it started", excused=True)

    # ------------------------------------------------------------------------------------------------------ ending

    def stop(self, key: Key, cause: Cause, *, force: bool) -> None:
        """Have it cancelled: at once, or as soon as SkyPilot's id of it is known."""
        if (attempt := self._attempts.get(key)) is not None and attempt.stop is None and attempt.final is None:
            attempt.stop, attempt.stopped_at = cause, self._clock.monotonic()
            attempt.ledger = replace(attempt.ledger, stop=cause.value)
            self._write(key, attempt.ledger, sync=False)
            self._questions.soon("queue")

    def abandon(self, key: Key) -> bool:
        """True when it has not been sent, and now never will be."""
        self._knows(key)
        self._waiting.pop(key, None)
        return key not in self._attempts

    # ----------------------------------------------------------------------------------------------------- helpers

    def facts(self) -> dict[Key, dict[str, Any]]:
        """What has changed since this was last asked."""
        return self._facts.new(self._attempts)

    def _know(self, attempt: Attempt, *, request_id: str | None = None, managed_id: int | None = None) -> None:
        attempt.ledger = attempt.ledger.knowing(request_id=request_id, managed_id=managed_id)
        self._write(attempt.key, attempt.ledger, sync=False)  # lost, it is found again by its name

    def _write(self, key: Key, ledger: Ledger, *, sync: bool) -> bool:
        try:
            ledger.save(self._folder(key), sync=sync)
        except OSError as error:
            log.warning("job %d.%d: what is known of its launch cannot be written down (%s)", *key, error)
            return False
        return True

    def _folder(self, key: Key) -> Path:
        return self._state_dir.attempt(*key)

    def _id(self) -> str:
        if self._project is None:
            self._project = project_id(self._state_dir)
        return self._project

    def silence(self) -> Silence | None:
        """Since when SkyPilot has not answered, while there is something to ask of it."""
        return self._questions.silence if self._attempts or self._waiting or self._unsent else None

    def wake_fds(self) -> list[int]:
        """Readable when the worker has answered."""
        descriptor = self._client.fileno()
        return [] if descriptor is None else [descriptor]

    def rest(self) -> None:
        """A worker takes hundreds of MB: without work, it goes."""
        if not self._attempts and not self._waiting and self._clock.monotonic() - self._busy_at > IDLE_S:
            self._questions.forget()
            self._logs.forget()
            self._client.close()

    def close(self) -> None:
        """End the worker; managed jobs go on."""
        self._client.close()
