"""ExperimentTool: parallel runs of one recipe's function, as jobs of one group."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Sequence
from datetime import datetime
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from pydantic import Field, PositiveInt, ValidationError, field_validator, model_validator

from metta_jobs.criteria import Criteria, HealthRules
from metta_jobs.display.watch import watch_group
from metta_jobs.errors import InvalidInput, MettaError, MissingExtra, UnknownName, nearest
from metta_jobs.executors.devices import find_gpus
from metta_jobs.experiment.sections import choose_sections
from metta_jobs.experiment.skypilot import get_skypilot_service
from metta_jobs.job import Dependency, JobConfig, Name
from metta_jobs.manager import JobManager
from metta_jobs.policy import GroupConfig, Hooks, RetryPolicy
from metta_jobs.recipe import build, split_argument, takes
from metta_jobs.refusal import explain
from metta_jobs.remote import RemoteConfig
from metta_jobs.settings import Settings
from metta_jobs.states import DependencyKind
from metta_jobs.tool import Tool

NOTEBOOK_JOB = "notebook"


class ExperimentTool(Tool):
    """Submit `runs` of `module` ("arena.train") as jobs of one group, show them live, leave a notebook.

    `args` are `key=value` arguments of every run; `args_per_run` maps a run to its own, which win. `seeds` (5, or
    [1, 2, 3]) makes each run a variant with one job a seed, "baseline.s1", "baseline.s2", …, each given `seed=N`: all
    variants' first seeds come first. `group` names the group; by default <recipe>_<function>_<date>_<time>. `gpus` is
    per run (remotely 1 by default; locally 1 where the machine has any), `timeout_s` limits a run's running time,
    `retry` says when it is tried again. `acceptance` is what its metrics must be at its end. `priority`,
    `max_parallel` (runs at a time), `max_failures` (then the rest is stopped), `on_end` (whom to tell) and `health`
    (rules for running jobs) are the group's. `remote` runs them through SkyPilot on `nodes` nodes each, `spot` or not
    (where there is spot), on `infra`; `sky` holds other fields of RemoteConfig (sky.cpus=4, sky.max_runtime_hours=12).
    `metrics_to_track` are keys for the monitor and the notebook, which goes to `notebook_path` or
    notebooks/<group>.ipynb and has `sections` (setup, state, launch, monitor, analysis, replays, log, scratch, export).

    All runs are submitted at once and run in parallel as far as there are slots. The notebook is a job of the group
    that waits for all runs to end, in whatever state, so it appears although the terminal was closed.
    """

    module: str
    runs: list[Name]
    args: list[str] = Field(default_factory=list)
    args_per_run: dict[str, list[str]] = Field(default_factory=dict)
    seeds: int | list[int] | None = None
    group: Name | None = None
    gpus: float | None = Field(default=None, ge=0)
    nodes: PositiveInt = 1
    spot: bool = True
    remote: bool = True
    infra: str | None = None
    sky: dict[str, Any] = Field(default_factory=dict)
    skip_git_check: bool = False
    timeout_s: float | None = Field(default=None, gt=0)
    retry: RetryPolicy | None = None
    priority: int = 0
    max_parallel: PositiveInt | None = None
    max_failures: PositiveInt | None = None
    on_end: Hooks = ()
    acceptance: Criteria = ()
    health: HealthRules = ()
    metrics_to_track: list[str] = Field(default_factory=lambda: ["overview/reward", "overview/sps"])
    generate_notebook: bool = True
    notebook_path: Path | None = None
    sections: list[str] = Field(default_factory=list)

    @field_validator("sections")
    @classmethod
    def _sections(cls, sections: list[str]) -> list[str]:
        try:
            return list(choose_sections(sections)) if sections else []
        except UnknownName as error:
            raise ValueError(str(error).rstrip(".")) from None

    @field_validator("runs")
    @classmethod
    def _runs(cls, runs: list[str]) -> list[str]:
        if not runs:
            raise ValueError("an experiment needs at least one run")
        if twice := [name for name, count in Counter(runs).items() if count > 1]:
            raise ValueError(f"the run {twice[0]!r} is named twice")
        if NOTEBOOK_JOB in runs:
            raise ValueError(
                f"{NOTEBOOK_JOB!r} is the name of the job that writes the notebook; name the run otherwise"
            )
        return runs

    @field_validator("seeds", mode="before")
    @classmethod
    def _seeds(cls, seeds: Any) -> Any:
        numbers = seeds if isinstance(seeds, list | tuple) else [seeds]
        if any(isinstance(number, bool) for number in numbers):
            raise ValueError("seeds are whole numbers: seeds=5 for five of them, or seeds=[1,2,3]")
        return list(seeds) if isinstance(seeds, tuple) else seeds

    @field_validator("seeds")
    @classmethod
    def _some_seeds(cls, seeds: int | list[int] | None) -> int | list[int] | None:
        if isinstance(seeds, int) and seeds < 1:
            raise ValueError(f"seeds={seeds} makes no run: say how many seeds, or name them, as in seeds=[1,2,3]")
        if isinstance(seeds, list):
            if not seeds:
                raise ValueError("seeds=[] makes no run: say how many seeds, or name them, as in seeds=[1,2,3]")
            if min(seeds) < 0:
                raise ValueError(f"seed {min(seeds)} is negative, which random generators refuse")
            if twice := [seed for seed, count in Counter(seeds).items() if count > 1]:
                raise ValueError(f"seed {twice[0]} is named twice")
        return seeds

    @model_validator(mode="after")
    def _args_belong_to_runs(self) -> ExperimentTool:
        for name in self.args_per_run:
            if name not in self.runs:
                raise ValueError(f"args_per_run names {name!r}, which is none of the runs.{nearest(name, self.runs)}")
        return self

    def name_origin(self, slug: str) -> None:
        """Note which recipe made the tool, and name the group after it when nobody has named it."""
        super().name_origin(slug)
        self.group = self.group or _new_group_name(slug)

    def jobs(self, project: Path) -> list[JobConfig]:
        """One job a run, or a run and seed, and one for the notebook.

        Every run's arguments are checked against the recipe; raises InvalidInput naming the run.
        """
        group = self.group or _new_group_name(f"{self.module.rpartition('.')[0].replace('.', '_')}_experiment")
        self.group = group
        gpus = self._local_gpus(project)
        jobs = [self._job(name, seed, project, gpus) for seed in self._seed_list() for name in self.runs]
        return [*jobs, self._notebook_job(group, project, jobs)] if self.generate_notebook else jobs

    def run(self) -> int:
        """Submit, watch, and tell how it ended: 0 when every run succeeded, 1 otherwise, 130 when left with Ctrl-C."""
        with JobManager() as manager:
            group = self.submit(manager)
            return watch_group(manager, group)

    def submit(self, manager: JobManager) -> str:
        """Submit the runs and the notebook as a new group; return its name."""
        configs = self.jobs(manager.project_dir)
        if self.remote:
            get_skypilot_service(manager).preflight(configs, skip_git_check=self.skip_git_check)
        assert self.group is not None
        options = GroupConfig(
            priority=self.priority,
            max_parallel=self.max_parallel,
            max_failures=self.max_failures,
            on_end=self.on_end,
            health=self.health,
        )
        return manager.submit(configs, group=self.group, new_group=True, options=options).name

    def _seed_list(self) -> list[int] | list[None]:
        if self.seeds is None:
            return [None]
        return self.seeds if isinstance(self.seeds, list) else list(range(1, self.seeds + 1))

    def _job(self, run: str, seed: int | None, project: Path, gpus: float) -> JobConfig:
        try:
            arguments = self._arguments(run)
            if seed is not None:
                self._check_takes_seed(arguments, project)
                arguments = [*arguments, f"seed={seed}"]
            build(self.module, arguments, project)
        except MettaError as error:
            raise type(error)(f"Run {run!r}: {error}") from error
        return JobConfig(
            name=run if seed is None else f"{run}.s{seed}",
            command=(sys.executable, "-m", "metta_jobs", "run", self.module, *arguments),
            cwd=project,
            gpus=gpus,
            timeout_s=self.timeout_s,
            retry=self.retry,
            metrics=tuple(self.metrics_to_track),
            acceptance=self.acceptance,
            remote=self._elsewhere() if self.remote else None,
            variant=None if seed is None else run,
            seed=seed,
        )

    def _arguments(self, run: str) -> list[str]:
        """A run's own arguments, and those of every run that its own say nothing of."""
        own = self.args_per_run.get(run, [])
        said = {split_argument(argument)[0] for argument in own}
        return [*(argument for argument in self.args if split_argument(argument)[0] not in said), *own]

    def _check_takes_seed(self, arguments: list[str], project: Path) -> None:
        """Raise InvalidInput where a run cannot be given its seed."""
        if any(split_argument(argument)[0] == "seed" for argument in arguments):
            raise InvalidInput("its arguments set seed, and so does seeds: give it one way.")
        if not takes(self.module, arguments, "seed", project):
            raise InvalidInput(
                f"seeds gives every run a seed=N, and {self.module} takes none: give that function a parameter "
                "`seed: int`, and hand it to what it returns."
            )

    def _elsewhere(self) -> RemoteConfig:
        asked: dict[str, Any] = {"nodes": self.nodes, "gpus": self.gpus, "infra": self.infra}
        if "spot" in self.model_fields_set:
            asked["spot"] = self.spot
        try:
            return RemoteConfig(**{key: value for key, value in asked.items() if value is not None} | self.sky)
        except ValidationError as error:
            loc = error.errors()[0]["loc"]
            path = "" if loc and loc[0] in asked and loc[0] not in self.sky else "sky."
            raise InvalidInput(explain(error, RemoteConfig, path=path)) from error

    def _local_gpus(self, project: Path) -> float:
        if self.remote:
            return 0
        if self.gpus is not None:
            return self.gpus
        return 1 if find_gpus(Settings.load(project)) else 0

    def _notebook_job(self, group: str, project: Path, runs: Sequence[JobConfig]) -> JobConfig:
        if find_spec("nbformat") is None or find_spec("matplotlib") is None:
            raise MissingExtra(
                "The notebook needs packages that are not installed: install metta-jobs[notebook], or say "
                "generate_notebook=false."
            )
        command = [sys.executable, "-m", "metta_jobs.notebook", group]
        if self.notebook_path is not None:
            path = self.notebook_path.expanduser()
            if path.suffix != ".ipynb":
                raise InvalidInput(f"notebook_path={path}: a notebook's name ends with .ipynb.")
            command += ["--output", str(path)]
        if self.sections:
            command += ["--sections", ",".join(self.sections)]
        return JobConfig(
            name=NOTEBOOK_JOB,
            kind="notebook",
            command=tuple(command),
            cwd=project,
            depends_on=tuple(Dependency(job=run.name, kind=DependencyKind.AFTERANY) for run in runs),
            metrics=tuple(self.metrics_to_track),
        )


def _new_group_name(origin: str) -> str:
    """<recipe>_<function>_<date>_<time>, in local time."""
    return f"{origin}_{datetime.now().astimezone():%Y%m%d_%H%M%S}"
