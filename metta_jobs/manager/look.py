"""Looking at the queue: everything that changes nothing."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Self

from metta_jobs.clock import SystemClock
from metta_jobs.daemon.lock import Holder, holder
from metta_jobs.errors import InvalidInput, NoState, UnknownName, nearest
from metta_jobs.filesystem import refuse_network
from metta_jobs.paths import PROGRAM, STATE_DIR_VARIABLE, StateDir, find_project, find_state_dir
from metta_jobs.states import JobState
from metta_jobs.store import find, queue, read, silences
from metta_jobs.store.engine import Store
from metta_jobs.store.words import AGAIN
from metta_jobs.views import EventView, GroupSummary, GroupView, JobView, Silence

Target = int | str
"""A job's id, a group's name, "group/job", or "group/variant" for all seeds of a variant."""
Targets = Target | Sequence[Target]
"""One, or several."""

_NO_ID = 2**62  # greater numbers do not fit the database, and name no job either


def several(targets: Targets) -> Sequence[Target]:
    """Targets as they were given; one alone is a list of one, and no text is taken letter by letter."""
    return [targets] if isinstance(targets, int | str) else targets


class Reader:
    """The queue of one project, as one who looks at it sees it."""

    def __init__(self, state_dir: Path | str | None = None, *, create: bool = True) -> None:
        self.project_dir = find_project()
        self._dir = StateDir(find_state_dir(Path(state_dir) if state_dir is not None else None))
        try:
            if not create and not self._dir.root.exists():
                raise NoState(
                    f"There are no jobs yet: {self._dir.root} holds no queue. `metta job submit -- COMMAND` starts one."
                )
            refuse_network(self._dir.root, self._network_is_allowed)
            self._dir.create()
            self._store = Store(self._dir.database)
        except PermissionError as error:
            raise InvalidInput(
                f"The state folder {self._dir.root} belongs to another user. Name one of your own with --state-dir or "
                f"${STATE_DIR_VARIABLE}."
            ) from error
        self._clock = SystemClock()

    def _network_is_allowed(self) -> bool:
        from metta_jobs.settings import Settings  # slow to import, and asked for on network file systems only

        return Settings.load(self.project_dir).allow_network_fs

    @property
    def state_dir(self) -> Path:
        """The folder of the state."""
        return self._dir.root

    def close(self) -> None:
        """Let go of the database; the daemon and the jobs go on."""
        self._store.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def groups(self) -> list[GroupSummary]:
        """All groups with their counts, oldest first."""
        with self._store.read() as connection:
            return read.group_summaries(connection)

    def groups_with(self, state: JobState) -> set[str]:
        """The names of the groups that have a job in this state."""
        with self._store.read() as connection:
            return read.groups_with(connection, state)

    def group(self, name: str) -> GroupView:
        """One group with its jobs. Raises UnknownName."""
        with self._store.read() as connection:
            found = read.group_view(connection, self._dir, name)
            if found is None:
                raise self._no_group(name, read.group_names(connection))
            return replace(found, jobs=tuple(self._explained(connection, found.jobs)))

    def _no_group(self, name: str, known: Sequence[str]) -> UnknownName:
        hint = nearest(name, known) or (" `metta job list` shows those there are." if known else "")
        return UnknownName(f"There is no group {name!r}.{hint}")

    def job(self, job_id: int) -> JobView:
        """One job. Raises UnknownName."""
        return self.jobs([job_id])[0]

    def one(self, target: Target) -> JobView:
        """The single job that a target names. Raises UnknownName, or InvalidInput when it names another number."""
        found = self.jobs([target])
        if len(found) != 1:
            how = f"as {found[0].group}/{found[0].name}" if "/" in str(target) and found else f"as {target}/NAME"
            raise InvalidInput(f"{target} names {len(found)} jobs; name one, by its id or {how}.")
        return found[0]

    def jobs(self, targets: Targets) -> list[JobView]:
        """The jobs that the targets name (ids, groups, "group/job", "group/variant"), by id. Raises UnknownName."""
        ids = self.ids(targets)
        with self._store.read() as connection:
            found = self._explained(connection, read.job_views(connection, self._dir, ids))
        if missing := set(ids) - {job.id for job in found}:
            raise UnknownName(
                f"There is no job {min(missing)}. `metta job list GROUP` shows the ids of a group's jobs."
            )
        return found

    def find_runs(self, wanted: find.Wanted, order: str = "-created_at", limit: int = 50) -> list[JobView]:
        """The runs that meet every condition, at most `limit`, by created_at, name or state ("-": the last first)."""
        with self._store.read() as connection:
            found = find.runs(connection, wanted, order, limit)
            jobs = {job.id: job for job in read.job_views(connection, self._dir, found)}
            return self._explained(connection, [jobs[job_id] for job_id in found])

    def ids(self, targets: Targets) -> list[int]:
        """The ids that the targets name, in order; a number is not looked up. Raises UnknownName."""
        ids: set[int] = set()
        with self._store.read() as connection:
            for target in several(targets):
                if isinstance(target, int) or (target.isascii() and target.isdigit()):
                    ids.add(min(int(target), _NO_ID))
                    continue
                group, slash, name = target.partition("/")
                members = read.job_names(connection, group)
                if not members and read.group_id(connection, group) is None:
                    raise self._no_group(group, read.group_names(connection))
                if not slash:
                    ids.update(members.values())
                elif name in members:
                    ids.add(members[name])
                else:
                    variants = read.variant_members(connection, group)
                    if name not in variants:
                        hint = nearest(name, [*members, *variants])
                        raise UnknownName(f"The group {group!r} has no job {name!r}.{hint}")
                    ids.update(variants[name])
        return sorted(ids)

    def _explained(self, connection: sqlite3.Connection, jobs: Sequence[JobView]) -> list[JobView]:
        """The same jobs, the pending ones with what they wait for: worked out from the state at the same moment."""
        pending = [job.id for job in jobs if job.state is JobState.PENDING]
        if not pending:
            return list(jobs)
        from metta_jobs.manager.reasons import reasons_of  # most of the time nothing is pending

        reasons = reasons_of(connection, pending, self._clock.now())
        return [
            replace(job, reason=_reason(reasons.get(job.id), job.reason)) if job.state is JobState.PENDING else job
            for job in jobs
        ]

    def place(self, job_id: int) -> tuple[int, datetime] | None:
        """How many jobs are before it in the queue, and since when it waits for slots; None when it does not."""
        with self._store.read() as connection:
            return read.place(connection, job_id, self._clock.now())

    def events(self, targets: Targets, *, after: int = 0) -> list[EventView]:
        """What happened to these jobs and groups, oldest first; with `after`, only events with a greater id."""
        targets = several(targets)
        ids = self.ids(targets)
        whole = [target for target in targets if isinstance(target, str) and "/" not in target]
        self.jobs([job_id for job_id in ids if job_id in targets or str(job_id) in targets])
        with self._store.read() as connection:
            return read.event_views(connection, ids, groups=whole, after=after)

    def all_events(self, *, after: int = 0, limit: int | None = None) -> list[EventView]:
        """What happened to anything, oldest first, after the event with the id `after`."""
        with self._store.read() as connection:
            return read.event_views(connection, None, after=after, limit=limit)

    def last_event(self) -> int:
        """The id of the newest event, 0 when there is none."""
        with self._store.read() as connection:
            return read.last_event(connection)

    def version(self) -> tuple[int, int]:
        """Something that differs whenever anything in the queue may have changed since."""
        return self._store.version()

    def log_path(self, job_id: int, attempt: int | None = None) -> Path:
        """The file of an attempt's output (the newest by default); it need not exist. Raises UnknownName."""
        job = self.job(job_id)
        number = max(job.attempt, 1) if attempt is None else attempt
        if not 1 <= number <= max(job.attempt, 1):
            there = "its only one is 1" if job.attempt == 1 else f"they go from 1 to {job.attempt}"
            raise UnknownName(
                f"Job {job_id} has no attempt {number}: {there if job.attempt else 'it has not been started yet'}."
            )
        return self._dir.attempt(job_id, number) / "output.log"

    def daemon(self) -> Holder | None:
        """The daemon that runs, None when there is none."""
        return holder(self._dir.daemon_lock)

    def owned(self) -> tuple[set[tuple[int, int]], set[int]]:
        """(job id, attempt) of everything that is being launched or runs, and SkyPilot's ids of what is looked after:
        of live attempts, and of those that a job is about to take back."""
        with self._store.read() as connection:
            return {row.key for row in queue.live_rows(connection)}, read.managed_ids(connection)

    def warning(self, unfinished: bool, elsewhere: bool = True) -> str | None:
        """What a reader must know about jobs that have not ended: no daemon runs, or, where some of them run
        `elsewhere`, nobody there answers it. None when all is well."""
        if not unfinished:
            return None
        if self.daemon() is None:
            return f"No daemon runs: this is the last known state. `{PROGRAM} daemon start` goes on from it."
        if not elsewhere:
            return None
        with self._store.read() as connection:
            silent = silences.load(connection)
        return _silence_words(silent[0], self._clock.now()) if silent else None


def _silence_words(silence: Silence, now: datetime) -> str:
    minutes = int((now - silence.since).total_seconds() / 60)
    length = f"{minutes // 60} h {minutes % 60} min" if minutes >= 60 else f"{max(1, minutes)} min"
    return (
        f"{silence.who} has not answered for {length}: of what runs there, this is the last known state. No job is "
        f"harmed by it ({silence.why.rstrip('.')})."
    )


def _reason(worked_out: str | None, stored: str | None) -> str | None:
    """What a pending job waits for; where it is tried again, with what ended it before."""
    before = (stored or "").removeprefix(AGAIN)
    if worked_out is None or before == stored or not before:
        return worked_out or stored
    return f"{worked_out} (before: {before})"
