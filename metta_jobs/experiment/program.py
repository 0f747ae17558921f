"""From a training's configuration to the recipe's tool that carries it out."""

from __future__ import annotations

from pathlib import Path

from pydantic import ValidationError

from metta_jobs.errors import InvalidInput, MettaError
from metta_jobs.experiment.training import TrainingRunConfig
from metta_jobs.recipe.find import find_recipe, own_lines
from metta_jobs.refusal import sentence
from metta_jobs.tool import Tool


def refused(error: ValidationError) -> str:
    """The first thing that pydantic has refused, in a sentence."""
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"])
    return f"{where}: {sentence(first['msg'])}" if where else sentence(first["msg"])


def load_training(path: Path) -> TrainingRunConfig:
    """Read a training's file. Raises InvalidInput."""
    try:
        return TrainingRunConfig.from_yaml_file(path)
    except ValidationError as error:
        raise InvalidInput(f"The configuration {path} does not fit. {refused(error)}") from error


def tool_of(recipe: str, training: TrainingRunConfig, project: Path) -> Tool:
    """What the recipe's function makes of a training: "arena.from_config" is called with it.

    Raises UnknownName when there is no such function, InvalidInput when it cannot use the training.
    """
    found = find_recipe(recipe, project)
    try:
        tool = found.function(training)
    except ValidationError as error:
        raise InvalidInput(f"{recipe}: {refused(error)}") from error
    except MettaError:
        raise
    except Exception as error:
        raise InvalidInput(f"{recipe} raised an error:\n{own_lines(error, project)}") from error
    if not isinstance(tool, Tool):
        raise InvalidInput(f"{recipe} returned {type(tool).__name__}; it must return a Tool.")
    return tool
