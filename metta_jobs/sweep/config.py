"""What a person says of a sweep. The whole of it is stored with the sweep, so that nothing changes it on the way."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PositiveInt,
    ValidationError,
    create_model,
    field_validator,
    model_validator,
)

from metta_jobs.errors import InvalidInput, MettaError
from metta_jobs.job import Name
from metta_jobs.model import Model
from metta_jobs.optimizer.settings import OptimizerSettings
from metta_jobs.optimizer.space import Space
from metta_jobs.policy import RetryPolicy
from metta_jobs.recipe.patch import flattened
from metta_jobs.refusal import explain

_OF_SECTION = ("metric", "goal", "method")
COSTS = ("seconds", "gpu_hours", "dollars")

if TYPE_CHECKING:

    class Protein(OptimizerSettings):
        """The optimiser's settings by the names that Protein's users know."""

else:
    Protein = create_model(
        "Protein",
        __base__=Model,
        __doc__="The optimiser's settings by the names that Protein's users know.",
        **{
            name: (field.rebuild_annotation(), field)
            for name, field in OptimizerSettings.model_fields.items()
            if name not in _OF_SECTION
        },
    )


class SweepSection(Model):
    """What is searched, and how.

    `metric` is a name that the training (or its evaluation) logs; of its values `aggregate` makes the score: the last,
    their mean, max or min, or "tail", the mean over the last tenth of the steps. `goal` is maximize or minimize.
    `cost` is what a trial costs: seconds that its training ran, gpu_hours, dollars, or "metric:NAME". `method` is one
    of the optimiser's, `protein` its settings, `parameters` the space (docs/sweeps-space.md), `seed` the optimiser's.
    """

    metric: str = "overview/reward"
    goal: Literal["maximize", "minimize"] = "maximize"
    aggregate: Literal["last", "mean", "max", "min", "tail"] = "last"
    cost: str = "seconds"
    method: str = "protein"
    protein: Protein = Field(default_factory=Protein)
    parameters: dict[str, Any] = {}
    seed: int = Field(default=0, ge=0)

    @model_validator(mode="before")
    @classmethod
    def _moved_up(cls, data: Any) -> Any:
        """`protein.metric` and its like are settings of the section: some write them there."""
        protein = data.get("protein") if isinstance(data, Mapping) else None
        if not isinstance(protein, Mapping):
            return data
        moved = {key: protein[key] for key in _OF_SECTION if key in protein}
        for key, value in moved.items():
            if data.get(key, value) != value:
                raise ValueError(f"{key} is given twice: {data[key]!r} and, within protein, {value!r}")
        return {**data, **moved, "protein": {key: value for key, value in protein.items() if key not in moved}}

    @field_validator("parameters")
    @classmethod
    def _nested(cls, parameters: dict[str, Any]) -> dict[str, Any]:
        """Nested, however they were written, so that overrides by path find them."""
        try:
            return Space.from_dict(parameters).to_dict()
        except MettaError:
            return parameters  # the sweep as a whole is refused, which may say of which phase

    @field_validator("cost")
    @classmethod
    def _known_cost(cls, cost: str) -> str:
        if cost not in COSTS and not (cost.startswith("metric:") and len(cost) > len("metric:")):
            raise ValueError(f"a cost is {', '.join(COSTS)}, or metric:NAME for a metric that the training logs")
        return cost

    @field_validator("method")
    @classmethod
    def _known_method(cls, method: str) -> str:
        return OptimizerSettings(method=method).method

    def optimizer_settings(self, **changes: Any) -> OptimizerSettings:
        """The settings as the optimiser takes them."""
        given = self.protein.model_dump() | {name: getattr(self, name) for name in _OF_SECTION} | changes
        return OptimizerSettings.model_validate(given)

    def space(self) -> Space:
        """The search space. Raises InvalidInput."""
        return Space.from_dict(self.parameters)


class Phase(Model):
    """A stretch of a sweep: for `num_runs` completed runs (the last one: until the end), `sweep` is merged over the
    sweep's own section: protein settings, parameters."""

    name: Name
    num_runs: PositiveInt | None = None
    sweep: dict[str, Any] = {}


class Schedule(Model):
    """The phases, in order."""

    phases: tuple[Phase, ...] = ()

    @field_validator("phases")
    @classmethod
    def _in_order(cls, phases: tuple[Phase, ...]) -> tuple[Phase, ...]:
        if twice := [name for name, count in Counter(phase.name for phase in phases).items() if count > 1]:
            raise ValueError(f"the phase {twice[0]!r} is named twice")
        if endless := [phase.name for phase in phases[:-1] if phase.num_runs is None]:
            raise ValueError(f"the phase {endless[0]!r} needs num_runs: only the last one may go on until the end")
        return phases


class Budget(Model):
    """When a sweep has done enough; whatever is reached first. None: no limit.

    `trials` counts those that ended by their own doing or are open; `cost_seconds` running time, `gpu_hours` and
    `dollars` what all their jobs used; `wall_seconds` time since the sweep began; `no_improvement` trials since the
    best one.
    """

    trials: PositiveInt | None = None
    cost_seconds: float | None = Field(default=None, gt=0)
    gpu_hours: float | None = Field(default=None, gt=0)
    dollars: float | None = Field(default=None, gt=0)
    wall_seconds: float | None = Field(default=None, gt=0)
    no_improvement: PositiveInt | None = None


class EarlyStopping(Model):
    """Successive halving without waiting (ASHA: Li et al. 2020, A System for Massively Parallel Hyperparameter Tuning).

    At `min_steps`, `min_steps` * `eta`, … steps a trial goes on only when its metric is among the best 1 / `eta` of
    those that have come so far. The optimiser is told that it was stopped, and what it had reached.
    """

    min_steps: float = Field(gt=0)
    eta: float = Field(default=3, gt=1)


class SweepSettings(Model):
    """How the sweep runs.

    `max_parallel` trials at a time. After `max_consecutive_failures` in a row it ends (0: never). A lost trial is tried
    again after `rollout_retry_delay` seconds, and as long after a failed one none is asked for. An import takes the
    newest `max_observations_to_load` observations.
    """

    max_parallel: PositiveInt = 1
    max_consecutive_failures: int = Field(default=0, ge=0)
    rollout_retry_delay: float = Field(default=5, ge=0)
    max_observations_to_load: int = Field(default=250, ge=0)
    budget: Budget = Budget()
    early_stopping: EarlyStopping | None = None


class Evaluation(Model):
    """A job that scores each trial when its training has succeeded: `module` with `args`, in which {checkpoint} is the
    newest checkpoint of the training and {folder} its folder; with limits of its own."""

    module: str
    args: tuple[str, ...] = ()
    gpus: float = Field(default=0, ge=0)
    cpus: float = Field(default=1, ge=0)
    memory_gb: float = Field(default=0, ge=0)
    timeout_s: float | None = Field(default=None, gt=0)


class Validation(Model):
    """At the end the best `top` are run again, each with `seeds` (a number, or a list of them)."""

    top: PositiveInt = 5
    seeds: PositiveInt | tuple[int, ...] = 3


with warnings.catch_warnings():
    # `validate` is what people write, and the method that it hides is one that pydantic itself has given up.
    warnings.simplefilter("ignore", UserWarning)

    class SweepConfig(BaseModel):
        """A sweep: trials of `module` ("arena.train"), each a job of the group `name`.

        Each trial gets `args` (key=value), `sweep_job_overrides` (by dotted path) and the suggested parameters.
        `sim_name`=arena says arena.train where `module` is not given. `evaluation` scores trials in a job of its own;
        `validate` runs the best again. `gpus` (remotely 1 by default), `cpus`, `memory_gb`, `timeout_s` are a trial's;
        `remote` runs it through SkyPilot on `nodes` nodes, `spot` or not, on `infra`; `sky` holds other fields of
        RemoteConfig. `retry` says when a trial is tried again; by default when it was lost or preempted.
        """

        model_config = ConfigDict(extra="forbid", validate_assignment=True)

        name: Name | None = None
        module: str = ""
        sim_name: str | None = None
        args: list[str] = []
        sweep_job_overrides: dict[str, Any] = {}
        sweep: SweepSection = SweepSection()
        schedule: Schedule = Schedule()
        settings: SweepSettings = SweepSettings()
        evaluation: Evaluation | None = None
        validate: Validation | None = None  # type: ignore[assignment]
        gpus: float | None = Field(default=None, ge=0)
        cpus: float | None = Field(default=None, ge=0)
        memory_gb: float | None = Field(default=None, ge=0)
        timeout_s: float | None = Field(default=None, gt=0)
        remote: bool = True
        nodes: PositiveInt = 1
        spot: bool | None = None
        infra: str | None = None
        sky: dict[str, Any] = {}
        retry: RetryPolicy | None = None
        secrets: tuple[str, ...] = ()
        skip_git_check: bool = False

        @model_validator(mode="after")
        def _whole(self) -> SweepConfig:
            module = self.module or (f"{self.sim_name}.train" if self.sim_name else "")
            if not module:
                raise ValueError("say what the trials run: module=arena.train, or sim_name=arena")
            for phase in (None, *self.schedule.phases):
                space = _space_of(self, phase)
                if not space.dimensions:
                    raise ValueError("sweep.parameters has nothing to search: give it a distribution")
                fixed = dict(flattened(self.sweep_job_overrides))
                if both := [one.path for one in space.dimensions if one.path in fixed]:
                    raise ValueError(f"{both[0]} is in sweep.parameters and in sweep_job_overrides: give it one way")
            return self

        @property
        def target(self) -> str:
            """The recipe's function that a trial runs."""
            return self.module or f"{self.sim_name}.train"

        @property
        def minimizes(self) -> bool:
            """True when lower scores are better."""
            return self.sweep.goal == "minimize"

        @property
        def trials_wanted(self) -> int | None:
            """How many trials the budget allows, else as many as the phases say together; None: no limit."""
            phases = self.schedule.phases
            if self.settings.budget.trials is not None or not phases or phases[-1].num_runs is None:
                return self.settings.budget.trials
            return sum(phase.num_runs or 0 for phase in phases)

        def section(self, phase: Phase | None) -> SweepSection:
            """The search of a phase: what it says, merged over the sweep's own."""
            if phase is None:
                return self.sweep
            try:
                return SweepSection.model_validate(_merged(self.sweep.model_dump(), phase.sweep))
            except ValidationError as error:
                said = explain(error, SweepSection)
                raise ValueError(f"schedule.phases: in the phase {phase.name!r}, {said}") from error

        def definition(self) -> dict[str, Any]:
            """All of it as plain data, as it is stored."""
            return self.model_dump(mode="json")


def _space_of(config: SweepConfig, phase: Phase | None) -> Space:
    where = "sweep.parameters" if phase is None else f"schedule.phases: in the phase {phase.name!r}, sweep.parameters"
    try:
        return config.section(phase).space()
    except MettaError as error:
        raise ValueError(f"{where}: {error}") from error


def load(definition: Mapping[str, Any]) -> SweepConfig:
    """A stored definition. Raises InvalidInput where it cannot be one."""
    try:
        return SweepConfig.model_validate(definition)
    except ValueError as error:
        raise InvalidInput(f"The sweep's stored definition cannot be used: {error}") from error


def _merged(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Nested data with other data put over it; another distribution replaces the one that was there whole."""
    new = dict(base)
    for key, value in over.items():
        head, dot, rest = key.partition(".")
        old = new.get(key)
        if key not in new and dot and isinstance(new.get(head), Mapping):
            new[head] = _merged(new[head], {rest: value})
        elif isinstance(old, Mapping) and isinstance(value, Mapping) and not _is_another(old, value):
            new[key] = _merged(old, value)
        else:
            new[key] = value
    return new


def _is_another(old: Mapping[str, Any], new: Mapping[str, Any]) -> bool:
    return "distribution" in new and new["distribution"] != old.get("distribution")
