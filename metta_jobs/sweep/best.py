"""The best of a sweep as something to use: overrides, YAML, a patch file."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from metta_jobs.errors import InvalidInput
from metta_jobs.recipe import split_argument
from metta_jobs.recipe.patch import as_text, flattened
from metta_jobs.recipe.values import literal
from metta_jobs.sweep.book import Page
from metta_jobs.sweep.plan import Best, ranking


def best_of(page: Page, count: int) -> list[Best]:
    """The best points, at most `count`. Raises InvalidInput when no trial has a score yet."""
    found = ranking(page.config, page.trials)
    if not found:
        raise InvalidInput(f"The sweep {page.name} has no trial with a score yet.")
    return found[:count]


def overrides(page: Page, best: Best) -> dict[str, Any]:
    """What a point sets, by dotted path: the sweep's arguments and overrides, and the point's parameters."""
    args = {key: literal(text) for key, text in map(split_argument, page.config.args)}
    return {**args, **dict(flattened(page.config.sweep_job_overrides)), **best.trial.params}


def command_line(page: Page, best: Best) -> list[str]:
    """The same as arguments of `metta run`."""
    return [f"{path}={as_text(value)}" for path, value in overrides(page, best).items()]


def patch_text(page: Page, best: Best) -> str:
    """The same as YAML, as `metta run … +patch=FILE` takes it."""
    score = f"# {page.name}, trial {best.trial.number}: {page.config.sweep.metric} {best.score:.6g}\n"
    return score + yaml.safe_dump(nested(overrides(page, best)), sort_keys=False, allow_unicode=True)


def write_patch(page: Page, best: Best, folder: Path) -> Path:
    """Write `<sweep>_best.yaml` into a folder, whole or not at all; return its path. Raises InvalidInput."""
    path = folder.expanduser() / f"{page.name}_best.yaml"
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        aside.write_text(patch_text(page, best))
        aside.rename(path)
    except OSError as error:
        raise InvalidInput(f"{path} cannot be written: {error.strerror}. --output-dir names another folder.") from error
    return path


def nested(dotted: Mapping[str, Any]) -> dict[str, Any]:
    """Nested data from dotted paths."""
    found: dict[str, Any] = {}
    for path, value in dotted.items():
        *parents, last = path.split(".")
        here = found
        for part in parents:
            here = here.setdefault(part, {})
        here[last] = value
    return found
