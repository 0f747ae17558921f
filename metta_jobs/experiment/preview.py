"""What an experiment would launch, for a person who decides: jobs, machines, price, configuration, a command to try."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from metta_jobs.display.format import counted
from metta_jobs.errors import InvalidInput
from metta_jobs.experiment.base_config import BaseExperimentConfig
from metta_jobs.experiment.experiment import Experiment, TrainingRun
from metta_jobs.experiment.hydra import to_yaml
from metta_jobs.experiment.skypilot import get_skypilot_service
from metta_jobs.experiment.training import leaves
from metta_jobs.manager import JobManager, check_jobs
from metta_jobs.paths import find_project


def preview(experiment: Experiment[BaseExperimentConfig]) -> Iterator[str]:
    """The lines to show; nothing is submitted. Raises InvalidInput where a training could not be.

    The files of the trainings are written, so that the command that tries one works; `metta job prune` takes those of
    which nothing came.
    """
    runs = experiment.runs()
    jobs = counted(len(runs), "job")
    yield f"{experiment.name}: {jobs}" + (", and a notebook at the end" if experiment.config.notebook else "")
    width = max(len(run.name) for run in runs)
    for run in runs:
        yield f"  {run.name:<{width}}  {run.config.skypilot.summary}"
    yield from _price(runs)
    yield from _configurations(runs)
    yield ""
    yield "Try the first one here:"
    yield f"  {shlex.join(local_command(runs[0], experiment.command()))}"
    try:
        check_jobs([run.job for run in runs], find_project())
    except InvalidInput as error:
        yield f"\nIt cannot be launched as it is: {error}"


def local_command(run: TrainingRun, program: Sequence[str]) -> tuple[str, ...]:
    """The command that trains one run in the terminal, whatever machines its job gets."""
    return (*program, "--config-path", str(run.yaml_path.parent), "--config-name", run.yaml_path.stem)


def _price(runs: Sequence[TrainingRun]) -> Iterator[str]:
    remotes = [run.job.remote for run in runs if run.job.remote is not None]
    if not remotes:
        return
    with JobManager() as manager:
        prices, trouble = get_skypilot_service(manager).hourly_price(remotes)
    known = [price for price in prices if price is not None]
    if not known:
        why = trouble or "SkyPilot has none for this infra, or for no machine type in particular"
        yield f"Price: not known. {why.rstrip('.')}."
        return
    more = f", without {counted(len(prices) - len(known), 'job')} whose price is not known" if None in prices else ""
    hours = [remote.max_runtime_hours for remote in remotes]
    most = sum((price or 0) * (limit or 0) for price, limit in zip(prices, hours, strict=True))
    limit = "" if None in hours else f", at most ${most:,.2f} in all"
    yield f"Price: ${sum(known):,.2f} an hour for all of them together{limit}{more}"


def _configurations(runs: Sequence[TrainingRun]) -> Iterator[str]:
    first, *others = runs
    config = first.config.training.model_dump(mode="json")
    yield ""
    yield f"Configuration of {first.name} ({_short(first.yaml_path)}):"
    yield from (f"  {line}" for line in to_yaml(config).rstrip().splitlines())
    base = leaves(config)
    for run in others:
        own = leaves(run.config.training.model_dump(mode="json"))
        differs = {path: own.get(path) for path in (base | own) if path not in own or own[path] != base.get(path, own)}
        said = ", ".join(f"{path}={_value(value)}" for path, value in differs.items()) or "the same"
        yield f"{run.name} ({_short(run.yaml_path)}): {said}"


def _value(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else repr(value)


def _short(path: Path) -> str:
    """Relative to where we are, if it lies below."""
    here = Path.cwd()
    return os.path.relpath(path, here) if path.is_relative_to(here) else str(path)
