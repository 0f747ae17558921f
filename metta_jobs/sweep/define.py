"""From what is typed to a SweepTool: out of a YAML file, or of a recipe's `sweep()`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import yaml
from pydantic import ValidationError

from metta_jobs.errors import InvalidInput
from metta_jobs.job import check_name
from metta_jobs.optimizer.space_file import read_yaml
from metta_jobs.recipe import build, list_recipes, split_argument
from metta_jobs.recipe.build import override
from metta_jobs.refusal import explain
from metta_jobs.sweep.tool import SweepTool


def from_file(path: Path, name: str, arguments: Sequence[str]) -> SweepTool:
    """The sweep that a YAML file describes, with `key=value` over it. Raises InvalidInput or UnknownName."""
    _refuse_bad_name(name)
    try:
        data = read_yaml(path.expanduser().read_text())
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInput(f"{path} cannot be read: {getattr(error, 'strerror', None) or error}.") from error
    except yaml.YAMLError as error:
        raise InvalidInput(f"{path} is no YAML: {' '.join(str(error).split())}.") from error
    if not isinstance(data, dict):
        raise InvalidInput(f"{path} must hold fields, such as module: arena.train and sweep: {{parameters: …}}.")
    try:
        tool = SweepTool.model_validate(data)
    except ValidationError as error:
        raise InvalidInput(f"{path}: {explain(error, SweepTool)}") from error
    return override(tool, [*arguments, f"name={name}"])


def from_recipe(name: str, arguments: Sequence[str], project: Path) -> SweepTool:
    """What a recipe's `sweep` returns: `sim_name=arena` names the recipe, `sweep=quick` its preset.

    Raises InvalidInput or UnknownName.
    """
    _refuse_bad_name(name)
    recipe, rest = None, []
    for argument in arguments:
        key, text = split_argument(argument)
        if key == "sim_name":
            recipe = text
        else:
            rest.append(f"preset={text}" if key == "sweep" else argument)
    known = [one.name for one in list_recipes(project)[0] if one.name.endswith(".sweep")]
    if recipe is None and len(known) != 1:
        choice = ", ".join(f"sim_name={one.removesuffix('.sweep')}" for one in known)
        there = f"There are: {choice}." if known else "None of the recipes has a function `sweep` yet."
        raise InvalidInput(f"Say which recipe's sweep, or give --config FILE. {there}")
    chosen = f"{recipe}.sweep" if recipe else known[0]
    tool = build(chosen, [f"name={name}", *rest], project)
    if not isinstance(tool, SweepTool):
        raise InvalidInput(f"{chosen} returned {type(tool).__name__}; it must return a SweepTool.")
    return tool


def _refuse_bad_name(name: str) -> None:
    try:
        check_name(name)
    except ValueError as error:
        raise InvalidInput(f"The sweep: {error}.") from error
