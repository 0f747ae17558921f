"""Any sampler of Optuna's through its ask and tell (Akiba et al. 2019, "Optuna")."""

from __future__ import annotations

import inspect
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np

from metta_jobs.errors import MissingExtra, UnknownName, nearest
from metta_jobs.optimizer.observations import Observation, Suggestion, place

if TYPE_CHECKING:
    from metta_jobs.optimizer.settings import OptimizerSettings
    from metta_jobs.optimizer.space import Space

#: What samplers are told beside their seed, where they know the word.
_WISHES = {"multivariate": True, "constant_liar": True, "warn_independent_sampling": False}
_ATTEMPTS = 50


class OptunaSampler:
    """A study in memory, over encoded axes: numbers in [0, 1] (logarithmic ones are so already), whole numbers by
    their place, categories as categories. Its state is replayed from what is told."""

    def __init__(self, space: Space, settings: OptimizerSettings, seed: int) -> None:
        try:
            import optuna
        except ImportError as error:
            raise MissingExtra("Optuna is not installed. Install it with: pip install 'metta-jobs[sweep]'.") from error
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        name = settings.method.removeprefix("optuna:")
        known = [word for word in optuna.samplers.__all__ if word.endswith("Sampler") and word != "BaseSampler"]
        if name not in known:
            raise UnknownName(
                f"Optuna has no sampler {name!r}.{nearest(name, known)} It has: {', '.join(sorted(known))}."
            )
        self._optuna, self._space, self._name, self._seed = optuna, space, name, seed
        self._distributions: dict[str, Any] = {}
        self._binned: set[str] = set()
        first = space.snap(np.zeros((1, len(space.dimensions))))[0]
        for dimension, lowest in zip(space.dimensions, first, strict=True):
            path, levels = dimension.path, dimension.levels
            if dimension.kind == "categorical":
                kind: Any = optuna.distributions.CategoricalDistribution(tuple(range(levels or 1)))
            elif levels is not None and abs(lowest - 0.5 / levels) < 1e-12:
                kind = optuna.distributions.IntDistribution(0, levels - 1)
                self._binned.add(path)
            else:  # a number, or whole numbers whose axis is not even
                kind = optuna.distributions.FloatDistribution(0.0, 1.0)
            self._distributions[path] = kind
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # samplers that Optuna calls experimental
            self._study = optuna.create_study(direction="maximize", sampler=self._made(seed))
        self._waiting: dict[tuple[float, ...], Any] = {}
        self._fixed = 0

    def ask(self) -> Suggestion:
        """The sampler's next point that meets the constraints."""
        for _ in range(_ATTEMPTS):
            trial = self._asked()
            x = self._legal(trial)
            if x is not None and place(x) not in self._waiting:
                break
            self._study.tell(trial, state=self._optuna.trial.TrialState.FAIL)
        else:
            rng = np.random.default_rng([self._seed, len(self._study.trials)])
            x = tuple(map(float, self._space.sample(1, rng)[0]))
            trial = self._placed(x)
            self._waiting[place(x)] = trial
            why = f"at random: {_ATTEMPTS} points of {self._name} broke a constraint or were under way"
            return Suggestion(self._space.decode(x), x, "random", why)
        self._waiting[place(x)] = trial
        return Suggestion(self._space.decode(x), x, "optuna", f"asked of Optuna's {self._name}")

    def tell(self, seen: Observation, sign: float) -> None:
        """Give the study a result; a point that it did not suggest is put into it first."""
        trial = self._waiting.pop(place(seen.x), None) or self._placed(seen.x)
        if seen.score is None:
            self._study.tell(trial, state=self._optuna.trial.TrialState.FAIL)
        else:
            self._study.tell(trial, sign * seen.score)

    def forget(self, x: tuple[float, ...]) -> None:
        """Give up a point that was suggested."""
        if (trial := self._waiting.pop(place(x), None)) is not None:
            self._study.tell(trial, state=self._optuna.trial.TrialState.FAIL)

    def _made(self, seed: int) -> Any:
        kind = getattr(self._optuna.samplers, self._name)
        words = inspect.signature(kind.__init__).parameters
        wishes: dict[str, Any] = {word: value for word, value in _WISHES.items() if word in words}
        if self._name == "GridSampler":
            levels = {d.path: range(d.levels) if d.levels else np.linspace(0, 1, 5) for d in self._space.dimensions}
            wishes["search_space"] = {
                path: [v.item() if hasattr(v, "item") else v for v in found] for path, found in levels.items()
            }
        if "seed" in words:
            wishes["seed"] = seed
        try:
            return kind(**wishes)
        except (TypeError, ImportError) as error:
            raise MissingExtra(f"Optuna's {self._name} cannot be made from its seed alone: {error}.") from error

    def _asked(self) -> Any:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # experimental, or a fallback to independent sampling
            return self._study.ask(fixed_distributions=self._distributions)

    def _placed(self, x: tuple[float, ...]) -> Any:
        """A trial at this point, asked for so that the sampler keeps its count."""
        values: dict[str, Any] = {}
        for value, dimension in zip(x, self._space.dimensions, strict=True):
            value = 0.0 if value != value else min(max(value, 0.0), float(dimension.levels or 1))
            if dimension.kind == "categorical":
                values[dimension.path] = int(value)
            elif dimension.path in self._binned:
                values[dimension.path] = min(int(value * (dimension.levels or 1)), (dimension.levels or 1) - 1)
            else:
                values[dimension.path] = min(value, 1.0)
        self._study.enqueue_trial(values)
        return self._asked()

    def _legal(self, trial: Any) -> tuple[float, ...] | None:
        raw = []
        for dimension in self._space.dimensions:
            value = float(trial.params[dimension.path])
            raw.append((value + 0.5) / (dimension.levels or 1) if dimension.path in self._binned else value)
        snapped = self._space.snap(np.array([raw]))
        return tuple(map(float, snapped[0])) if bool(self._space.feasible(snapped)[0]) else None
