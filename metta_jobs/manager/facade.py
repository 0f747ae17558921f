"""JobManager: everything that people and programs do with the queue."""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import TypeVar

from metta_jobs.daemon import control
from metta_jobs.daemon.lock import Holder
from metta_jobs.environment import environment_id, split
from metta_jobs.errors import InvalidInput, StoreError
from metta_jobs.job import JobConfig, check_name
from metta_jobs.manager.checks import changed, check_jobs
from metta_jobs.manager.hooks import check_hooks
from metta_jobs.manager.look import Reader, Target, Targets, several
from metta_jobs.manager.orphans import Orphan, taken_back
from metta_jobs.manager.shipping import ship
from metta_jobs.paths import find_project
from metta_jobs.policy import GroupConfig, Hook
from metta_jobs.recipe.build import override, split_argument
from metta_jobs.states import JobState
from metta_jobs.store import capacity, edit, queue, read, wishes
from metta_jobs.store import submit as store_submit
from metta_jobs.store.capacity import Machine
from metta_jobs.views import GroupView, JobView

POLL_S = 0.1
Result = TypeVar("Result")


class JobManager(Reader):
    """The queue of one project.

    `state_dir` is the folder of the state; by default $METTA_JOB_STATE, else job_state/ in the project (the nearest
    parent folder with a pyproject.toml or a job_state/). Opening it creates or migrates the database when needed;
    without `create`, a folder that holds no queue raises NoState.
    An instance belongs to one thread.

        >>> manager = JobManager()
        >>> group = manager.submit([JobConfig(name="hello", command=("echo", "hi"))], group="first")
        >>> manager.wait(["first"])
    """

    # ------------------------------------------------------------------------------------------------ putting in

    def submit(
        self,
        configs: Sequence[JobConfig],
        *,
        group: str,
        new_group: bool = False,
        options: GroupConfig | None = None,
    ) -> GroupView:
        """Store jobs in one transaction, make sure that the daemon runs, and return their group.

        When this returns, the jobs are on disk. `new_group` refuses a group that exists; `options` say how the group
        shares the machine. Raises InvalidInput, UnknownName, DependencyCycle, AlreadyExists or StoreError, and then
        nothing is stored.
        """
        if not configs:
            raise InvalidInput("There is nothing to submit: the list of jobs is empty.")
        try:
            check_name(group)
        except ValueError as error:
            raise InvalidInput(f"The group: {error}.") from error
        hooks = {hook for on_end in [*(c.on_end for c in configs), options and options.on_end] for hook in on_end or ()}
        self._check_hooks(hooks, os.environ)
        checked = check_jobs(configs, self.project_dir, self._machine())
        checked = ship(checked, self.project_dir, self._dir.root / "snapshots")
        variables, secrets = split(os.environ, _secret_names(configs, options))
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
                options=options,
            )
        control.ensure(self._dir)
        return self.group(group)

    def free_name(self, group: str, stem: str) -> str:
        """Return `stem`, or `stem-2`, …: a name that no job of `group` has."""
        with self._store.read() as connection:
            return store_submit.free_name(connection, group, stem)

    # ------------------------------------------------------------------------------------------------ wishing

    def kill(self, targets: Targets, *, force: bool = False) -> list[JobView]:
        """Ask for the end of these jobs: TERM to their process trees, KILL after their grace (at once with `force`).

        Pending ones are cancelled, ended ones left alone. Returns those that had not ended; they are KILLED when their
        processes are seen gone (`wait` waits for that).
        """
        ids = self._known(targets)
        doomed = self._write(lambda c: wishes.wish_kill(c, self._clock.now(), ids, force=force))
        if doomed:
            control.ensure(self._dir)
        return self.jobs(doomed)

    def retry(self, targets: Targets, *, failed: bool = False, changes: Sequence[str] = ()) -> list[JobView]:
        """Give jobs that ended without success a new attempt, and return them as pending.

        Jobs that were skipped because of them become pending too. With `failed`, targets that succeeded or have not
        ended are passed over; without it they raise InvalidInput. `changes` are `key=value` for their configuration:
        limits and slots of the job, or arguments of the recipe that it runs.
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
        new = self._changed(ids, changes)
        again = self._write(lambda connection: self._retry(connection, ids, new, changes))
        if again:
            control.ensure(self._dir)
            self._settled(again)
        return self.jobs(again)

    def adopt(self, orphan: Orphan) -> JobView:
        """Have a managed job that nobody looks after be the next attempt of the job that its name tells.

        Raises UnknownName when there is no such job, InvalidInput when it lives or has succeeded.
        """
        job = self.job(orphan.job_id)
        with self._store.read() as connection:
            config = taken_back(orphan, job, edit.config_of(connection, job.id), self._dir.root)
        said = f"managed job {orphan.managed_id} is taken back"
        self._write(lambda connection: self._retry(connection, [job.id], {job.id: config}, [said]))
        control.ensure(self._dir)
        self._settled([job.id])
        return self.job(job.id)

    def _retry(
        self, connection: sqlite3.Connection, ids: list[int], new: dict[int, JobConfig], said: Sequence[str]
    ) -> list[int]:
        now = self._clock.now()
        again = wishes.wish_retry(connection, now, ids)
        for job_id, config in new.items():
            if job_id in again:
                edit.edit_job(connection, now, job_id, config, " ".join(said))
        return again

    # ------------------------------------------------------------------------------------------------ changing

    def edit(self, job_id: int, changes: Sequence[str]) -> JobView:
        """Change a pending job by `key=value`: its slots, limits, environment, command, or its recipe's arguments.

        Raises InvalidInput when it is not pending any more, and then nothing is changed.
        """
        job = self.job(job_id)
        if job.state is JobState.PENDING:
            if not changes:
                return job
            config = self._changed([job.id], changes)[job.id]
            said = " ".join(changes)
            if self._write(lambda c: edit.edit_job(c, self._clock.now(), job.id, config, said, pending_only=True)):
                control.ensure(self._dir)
                return self.job(job.id)
            job = self.job(job_id)
        if job.state is JobState.SUCCEEDED:
            how = "Submit another one."
        elif job.state.terminal:
            how = f"`metta job retry {job.id} key=value` runs it again, changed."
        else:
            how = f"Kill it first; `metta job retry {job.id} key=value` then runs it again, changed."
        raise InvalidInput(f"Job {job.id} ({job.name}) is {job.state.value}; only a pending job can be edited. {how}")

    def edit_group(self, name: str, changes: Sequence[str]) -> GroupView:
        """Change how a group shares the machine by `key=value`: priority, max_parallel, max_failures, on_end,
        health.

        None (or null) takes a limit away. Raises UnknownName or InvalidInput.
        """
        view = self.group(name)
        config = override(GroupConfig(), changes)
        values = {key: getattr(config, key) for key in (split_argument(text)[0].split(".")[0] for text in changes)}
        if config.on_end and view.jobs:  # told with what the submitter of its newest job had
            self._check_stored_hooks(config.on_end, view.jobs[-1].id)
        with self._store.write() as connection:
            group_id = read.group_id(connection, view.name)
            assert group_id is not None
            edit.set_columns(connection, self._clock.now(), group_id, edit.columns(values))
        control.ensure(self._dir)
        return self.group(name)

    def move(self, targets: Targets, *, before: Target | None = None) -> list[JobView]:
        """Put pending jobs into the queue just before another pending job, or first of all; return those moved.

        They come in the order given, those of a group by id, and get that job's priority. Raises InvalidInput when none
        of them is pending, and UnknownName.
        """
        other = None if before is None else self.one(before)
        movable = {job.id for job in self.jobs(targets) if job.state is JobState.PENDING and job != other}
        given = dict.fromkeys(job_id for target in several(targets) for job_id in self.ids(target))
        ids = [job_id for job_id in given if job_id in movable]
        if other is not None and other.state is not JobState.PENDING:
            raise InvalidInput(
                f"Job {other.id} ({other.name}) is {other.state.value}, not pending, so it has no place in the queue."
            )
        if not ids:
            raise InvalidInput("None of these jobs is pending, so there is nothing to move.")
        moved = self._write(
            lambda c: edit.place_jobs(c, self._clock.now(), ids, before=None if other is None else other.id)
        )
        control.ensure(self._dir)
        return self.jobs(moved)

    def pause(self, group: str) -> bool:
        """Start no more jobs of a group; those that run go on. False when it was paused already. Raises UnknownName."""
        return self._pause(group, paused=True)

    def resume(self, group: str) -> bool:
        """Start jobs of a paused group again; False when it was not paused. Raises UnknownName."""
        return self._pause(group, paused=False)

    def _pause(self, group: str, *, paused: bool) -> bool:
        with self._store.write() as connection:
            group_id = read.group_id(connection, group)
            if group_id is None:
                raise self._no_group(group, read.group_names(connection))
            done = edit.pause_group(connection, self._clock.now(), group_id, paused=paused)
        control.ensure(self._dir)
        return done

    def _changed(self, ids: Sequence[int], changes: Sequence[str]) -> dict[int, JobConfig]:
        if not changes:
            return {}
        with self._store.read() as connection:
            stored = {job_id: edit.config_of(connection, job_id) for job_id in ids}
        machine = self._machine()
        new = {job_id: changed(config, changes, self.project_dir, machine) for job_id, config in stored.items()}
        for job_id, config in new.items():
            if config.on_end and config.on_end != stored[job_id].on_end:
                self._check_stored_hooks(config.on_end, job_id)
        return new

    def _check_stored_hooks(self, hooks: Sequence[Hook], job_id: int) -> None:
        """Refuse hooks that could not tell of the end of a stored job."""
        with self._store.read() as connection:
            variables, hidden = queue.environment_of(connection, job_id)
        self._check_hooks(hooks, variables, hidden)

    def _check_hooks(
        self, hooks: Iterable[Hook], variables: Mapping[str, str], hidden: Collection[str] = frozenset()
    ) -> None:
        if hooks:
            check_hooks(hooks, find_project(self._dir.root.parent), variables, hidden)

    def _machine(self) -> Machine | None:
        """What the running daemon gives out, whatever this shell says of it; None when none runs."""
        if self.daemon() is None:
            return None
        with self._store.read() as connection:
            return capacity.load(connection)

    def _known(self, targets: Targets) -> list[int]:
        return [job.id for job in self.jobs(targets)]

    def _write(self, act: Callable[[sqlite3.Connection], Result]) -> Result:
        """Change something, though a job may have filled the disk: that must not keep us from ending the job."""
        try:
            with self._store.write() as connection:
                return act(connection)
        except StoreError:
            if not self._dir.release_reserve():
                raise
            with self._store.write() as connection:
                return act(connection)

    def _settled(self, ids: Sequence[int], patience_s: float = 10.0) -> None:
        """Wait until the daemon has fulfilled these jobs' wishes; one that dies meanwhile is followed by another."""
        begun = time.monotonic()
        next_look_at_daemon = begun + 1
        while (now := time.monotonic()) < begun + patience_s:
            with self._store.read() as connection:
                if wishes.count_open(connection, ids) == 0:
                    return
            if now >= next_look_at_daemon:
                control.ensure(self._dir)
                next_look_at_daemon = now + 1
            time.sleep(POLL_S / 5)

    # ------------------------------------------------------------------------------------------------ waiting

    def wait(self, targets: Targets, *, timeout_s: float | None = None) -> list[JobView]:
        """Wait until these jobs have ended, or `timeout_s` seconds have passed; return them as they are then."""
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        next_look_at_daemon = 0.0
        ids = self._known(targets)
        while True:
            with self._store.read() as connection:
                open_ = read.any_unfinished(connection, ids)
            now = time.monotonic()
            if not open_ or (deadline is not None and now >= deadline):
                return self.jobs(ids)
            if now >= next_look_at_daemon:
                control.ensure(self._dir)
                next_look_at_daemon = now + 5
            time.sleep(POLL_S if deadline is None else min(POLL_S, max(0.0, deadline - now)))

    # ------------------------------------------------------------------------------------------------ the daemon

    def start_daemon(self) -> Holder:
        """Make sure that the daemon runs, and return it."""
        return control.ensure(self._dir)

    def stop_daemon(self) -> Holder | None:
        """End the daemon; jobs go on. Return the one that ended, None when none ran."""
        return control.stop(self._dir)


def _secret_names(configs: Sequence[JobConfig], options: GroupConfig | None) -> set[str]:
    """Variables that are secrets whatever they look like: those that jobs name, and addresses of webhooks."""
    hooks = [*((options and options.on_end) or ()), *(hook for config in configs for hook in config.on_end)]
    named = {
        name for config in configs for name in (*config.secrets, *(config.remote.secrets if config.remote else ()))
    }
    return named | {hook.webhook for hook in hooks if hook.webhook is not None}
