"""What people do to a sweep that is stored: stop, resume, extend, tell, import."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from metta_jobs.errors import InvalidInput, UnknownName, nearest
from metta_jobs.manager import JobManager
from metta_jobs.recipe.build import override, split_argument
from metta_jobs.recipe.values import literal
from metta_jobs.store.words import SweepState
from metta_jobs.sweep import exchange, plan
from metta_jobs.sweep.book import ENDED, Book, Page, observed
from metta_jobs.sweep.config import Budget, SweepConfig
from metta_jobs.sweep.launch import check, ensure_loop

#: What would make another sweep of it.
_FIXED = ("name", "module", "sim_name")


def stop(manager: JobManager, book: Book, name: str, *, kill: bool) -> Page:
    """Ask for no more trials, ever; those that run go on and are told, or are killed."""
    page = book.page(name)
    going_on = (SweepState.RUNNING, SweepState.VALIDATING)
    if not book.move(page, going_on, SweepState.STOPPED, "stopped by hand") and page.sweep.state not in ENDED:
        raise InvalidInput(f"The sweep {name} has just changed: try again.")
    open_ = {trial.job for trial in plan.open_trials(page.trials)}
    if kill and open_:
        jobs = manager.group(name).jobs
        doomed = [job.id for job in jobs if job.name.removesuffix(".eval") in open_ and not job.state.terminal]
        manager.kill(doomed)
    if open_:
        ensure_loop(manager, name, page.config)  # somebody has to tell how they end
    return book.page(name)


def resume(manager: JobManager, book: Book, name: str) -> Page:
    """Go on after a pause, a stop, too many failures, or when its loop is gone. Raises InvalidInput when it is done."""
    page = book.page(name)
    if page.sweep.state in ENDED:
        now = book.now()
        done = plan.verdict(page.config, replace(page.sweep, resumed_at=now), page.trials, now)
        if done is not None:
            raise InvalidInput(
                f"The sweep {name} has ended: {done}. `metta sweep extend {name} trials=+10` gives it more."
            )
        book.move(page, ENDED, SweepState.RUNNING, None)
    book.pause(name, paused=False)
    ensure_loop(manager, name, page.config, was_over=_was_over(page))
    return book.page(name)


def extend(manager: JobManager, book: Book, name: str, arguments: Sequence[str]) -> Page:
    """Change a sweep by `key=value`, and let it go on: budgets by their names (`trials=40`, `trials=+10`), any field of
    its definition by its path. What has been tried stays. Raises UnknownName or InvalidInput."""
    page = book.page(name)
    if not arguments:
        raise InvalidInput(f"Say what it gets: `metta sweep extend {name} trials=+10`.")
    pairs = [split_argument(text) for text in arguments]
    if fixed := [key for key, _ in pairs if key.split(".")[0] in _FIXED]:
        raise InvalidInput(f"{fixed[0]} of a sweep cannot be changed: start another one, and import this one's trials.")
    config = override(page.config, [_budget(page.config, key, text) for key, text in pairs])
    check(config, manager.project_dir)
    now = book.now()
    done = plan.verdict(config, replace(page.sweep, resumed_at=now), page.trials, now)
    if done is not None and page.sweep.state in ENDED:
        raise InvalidInput(f"That is not more than it has had: {done}.")
    was_over = _was_over(page)
    page = book.redefine(name, config, again=True)
    ensure_loop(manager, name, config, was_over=was_over)
    return page


def _was_over(page: Page) -> bool:
    return page.sweep.state in ENDED and not plan.open_trials(page.trials)


def _budget(config: SweepConfig, key: str, text: str) -> str:
    """A budget's own name stands for its path, and "+N" for N more than it is."""
    field = key.removeprefix("settings.budget.")
    if field not in Budget.model_fields:
        if "." not in key and key not in SweepConfig.model_fields:
            known = [*Budget.model_fields, *SweepConfig.model_fields]
            raise UnknownName(f"There is no {key!r} to change.{nearest(key, known)}")
        return f"{key}={text}"
    if text.startswith("+"):
        before = config.trials_wanted if field == "trials" else getattr(config.settings.budget, field)
        if before is None:
            raise InvalidInput(f"{key}={text}: it has no such limit yet; write {key}=N.")
        more = literal(text[1:])
        if isinstance(more, bool) or not isinstance(more, int | float):
            raise InvalidInput(f"{key}={text}: write a number, as in {key}=+10.")
        text = str(before + more)
    return f"settings.budget.{field}={text}"


def tell(book: Book, name: str, arguments: Sequence[str], score: float | None, cost: float | None, failed: bool) -> int:
    """Store an observation that somebody made; return its number. Raises InvalidInput for what is not in the space."""
    page = book.page(name)
    if (score is None) != failed:
        raise InvalidInput("Say --score, or --failed for one that has none.")
    space = page.config.section(plan.phase_of(page.config, page.trials)).space()
    given: Mapping[str, Any] = {key: literal(text) for key, text in map(split_argument, arguments)}
    params = space.decode(space.encode(given))
    return book.add(name, [observed(params, score, cost=cost, failed=failed)])[0]


@dataclass(frozen=True)
class Imported:
    """What an import has brought: trials stored, those that were there already, those that lack a parameter."""

    stored: int
    known: int
    lacking: int


def take_over(book: Book, name: str, source: str, limit: int | None) -> Imported:
    """Load the observations of a CSV file or another sweep into this one. Raises UnknownName or InvalidInput."""
    page = book.page(name)
    if source == name:
        raise InvalidInput("A sweep has its own observations already.")
    if source in book.names():
        found = exchange.from_sweep(book.page(source))
    elif Path(source).expanduser().is_file():
        found = exchange.from_csv(Path(source).expanduser())
    else:
        raise UnknownName(f"{source!r} is neither a sweep nor a file.{nearest(source, book.names())}")
    most = page.config.settings.max_observations_to_load if limit is None else limit
    kept, lacking = exchange.fitting(page.config.sweep.space(), found, most)
    stored = book.add(name, kept)
    return Imported(len(stored), len(kept) - len(stored), lacking)
