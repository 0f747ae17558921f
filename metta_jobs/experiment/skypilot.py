"""SkyPilot as programs and notebooks ask for it: this queue's remote jobs, thin and typed."""

from __future__ import annotations

from collections.abc import Sequence
from types import TracebackType
from typing import Self

from metta_jobs.errors import InvalidInput, MettaError
from metta_jobs.job import JobConfig
from metta_jobs.manager import JobManager
from metta_jobs.manager.preflight import Finding, preflight
from metta_jobs.manager.sky import Sky
from metta_jobs.remote import RemoteConfig
from metta_jobs.views import GroupView, JobView

#: A preview waits this long (seconds) for a price, most of which SkyPilot takes to start.
PRICE_S = 20.0


def get_skypilot_service(manager: JobManager | None = None) -> SkypilotService:
    """The service of this project's queue, or of the manager's. It may be used in a `with` block."""
    return SkypilotService(manager)


class SkypilotService:
    """Remote jobs of one queue. What it says of them comes from the queue, which the daemon keeps up to date: only
    `preflight` and `hourly_price` ask SkyPilot itself, and take seconds."""

    def __init__(self, manager: JobManager | None = None) -> None:
        self._own = manager is None
        self._manager = JobManager() if manager is None else manager

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the queue; the jobs go on."""
        if self._own:
            self._manager.close()

    def get_running_jobs(self) -> list[JobView]:
        """The jobs that are being launched or run through SkyPilot, by id."""
        live, _ = self._manager.owned()
        return [job for job in self._manager.jobs(sorted({job for job, _ in live})) if job.executor == "skypilot"]

    def get_job(self, job_id: int) -> JobView:
        """One remote job, with what SkyPilot says of it in `remote`. Raises UnknownName, InvalidInput."""
        job = self._manager.job(job_id)
        if job.executor != "skypilot":
            raise InvalidInput(f"Job {job.id} ({job.group}/{job.name}) runs on this machine, not through SkyPilot.")
        return job

    def launch(self, jobs: Sequence[JobConfig], group: str, *, skip_git_check: bool = False) -> GroupView:
        """Submit remote jobs to a group, after a preflight; return it. Raises InvalidInput, and nothing is stored."""
        if local := [job.name for job in jobs if job.remote is None]:
            raise InvalidInput(f"The job {local[0]!r} is not remote: give it remote=RemoteConfig(…).")
        self.preflight(jobs, skip_git_check=skip_git_check)
        return self._manager.submit(jobs, group=group)

    def cancel(self, job_ids: Sequence[int]) -> list[JobView]:
        """Ask for the end of remote jobs; they are KILLED when SkyPilot says that they are gone. Returns those that had
        not ended. Raises UnknownName, InvalidInput."""
        return self._manager.kill([self.get_job(job_id).id for job_id in job_ids])

    def preflight(self, jobs: Sequence[JobConfig], *, skip_git_check: bool = False) -> list[Finding]:
        """Look at all that would fail later, and return what was found. Raises InvalidInput with all problems at once.

        Jobs of this machine are passed over; without a remote one, SkyPilot is not asked.
        """
        return preflight(jobs, self._manager.state_dir, self._manager.project_dir, skip_git_check=skip_git_check)

    def hourly_price(self, remotes: Sequence[RemoteConfig]) -> tuple[list[float | None], str | None]:
        """US dollars an hour of each of these, all nodes together; None where SkyPilot knows none within seconds.

        The second value says why none is known, if SkyPilot could not be asked.
        """
        prices: dict[str, float | None] = {}
        try:
            with Sky(self._manager.state_dir, self._manager.project_dir) as sky:
                for remote in remotes:
                    key = str(remote.resources())
                    if key not in prices:
                        answer = sky.ask("price", timeout_s=PRICE_S, resources=remote.resources())
                        prices[key] = answer.get("hourly_usd")
        except MettaError as error:
            return [None] * len(remotes), str(error)
        each = [(prices[str(remote.resources())], remote.nodes) for remote in remotes]
        return [None if price is None else price * nodes for price, nodes in each], None
