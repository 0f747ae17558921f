"""JobManager: the façade for people and programs. The CLI, the tools and the notebooks all go through it."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from metta_jobs.clock import SystemClock
from metta_jobs.daemon import control
from metta_jobs.daemon.decide import Capacity
from metta_jobs.daemon.lock import Holder
from metta_jobs.daemon.plan import plan
from metta_jobs.daemon.service import usable_cpus
from metta_jobs.environment import environment_id, split
from metta_jobs.errors import InvalidInput, NoState, StoreError, UnknownName, nearest
from metta_jobs.executors.devices import find_gpus
from metta_jobs.job import JobConfig, check_name
from metta_jobs.paths import PROGRAM, StateDir, find_project, find_state_dir
from metta_jobs.settings import Settings
from metta_jobs.states import JobState
from metta_jobs.store import capacity, queue, read, wishes
from metta_jobs.store import submit as store_submit
from metta_jobs.store.engine import Store
from metta_jobs.views import EventView, GroupSummary, GroupView, JobView

Target = int | str
"""A job's id, or a group's name."""

POLL_S = 0.1
_NO_ID = 2**62  # greater numbers do not fit the database, and name no job either


class JobManager:
    """The queue of one project.

    `state_dir` is the folder of the state; by default $METTA_JOB_STATE, else job_state/ in the project (the nearest
    parent folder with a pyproject.toml or a job_state/). Opening it creates or migrates the database when needed;
    without `create`, a folder that holds no queue raises NoState.
    An instance belongs to one thread.

        >>> manager = JobManager()
        >>> group = manager.submit([JobConfig(name="hello", command=("echo", "hi"))], group="first")
        >>> manager.wait(["first"])
    """

    def __init__(self, state_dir: Path | str | None = None, *, create: bool = True) -> None:
        self.project_dir = find_project()
        self._dir = StateDir(find_state_dir(Path(state_dir) if state_dir is not None else None))
        if not create and not self._dir.database.exists():
            raise NoState(
                f"There are no jobs yet: {self._dir.root} holds no queue. `metta job submit -- COMMAND` starts one."
            )
        self._dir.create()
        self._store = Store(self._dir.database)
        self._clock = SystemClock()

    @property
    def state_dir(self) -> Path:
        """The folder of the state."""
        return self._dir.root

    def close(self) -> None:
        """Let go of the database; the daemon and the jobs go on."""
        self._store.close()

    def __enter__(self) -> JobManager:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # ------------------------------------------------------------------------------------------------ putting in

    def submit(self, configs: Sequence[JobConfig], *, group: str, new_group: bool = False) -> GroupView:
        """Store jobs in one transaction, make sure that the daemon runs, and return their group.

        When this returns, the jobs are on disk. `new_group` refuses a group that exists. Raises InvalidInput,
        UnknownName, DependencyCycle, AlreadyExists or StoreError, and then nothing is stored.
        """
        if not configs:
            raise InvalidInput("There is nothing to submit: the list of jobs is empty.")
        try:
            check_name(group)
        except ValueError as error:
            raise InvalidInput(f"{error}.") from error
        variables, secrets = split(os.environ)
        checked = check_jobs(configs, self.project_dir)
        environment = environment_id(variables, secrets, self._dir.salt())
        control.hand_over(self._dir, environment, secrets)
        with self._store.write() as connection:
            store_submit.submit(
                connection,
                self._clock.now(),
                group,
                checked,
                environment,
                variables,
                sorted(secrets),
                new_group=new_group,
            )
        control.ensure(self._dir)
        return self.group(group)

    def free_name(self, group: str, stem: str) -> str:
        """Return `stem`, or `stem-2`, …: a name that no job of `group` has."""
        with self._store.read() as connection:
            return store_submit.free_name(connection, group, stem)

    # ------------------------------------------------------------------------------------------------ looking

    def groups(self) -> list[GroupSummary]:
        """All groups with their counts, oldest first."""
        with self._store.read() as connection:
            return read.group_summaries(connection)

    def group(self, name: str) -> GroupView:
        """One group with its jobs. Raises UnknownName."""
        with self._store.read() as connection:
            found = read.group_view(connection, self._dir, name)
            if found is None:
                known = read.group_names(connection)
                hint = nearest(name, known) or (" `metta job list` shows those there are." if known else "")
                raise UnknownName(f"There is no group {name!r}.{hint}")
        return replace(found, jobs=tuple(self._explained(found.jobs)))

    def job(self, job_id: int) -> JobView:
        """One job. Raises UnknownName."""
        return self.jobs([job_id])[0]

    def jobs(self, targets: Sequence[Target]) -> list[JobView]:
        """The jobs that the targets name (ids, groups, or "group/job"), by id. Raises UnknownName."""
        ids: set[int] = set()
        for target in targets:
            if isinstance(target, int) or (target.isascii() and target.isdigit()):
                ids.add(min(int(target), _NO_ID))
                continue
            group, slash, name = target.partition("/")
            members = self.group(group).jobs
            if slash and name not in (job.name for job in members):
                raise UnknownName(f"The group {group!r} has no job {name!r}.{nearest(name, [j.name for j in members])}")
            ids.update(job.id for job in members if not slash or job.name == name)
        with self._store.read() as connection:
            found = read.job_views(connection, self._dir, sorted(ids))
        if missing := ids - {job.id for job in found}:
            raise UnknownName(
                f"There is no job {min(missing)}. `metta job list GROUP` shows the ids of a group's jobs."
            )
        return self._explained(found)

    def _explained(self, jobs: Sequence[JobView]) -> list[JobView]:
        """The same jobs, the pending ones with what they wait for: worked out from the state, so never out of date."""
        if not any(job.state is JobState.PENDING for job in jobs):
            return list(jobs)
        with self._store.read() as connection:
            slots = capacity.load(connection)
            pending = queue.pending_jobs(connection)
            held = queue.holdings(connection)
        if slots is None:
            reasons = {job.job_id: "no daemon has looked at it yet" for job in pending}
        else:
            room = Capacity(slots.cpus, slots.gpus, slots.max_parallel)
            reasons = {job.job_id: verdict.reason for job, verdict in plan(pending, held, room)}
        return [
            replace(job, reason=reasons.get(job.id, job.reason)) if job.state is JobState.PENDING else job
            for job in jobs
        ]

    def events(self, targets: Sequence[Target], *, after: int = 0) -> list[EventView]:
        """What happened to these jobs, oldest first; with `after`, only events with a greater id."""
        ids = [job.id for job in self.jobs(targets)]
        with self._store.read() as connection:
            return read.event_views(connection, ids, after=after)

    def log_path(self, job_id: int, attempt: int | None = None) -> Path:
        """The file of an attempt's output (the newest by default); it need not exist yet. Raises UnknownName."""
        job = self.job(job_id)
        number = max(job.attempt, 1) if attempt is None else attempt
        if not 1 <= number <= max(job.attempt, 1):
            raise UnknownName(f"Job {job_id} has no attempt {number}; it has {job.attempt}.")
        return self._dir.attempt(job_id, number) / "output.log"

    # ------------------------------------------------------------------------------------------------ wishing

    def kill(self, targets: Sequence[Target], *, force: bool = False) -> list[JobView]:
        """Ask for the end of these jobs: TERM to their process trees, KILL after their grace (at once with `force`).

        Pending ones are cancelled, ended ones left alone. Returns those that had not ended; they are KILLED when their
        processes are seen gone (`wait` waits for that).
        """
        return self._wish(targets, lambda c, ids: wishes.wish_kill(c, self._clock.now(), ids, force=force))

    def retry(self, targets: Sequence[Target], *, failed: bool = False) -> list[JobView]:
        """Give jobs that ended without success a new attempt, and return them as pending.

        Jobs that were skipped because of them become pending too. With `failed`, targets that succeeded or have not
        ended are passed over; without it they raise InvalidInput.
        """
        found = self.jobs(targets)
        wrong = [job for job in found if not job.state.terminal or job.state.value == "succeeded"]
        if wrong and not failed:
            raise InvalidInput(
                f"Job {wrong[0].id} ({wrong[0].name}) is {wrong[0].state.value}, so there is nothing to try again. "
                "--failed passes such jobs over."
            )
        for job in found:
            still = [p for p in job.parents if p.kind.impossible(p.state) and p.job_id not in {j.id for j in found}]
            if job.state is JobState.SKIPPED and still and not failed:
                raise InvalidInput(
                    f"Job {job.id} ({job.name}) was skipped because {still[0].name} ({still[0].job_id}) is "
                    f"{still[0].state.value}: retry that one, and this one runs too."
                )
        ids = [job.id for job in found if job not in wrong]
        changed = self._wish(ids, lambda c, some: wishes.wish_retry(c, self._clock.now(), some))
        self._settled([job.id for job in changed])
        return self.jobs([job.id for job in changed])

    def _wish(self, targets: Sequence[Target], wish: Callable[..., list[int]]) -> list[JobView]:
        ids = [job.id for job in self.jobs(targets)]
        try:
            changed = self._write_wish(wish, ids)
        except StoreError:
            # A disk that a job fills must not keep us from ending the job.
            if not self._dir.release_reserve():
                raise
            changed = self._write_wish(wish, ids)
        if changed:
            control.ensure(self._dir)
        return self.jobs(changed)

    def _write_wish(self, wish: Callable[..., list[int]], ids: Sequence[int]) -> list[int]:
        with self._store.write() as connection:
            return wish(connection, ids)

    def _settled(self, ids: Sequence[int], patience_s: float = 10.0) -> None:
        """Wait until the daemon has fulfilled these jobs' wishes."""
        deadline = time.monotonic() + patience_s
        while time.monotonic() < deadline:
            with self._store.read() as connection:
                if wishes.count_open(connection, ids) == 0:
                    return
            time.sleep(POLL_S / 5)

    # ------------------------------------------------------------------------------------------------ waiting

    def wait(self, targets: Sequence[Target], *, timeout_s: float | None = None) -> list[JobView]:
        """Wait until these jobs have ended, or `timeout_s` seconds have passed; return them as they are then."""
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        next_look_at_daemon = 0.0
        while True:
            found = self.jobs(targets)
            if all(job.state.terminal for job in found):
                return found
            now = time.monotonic()
            if deadline is not None and now >= deadline:
                return found
            if now >= next_look_at_daemon:
                control.ensure(self._dir)
                next_look_at_daemon = now + 5
            time.sleep(POLL_S if deadline is None else min(POLL_S, max(0.0, deadline - now)))

    # ------------------------------------------------------------------------------------------------ the daemon

    def daemon(self) -> Holder | None:
        """The daemon that runs, None when there is none."""
        return control.status(self._dir)

    def warning(self, unfinished: bool) -> str | None:
        """What a reader must know about jobs that have not ended while no daemon runs; None when all is well."""
        if not unfinished or self.daemon() is not None:
            return None
        return f"No daemon runs: this is the last known state. `{PROGRAM} daemon start` goes on from it."

    def start_daemon(self) -> Holder:
        """Make sure that the daemon runs, and return it."""
        return control.ensure(self._dir)

    def stop_daemon(self) -> Holder | None:
        """End the daemon; jobs go on. Return the one that ended, None when none ran."""
        return control.stop(self._dir)


def check_jobs(configs: Sequence[JobConfig], project: Path) -> list[JobConfig]:
    """Refuse what can never run on this machine, before it is stored; return the jobs with the folders they run in.

    Raises InvalidInput.
    """
    settings = Settings.load(project)
    gpus = find_gpus(settings) if any(config.gpus for config in configs) else ()
    room = Capacity(usable_cpus(settings), gpus, settings.max_parallel)
    return [_checked(config, room) for config in configs]


def _checked(config: JobConfig, room: Capacity) -> JobConfig:
    """Refuse what can never run here, before it is stored; fix the folder it runs in."""
    if config.remote is not None:
        raise InvalidInput(
            f"The job {config.name!r} is remote, and this version of metta-jobs runs jobs on this machine only: say "
            "remote=false."
        )
    cwd = (config.cwd or Path.cwd()).expanduser().resolve()
    if not cwd.is_dir():
        raise InvalidInput(f"The job {config.name!r} is to run in {cwd}, which is no folder.")
    path = config.env.get("PATH", os.environ.get("PATH"))
    program = config.command[0]
    candidate = str(cwd / program) if "/" in program and not Path(program).is_absolute() else program
    if shutil.which(candidate, path=path) is None:
        raise InvalidInput(
            f"The command {program!r} of the job {config.name!r} was not found, or may not be executed. "
            "Check its spelling and your PATH."
        )
    if reason := room.never_fits(config.gpus, config.cpus):
        raise InvalidInput(f"The job {config.name!r} can never start: {reason}.")
    return config.model_copy(update={"cwd": cwd})
