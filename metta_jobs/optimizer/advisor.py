"""Ask and tell: what to try next, given what was tried."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from metta_jobs.errors import InvalidInput
from metta_jobs.optimizer import protein, samplers
from metta_jobs.optimizer.kernel import Shape
from metta_jobs.optimizer.observations import Observation, Prediction, Suggestion, merge, place
from metta_jobs.optimizer.pareto import front
from metta_jobs.optimizer.region import length
from metta_jobs.optimizer.settings import OptimizerSettings
from metta_jobs.optimizer.surrogate import Models, cost_model, learn

if TYPE_CHECKING:
    from metta_jobs.optimizer.observations import Array
    from metta_jobs.optimizer.space import Space

#: Final scores without which no model is asked.
FEWEST = 3
#: Of so many points of the design the cheapest is tried.
_CHOICE = 4


class Optimizer:
    """Suggests points of a space and learns from their scores.

    Its state is `observations` (in the order told), `pending` (suggested, not told) and `asked` (suggestions so far):
    made again from these it asks the same, but for optuna samplers, which keep a state of their own that is replayed.
    Raises InvalidInput for a space of constants only.
    """

    def __init__(
        self,
        space: Space,
        settings: OptimizerSettings | None = None,
        seed: int = 0,
        *,
        observations: Iterable[Observation] = (),
        pending: Iterable[Mapping[str, Any]] = (),
        asked: int = 0,
    ) -> None:
        if not space.dimensions:
            raise InvalidInput("The space holds constants only: there is nothing to search. Give a parameter a range.")
        self.space = space
        self.settings = settings or OptimizerSettings()
        self.seed = seed
        self.asked = asked
        self.observations: list[Observation] = list(observations)
        self.pending: list[tuple[float, ...]] = [self._encode(params) for params in pending]
        self._shape = Shape(np.array([d.kind == "categorical" for d in space.dimensions], dtype=bool))
        self._sign = 1.0 if self.settings.goal == "maximize" else -1.0
        self._models: tuple[tuple[int, int], tuple[Models, Models]] | None = None
        self._sampler: Any = None
        if self.settings.method.startswith("optuna:"):
            from metta_jobs.optimizer.with_optuna import OptunaSampler

            self._sampler = OptunaSampler(space, self.settings, seed)
            for seen in self.observations:
                self._sampler.tell(seen, self._sign)

    def ask(self, n: int = 1) -> list[Suggestion]:
        """Suggest n points; each is pending until told or forgotten, and later ones know of it.

        Fewer than n where a finite space holds no more (method grid). Raises InvalidInput for n below 1.
        """
        if n < 1:
            raise InvalidInput(f"{n} suggestions cannot be asked for: ask for 1 or more.")
        given = []
        for _ in range(n):
            suggestion = self._suggest()
            if suggestion is None:
                break
            # The point that its values stand for, which is what a stored row gives back.
            suggestion = replace(suggestion, x=self._encode(suggestion.params))
            self.asked += 1
            self.pending.append(suggestion.x)
            given.append(suggestion)
        return given

    def tell(
        self,
        params: Mapping[str, Any],
        score: float | None,
        cost: float | None = None,
        failed: bool = False,
        stopped: bool = False,
        noise: float | None = None,
    ) -> None:
        """Learn how a trial ended; also one that was never suggested. Raises InvalidInput for numbers that cannot be.

        A failed trial needs no score. A stopped one's score is what it had reached: a lower bound. noise is the
        score's standard error. cost is in any unit, always the same one.
        """
        _check(score, cost, failed, noise)
        x = self._encode(params)
        seen = Observation(dict(params), x, None if failed else score, cost, failed, stopped, noise)
        self.observations.append(seen)
        self._drop(x)
        if self._sampler is not None:
            self._sampler.tell(seen, self._sign)

    def forget(self, params: Mapping[str, Any]) -> None:
        """Give up a pending point: nothing is learned from it."""
        x = self._encode(params)
        self._drop(x)
        if self._sampler is not None:
            self._sampler.forget(x)

    def best(self, n: int = 1) -> list[Observation]:
        """The n best final observations at distinct points, best first, by the mean of a point's scores."""
        data = merge(self.observations, self._sign, self._shape.size)
        ranked = [i for i in np.argsort(-data.y, kind="stable") if data.count[i]]
        return [self._final(place(data.x[i])) for i in ranked[:n]]

    def front(self) -> list[Observation]:
        """The final observations that no other one beats in score and cost, by rising cost."""
        data = merge(self.observations, self._sign, self._shape.size)
        rows = np.flatnonzero((data.count > 0) & ~np.isnan(data.log_cost))
        return [self._final(place(data.x[rows[i]])) for i in front(data.y[rows], data.log_cost[rows])]

    def predict(self, params: Mapping[str, Any]) -> Prediction | None:
        """What the model expects of a point; None with fewer than 3 final scores."""
        if len(self._finished()) < FEWEST:
            return None
        return self._predict(self._learned()[0], np.array(self._encode(params), dtype=float))

    def _suggest(self) -> Suggestion | None:
        method = self.settings.method
        if self._sampler is not None:
            return self._sampler.ask()  # type: ignore[no-any-return]
        if method in ("random", "sobol", "grid"):
            return samplers.suggest(self.space, self.settings, self.seed, self.asked)
        return self._spread() or self._by_model()

    def _spread(self) -> Suggestion | None:
        """The first points, before there is anything to learn from."""
        tried, final = len(self.observations) + len(self.pending), len(self._finished())
        if self.settings.seed_with_search_center and tried == 0:
            centre = np.asarray(self.space.centre, dtype=float)
            return self._plain(centre, "centre", "the search centre comes first")
        if tried >= self.settings.num_random_samples and final >= FEWEST:
            return None
        x = self._cheap_of_spread()
        where = "around the centre" if self.settings.seed_with_search_center else "anywhere"
        only = f"at random, {where}: only {final} observation{'' if final == 1 else 's'} yet"
        if tried < self.settings.num_random_samples:
            only += f", and the first {self.settings.num_random_samples} points are spread out"
        return self._plain(x, "spread", only)

    def _cheap_of_spread(self) -> Array:
        """The next point of the design; once costs are known, the cheapest of a few (Lee et al. 2020, "Cost-aware
        Bayesian optimization"): the first points should not take the whole budget."""
        choice = _CHOICE if self.settings.method == "protein" else 1
        points = [
            protein.spread(self.space, self._shape, self.settings, self.seed, choice * self.asked + i, self._taken())
            for i in range(choice)
        ]
        data = merge(self.observations, self._sign, self._shape.size)
        model, _, _ = cost_model(data, self._shape.filled(data.x), self._shape, np.random.default_rng(self.seed))
        if model is None:
            return points[0]
        return points[int(np.argmin(model.predict(self._shape.filled(np.array(points)))[0]))]

    def _by_model(self) -> Suggestion:
        settings, rng = self.settings, np.random.default_rng([self.seed, self.asked])
        near, wide = self._learned()
        side = self._side() if self.asked % 2 else None
        models = wide if side is None else near
        waiting = np.array(self.pending, dtype=float).reshape(len(self.pending), self._shape.size)
        doubted = models.fantasise(self._shape.filled(waiting))
        if settings.resample_frequency and (self.asked + 1) % settings.resample_frequency == 0:
            row = protein.repeated(doubted, rng)
            x = self._original(models.x[row])
            return self._told(
                models, x, "repeat", f"every {settings.resample_frequency}. suggestion repeats a point of the front"
            )
        aware = settings.method == "protein"
        found = None
        for length_of in dict.fromkeys((side, None)):  # a small region may hold nothing new
            found = protein.propose(
                self.space,
                self._shape,
                doubted,
                settings,
                rng,
                self._taken(),
                side=length_of,
                steps=aware and self.asked % 4 in (1, 2),
                power=1.0 if aware else 0.0,
            )
            if found is not None:
                break
        if found is None:
            x = protein.spread(self.space, self._shape, settings, self.seed, self.asked, self._taken())
            return self._told(models, x, "random", "at random: every point that the model looked at has been tried")
        return self._told(models, found.x, "model", found.why)

    def _side(self) -> float:
        scores = [self._sign * s.score if s.finished and s.score is not None else np.nan for s in self.observations]
        return length(scores, self._shape.size, self.settings.num_random_samples)

    def _learned(self) -> tuple[Models, Models]:
        """The models of what was told, for near and wide; kept until more is."""
        key = (len(self.observations), id(self.observations[-1]))
        if self._models is None or self._models[0] != key:
            data = merge(self.observations, self._sign, self._shape.size)
            rng = np.random.default_rng([self.seed, len(self.observations)])
            self._models = key, learn(data, self._shape, rng)
        return self._models[1]

    def _predict(self, models: Models, x: Array) -> Prediction:
        point = self._shape.filled(x[None])
        mean, variance = models.score.predict(point)
        score = float(models.transform.inverse(mean)[0])
        slope = float(models.transform.slope(np.array([score]))[0])
        cost = None if not any(seen.cost for seen in self.observations) else float(np.exp(models.log_costs(point)[0]))
        return Prediction(
            self._sign * score, float(np.sqrt(variance[0])) / slope, cost, float(models.feasible(point)[0])
        )

    def _told(self, models: Models, x: Array, source: str, why: str) -> Suggestion:
        prediction = self._predict(models, x)
        gain = protein.improvement(models, self._shape.filled(x[None])[0])
        per_cost = gain / prediction.cost if prediction.cost else None
        return Suggestion(self.space.decode(x), tuple(map(float, x)), source, why, prediction, gain, per_cost)

    def _plain(self, x: Array, source: str, why: str) -> Suggestion:
        return Suggestion(self.space.decode(x), tuple(map(float, x)), source, why)

    def _encode(self, params: Mapping[str, Any]) -> tuple[float, ...]:
        return tuple(map(float, self.space.encode(params)))

    def _original(self, filled: Array) -> Array:
        """The point as it was told, with its inactive dimensions."""
        return np.asarray(self.space.snap(filled[None])[0])

    def _taken(self) -> set[tuple[float, ...]]:
        return {place(seen.x) for seen in self.observations} | {place(x) for x in self.pending}

    def _finished(self) -> list[Observation]:
        return [seen for seen in self.observations if seen.finished]

    def _final(self, where: tuple[float, ...]) -> Observation:
        return next(seen for seen in self._finished() if place(seen.x) == where)

    def _drop(self, x: tuple[float, ...]) -> None:
        for waiting in self.pending:
            if place(waiting) == place(x):
                self.pending.remove(waiting)
                return


def _check(score: float | None, cost: float | None, failed: bool, noise: float | None) -> None:
    if not failed and (score is None or not np.isfinite(score)):
        raise InvalidInput(f"The score {score} is no finite number. Tell such a trial as failed.")
    if cost is not None and not (np.isfinite(cost) and cost >= 0):
        raise InvalidInput(f"The cost {cost} is not a finite number of 0 or more. Leave it out where it is unknown.")
    if noise is not None and not (np.isfinite(noise) and noise >= 0):
        raise InvalidInput(f"The noise {noise} is not a finite number of 0 or more. Leave it out where it is unknown.")
