"""What `metta sweep list`, `status` and `best` show."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from rich.console import RenderableType

from metta_jobs.display.format import UNKNOWN, age, coarse, counted, dollars, number
from metta_jobs.display.listing import Field, Listing
from metta_jobs.store.sweeps import TrialRow
from metta_jobs.store.words import Origin, SweepState, TrialState
from metta_jobs.sweep import plan
from metta_jobs.sweep.book import Page
from metta_jobs.sweep.config import SweepConfig
from metta_jobs.sweep.loop import shown
from metta_jobs.sweep.plan import Best
from metta_jobs.views import JobView

_STYLES = {
    TrialState.OPEN: "cyan",
    TrialState.FINISHED: "green",
    TrialState.STOPPED: "yellow",
    TrialState.FAILED: "red",
    TrialState.LOST: "magenta",
    TrialState.DROPPED: "dim",
}


def state_of(page: Page) -> str:
    """The sweep's state in a word."""
    if page.sweep.paused_at is not None and page.sweep.state is SweepState.RUNNING:
        return "paused"
    return page.sweep.state.value


def render_sweeps(pages: Sequence[Page], now: datetime) -> RenderableType:
    """The table of sweeps: name, state, trials, open, failed, best score, age."""
    fields = [
        Field("sweep", gives_way="key"),
        Field("state"),
        Field("trials", "right"),
        Field("open", "right", spare=2),
        Field("failed", "right", spare=1),
        Field("best", "right"),
        Field("metric", gives_way="name", spare=4),
        Field("age", "right", spare=3),
    ]
    rows = []
    for page in pages:
        best = plan.ranking(page.config, page.trials)
        failed = sum(trial.state is TrialState.FAILED for trial in plan.own(page.trials))
        done, wanted = len(plan.completed(page.trials)), page.config.trials_wanted
        rows.append(
            [
                (page.name, "bold"),
                (state_of(page), ""),
                (f"{done}/{wanted}" if wanted is not None else str(done), ""),
                (str(len(plan.open_trials(page.trials))), ""),
                (str(failed), "red" if failed else "dim"),
                (number(best[0].score) if best else UNKNOWN, "green"),
                (page.config.sweep.metric, "dim"),
                (age(page.sweep.created_at, now), "dim"),
            ]
        )
    return Listing(fields, rows)


def summary(page: Page, now: datetime, loop: JobView | None) -> list[str]:
    """What there is to say of a sweep, above its trials."""
    config, trials = page.config, page.trials
    done = plan.completed(trials)
    lines = [f"{page.name}: {state_of(page)}" + (f" ({page.sweep.reason})" if page.sweep.reason else "")]
    wanted = config.trials_wanted
    counts = f"{len(done)} of {counted(wanted, 'trial')}" if wanted is not None else counted(len(done), "trial")
    open_ = plan.open_trials(trials)
    others = [
        f"{sum(t.state is state for t in plan.own(trials))} {state.value}"
        for state in (TrialState.FAILED, TrialState.STOPPED, TrialState.LOST, TrialState.DROPPED)
        if any(t.state is state for t in plan.own(trials))
    ]
    loaded = sum(trial.origin in (Origin.IMPORTED, Origin.TOLD) for trial in trials)
    others += [f"{loaded} loaded"] if loaded else []
    lines.append(f"{counts} completed, {len(open_)} open" + (f" ({', '.join(others)})" if others else ""))
    if (phase := plan.phase_of(config, trials)) is not None and page.sweep.state is SweepState.RUNNING:
        begun = sum(one.num_runs or 0 for one in config.schedule.phases[: config.schedule.phases.index(phase)])
        until = f" of {phase.num_runs}" if phase.num_runs is not None else ""
        lines.append(f"phase {phase.name!r}: run {min(len(done) - begun, phase.num_runs or len(done))}{until}")
    if best := plan.ranking(config, trials):
        settings = " ".join(f"{path}={shown(value)}" for path, value in best[0].trial.params.items())
        lines.append(f"best so far: {config.sweep.metric} {_score(best[0])} (trial {best[0].trial.number}: {settings})")
    lines.append(_spent(page, now))
    if page.sweep.state is SweepState.RUNNING and (ahead := plan.forecast(config, page.sweep, trials, now)) is not None:
        lines.append(
            f"forecast: {counted(ahead.trials, 'trial')} to come, done in about {coarse(ahead.wall_seconds)} "
            f"({(now + timedelta(seconds=ahead.wall_seconds)).astimezone():%Y-%m-%d %H:%M})"
        )
    if page.sweep.state is SweepState.RUNNING and (loop is None or loop.state.terminal):
        how = (
            "there is none" if loop is None else f"it was {loop.state.value}{f': {loop.reason}' if loop.reason else ''}"
        )
        lines.append(f"Its loop does not run ({how}): `metta sweep resume {page.name}` starts it again.")
    return lines


def _spent(page: Page, now: datetime) -> str:
    budget = page.config.settings.budget
    used = plan.spent(page.config, page.sweep, page.trials, page.sweep.finished_at or now)

    def told(used: str, limit: str | None) -> str:
        return used if limit is None else f"{used} of {limit}"

    def shown_limit(limit: float | None, show: Callable[[float | None], str]) -> str | None:
        return None if limit is None else show(limit)

    parts = [f"{told(coarse(used.seconds), shown_limit(budget.cost_seconds, coarse))} running"]
    if used.gpu_hours or budget.gpu_hours is not None:
        parts.append(f"{told(number(used.gpu_hours), shown_limit(budget.gpu_hours, number))} GPU-hours")
    if used.dollars or budget.dollars is not None:
        parts.append(told(dollars(used.dollars), shown_limit(budget.dollars, dollars)))
    parts.append(f"{told(coarse(used.wall_seconds), shown_limit(budget.wall_seconds, coarse))} since it began")
    return f"spent: {', '.join(parts)}"


def render_trials(page: Page, jobs: Mapping[str, JobView]) -> RenderableType:
    """The table of trials: job, state, phase, score, cost, parameters, why this one (or what went wrong)."""
    phases = bool(page.config.schedule.phases)
    fields = [Field("trial", "right"), Field("job", gives_way="name", spare=2), Field("state")]
    fields += [Field("phase", gives_way="name", spare=3)] if phases else []
    fields += [
        Field("score", "right"),
        Field("cost", "right", spare=1),
        Field("parameters", gives_way="text"),
        Field("why this one", gives_way="text"),
    ]
    rows = []
    for trial in page.trials:
        job = jobs.get(trial.job or "")
        state = job.state.value if trial.state is TrialState.OPEN and job is not None else trial.state.value
        cells = [(str(trial.number), ""), (trial.job or trial.origin.value, ""), (state, _STYLES[trial.state])]
        cells += [(trial.phase or "", "dim")] if phases else []
        params = " ".join(f"{path.rpartition('.')[2]}={shown(value)}" for path, value in trial.params.items())
        rows.append([*cells, (number(trial.score), ""), (number(trial.cost), ""), (params, ""), (why(trial), "dim")])
    return Listing(fields, rows)


def why(trial: TrialRow) -> str:
    """Why a trial was suggested, with what was expected of it; and what went wrong."""
    if trial.origin is Origin.VALIDATION:
        said = f"trial {trial.of_trial} again, with seed {trial.seed}"
    elif trial.origin is not Origin.SUGGESTED:
        said = f"loaded ({trial.source.rpartition(':')[0]})" if trial.source else "told by hand"
    else:
        said = _suggested(trial.suggestion or {})
    return f"{said}; {trial.reason}" if trial.reason else said


def _suggested(suggestion: Mapping[str, Any]) -> str:
    said = str(suggestion.get("why", ""))
    prediction = suggestion.get("prediction")
    if prediction:
        said += f"; expected {number(prediction['score'])} ± {number(prediction['std'])}"
        said += f" for {number(prediction['cost'])}" if prediction.get("cost") is not None else ""
    if (gain := suggestion.get("expected_improvement_per_cost")) is not None:
        said += f", improvement per cost {number(gain)}"
    return said


def render_best(config: SweepConfig, best: Sequence[Best], *, scores: bool = False) -> RenderableType:
    """The best points beside each other: score, cost and what differs between them."""
    paths = list(dict.fromkeys(path for one in best for path in one.trial.params))
    differing = [path for path in paths if len({repr(one.trial.params.get(path)) for one in best}) > 1]
    fields = [Field("rank", "right"), Field("trial", "right"), Field(config.sweep.metric, "right", short="score")]
    fields += [Field("scores", gives_way="text")] if scores else []
    fields += [Field("cost", "right", spare=1)]
    fields += [Field(path, "right", short=path.rpartition(".")[2]) for path in differing]
    rows = []
    for rank, one in enumerate(best, 1):
        cells = [(str(rank), ""), (str(one.trial.number), ""), (_score(one), "green" if rank == 1 else "")]
        cells += [(" ".join(number(score) for score in one.scores), "dim")] if scores else []
        cells += [(number(one.cost), "")]
        cells += [(shown(one.trial.params[path]) if path in one.trial.params else UNKNOWN, "") for path in differing]
        rows.append(cells)
    return Listing(fields, rows)


def _score(best: Best) -> str:
    if best.interval is None:
        return number(best.score)
    low, high = best.interval
    return f"{number(best.score)} [{number(low)}, {number(high)}]"
