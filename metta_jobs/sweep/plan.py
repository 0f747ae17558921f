"""What a sweep does next, worked out from its definition and its trials alone: pure."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from statistics import mean, stdev

from metta_jobs.display.format import coarse, dollars, number
from metta_jobs.store.sweeps import SweepRow, TrialRow
from metta_jobs.store.words import Origin, TrialState
from metta_jobs.sweep.config import Phase, SweepConfig

#: A sweep whose trials are lost so often in a row ends, whatever is asked of it: nothing runs here.
MOST_LOST = 10
_COUNTED = frozenset({TrialState.FINISHED, TrialState.STOPPED, TrialState.FAILED})
#: Student's t at 97.5 % by degrees of freedom.
_T = (
    *(12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131),
    *(2.120, 2.110, 2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042),
)


def own(trials: Sequence[TrialRow]) -> list[TrialRow]:
    """The trials that the sweep itself has suggested."""
    return [trial for trial in trials if trial.origin is Origin.SUGGESTED]


def completed(trials: Sequence[TrialRow]) -> list[TrialRow]:
    """Of these, those that have ended by their own doing, in the order in which they ended."""
    ended = [trial for trial in own(trials) if trial.state in _COUNTED]
    return sorted(ended, key=lambda trial: (trial.finished_at or trial.created_at, trial.number))


def open_trials(trials: Sequence[TrialRow]) -> list[TrialRow]:
    """Those whose end is not recorded yet."""
    return [trial for trial in trials if trial.state is TrialState.OPEN]


def phase_of(config: SweepConfig, trials: Sequence[TrialRow]) -> Phase | None:
    """The phase that the next trial belongs to: by runs of this sweep that have completed, not by loaded ones."""
    done = len(completed(trials))
    for phase in config.schedule.phases:
        if phase.num_runs is None or done < phase.num_runs:
            return phase
        done -= phase.num_runs
    return config.schedule.phases[-1] if config.schedule.phases else None


def gpus_of(config: SweepConfig) -> float:
    """GPUs of one trial, on all its nodes."""
    given = config.sky.get("gpus", config.gpus)
    each = (1 if config.remote else 0) if given is None else given
    return float(each) * (config.nodes if config.remote else 1)


@dataclass(frozen=True)
class Spent:
    """What has been used: trials that count, seconds of all jobs, GPU-hours, dollars; seconds since the beginning."""

    trials: int
    seconds: float
    gpu_hours: float
    dollars: float
    wall_seconds: float


def spent(config: SweepConfig, sweep: SweepRow, trials: Sequence[TrialRow], now: datetime) -> Spent:
    """What the trials that have ended have used."""
    seconds = sum(trial.seconds or 0 for trial in trials if trial.origin in (Origin.SUGGESTED, Origin.VALIDATION))
    return Spent(
        len(completed(trials)),
        seconds,
        seconds / 3600 * gpus_of(config),
        sum(trial.dollars or 0 for trial in trials),
        (now - sweep.created_at).total_seconds(),
    )


def verdict(config: SweepConfig, sweep: SweepRow, trials: Sequence[TrialRow], now: datetime) -> str | None:
    """Why the sweep asks for no more trials, None while it goes on."""
    if failing := _failing(config, sweep, trials):
        return failing
    budget, used = config.settings.budget, spent(config, sweep, trials, now)
    wanted = config.trials_wanted
    if wanted is not None and used.trials >= wanted:
        return f"all {wanted} trials are done" if wanted > 1 else "its one trial is done"
    limits = (
        (budget.cost_seconds, used.seconds, "the trials have run for {}, of {}", coarse),
        (budget.gpu_hours, used.gpu_hours, "{} GPU-hours are used, of {}", number),
        (budget.dollars, used.dollars, "{} are spent, of {}", dollars),
        (budget.wall_seconds, used.wall_seconds, "it has gone on for {}, of {}", coarse),
    )
    for limit, reached, words, shown in limits:
        if limit is not None and reached >= limit:
            return words.format(shown(reached), shown(limit))
    if budget.no_improvement is not None and (since := _since_best(config, trials)) >= budget.no_improvement:
        return f"{since} trials in a row were no better than the best"
    return None


def is_failing(config: SweepConfig, sweep: SweepRow, trials: Sequence[TrialRow]) -> bool:
    """Whether it ends because too many trials in a row have failed."""
    return _failing(config, sweep, trials) is not None


def _failing(config: SweepConfig, sweep: SweepRow, trials: Sequence[TrialRow]) -> str | None:
    recent = [t for t in _ended(trials) if t.finished_at and t.finished_at >= sweep.resumed_at]
    most = config.settings.max_consecutive_failures
    failed = list(_tail(recent, {TrialState.FAILED, TrialState.LOST}))
    if most and len(failed) >= most:
        return f"{len(failed)} trials in a row failed, the last one because {failed[0].reason or 'of its command'}"
    lost = list(_tail(recent, {TrialState.LOST}))
    if len(lost) >= MOST_LOST:
        return f"{len(lost)} trials in a row were lost, the last one because {lost[0].reason or 'nobody knows'}"
    return None


def _ended(trials: Sequence[TrialRow]) -> list[TrialRow]:
    ended = [trial for trial in own(trials) if trial.finished_at is not None and trial.state is not TrialState.DROPPED]
    return sorted(ended, key=lambda trial: (trial.finished_at or trial.created_at, trial.number))


def _tail(ended: Sequence[TrialRow], states: set[TrialState]) -> Iterator[TrialRow]:
    for trial in reversed(ended):
        if trial.state not in states:
            return
        yield trial


def _since_best(config: SweepConfig, trials: Sequence[TrialRow]) -> int:
    ended = completed(trials)
    best: float | None = None
    since = 0
    for trial in ended:
        value = None if trial.state is not TrialState.FINISHED else signed(config, trial.score)
        if value is not None and (best is None or value > best):
            best, since = value, 0
        else:
            since += 1
    return since


def signed(config: SweepConfig, score: float | None) -> float | None:
    """A score of which more is better."""
    if score is None:
        return None
    return -score if config.minimizes else score


def room(
    config: SweepConfig,
    sweep: SweepRow,
    trials: Sequence[TrialRow],
    now: datetime,
    elapsed: Mapping[int, float] | None = None,
) -> int:
    """How many trials may be asked for now: within max_parallel, and within what the budget leaves when each open
    trial takes what it is expected to (or, by number, what it has `elapsed` already, in seconds)."""
    waiting = open_trials(trials)
    free = config.settings.max_parallel - len(waiting)
    if config.trials_wanted is not None:
        free = min(free, config.trials_wanted - len(completed(trials)) - len(waiting))
    ended = _ended(trials)
    if ended and ended[-1].state in (TrialState.FAILED, TrialState.LOST) and ended[-1].finished_at is not None:
        rest = (
            config.settings.rollout_retry_delay - (now - max(ended[-1].finished_at, sweep.resumed_at)).total_seconds()
        )
        if rest > 0:
            return 0
    if free > 0 and waiting and (left := seconds_left(config, sweep, trials, now)) is not None:
        usual = _usual_seconds(trials)
        open_s = sum(max(usual, (elapsed or {}).get(trial.number, 0.0)) for trial in waiting)
        free = min(free, 1) if open_s + usual <= left else 0
    return max(0, free)


def seconds_left(config: SweepConfig, sweep: SweepRow, trials: Sequence[TrialRow], now: datetime) -> float | None:
    """Running time that the budget leaves, in seconds; None: no limit of this kind."""
    budget, used = config.settings.budget, spent(config, sweep, trials, now)
    limits = []
    if budget.cost_seconds is not None:
        limits.append(budget.cost_seconds - used.seconds)
    if budget.gpu_hours is not None and (gpus := gpus_of(config)):
        limits.append((budget.gpu_hours - used.gpu_hours) * 3600 / gpus)
    if budget.dollars is not None and used.dollars > 0:
        limits.append((budget.dollars - used.dollars) * used.seconds / used.dollars)
    return min(limits) if limits else None


def most_cost(config: SweepConfig, sweep: SweepRow, trials: Sequence[TrialRow], now: datetime) -> float | None:
    """What the next trial may cost at most so that the sweep ends within its budget, in the unit of costs."""
    left = seconds_left(config, sweep, trials, now)
    if left is None or left <= 0:
        return None
    if config.sweep.cost == "seconds":
        return left
    if config.sweep.cost == "gpu_hours" and gpus_of(config):
        return left / 3600 * gpus_of(config)
    return None


def _usual_seconds(trials: Sequence[TrialRow]) -> float:
    ran = [trial.seconds for trial in own(trials) if trial.seconds]
    return mean(ran) if ran else 0.0


@dataclass(frozen=True)
class Forecast:
    """How a sweep goes on: trials that are still to come, seconds until they have ended, seconds that they all run."""

    trials: int
    wall_seconds: float
    seconds: float


def forecast(config: SweepConfig, sweep: SweepRow, trials: Sequence[TrialRow], now: datetime) -> Forecast | None:
    """What is to come when trials go on as they have; None where no budget or no trial tells."""
    usual = _usual_seconds(trials)
    if not usual:
        return None
    counts = []
    if config.trials_wanted is not None:
        counts.append(float(config.trials_wanted - len(completed(trials))))
    if (left := seconds_left(config, sweep, trials, now)) is not None:
        counts.append(max(0.0, left) / usual)
    if (limit := config.settings.budget.wall_seconds) is not None:
        wall_left = max(0.0, limit - (now - sweep.created_at).total_seconds())
        counts.append(wall_left / usual * config.settings.max_parallel)
    if not counts:
        return None
    still = max(len(open_trials(own(trials))), math.ceil(min(counts) - 1e-9))
    again = validation_runs(config)
    rounds = math.ceil(still / config.settings.max_parallel) + math.ceil(again / config.settings.max_parallel)
    return Forecast(still, rounds * usual, (still + again) * usual)


def validation_runs(config: SweepConfig) -> int:
    """How many runs the re-run of the best takes."""
    if config.validate is None:
        return 0
    seeds = config.validate.seeds
    return config.validate.top * (seeds if isinstance(seeds, int) else len(seeds))


@dataclass(frozen=True)
class Best:
    """A point that was tried: its first trial, mean score and 95 % interval over its re-runs (None with fewer than 2),
    the scores, mean cost."""

    trial: TrialRow
    score: float
    interval: tuple[float, float] | None
    scores: tuple[float, ...]
    cost: float | None
    validated: bool


def ranking(config: SweepConfig, trials: Sequence[TrialRow], *, imported: bool = True) -> list[Best]:
    """The points, best first. Those that were run again come first, by the mean of these runs alone: the scores by
    which they were chosen flatter them."""
    groups: dict[str, list[TrialRow]] = {}
    for trial in trials:
        if trial.state is TrialState.FINISHED and (imported or trial.origin is not Origin.IMPORTED):
            groups.setdefault(repr(sorted(trial.params.items())), []).append(trial)
    found = [_best(group) for group in groups.values()]
    return sorted(found, key=lambda one: (not one.validated, -(signed(config, one.score) or 0.0), one.trial.number))


def _best(group: Sequence[TrialRow]) -> Best:
    again = [trial for trial in group if trial.origin is Origin.VALIDATION]
    counted = again or group
    scores = tuple(trial.score for trial in counted if trial.score is not None)
    centre = mean(scores)
    interval = None
    if len(scores) > 1:
        reach = (_T[len(scores) - 2] if len(scores) - 2 < len(_T) else 1.96) * stdev(scores) / math.sqrt(len(scores))
        interval = (centre - reach, centre + reach)
    costs = [trial.cost for trial in group if trial.cost is not None]
    return Best(group[0], centre, interval, scores, mean(costs) if costs else None, bool(again))
