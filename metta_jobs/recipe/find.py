"""Finding a recipe's function by the name that people type."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, get_type_hints

from metta_jobs.errors import InvalidInput, MettaError, UnknownName, nearest
from metta_jobs.tool import Tool

FOLDER = "recipes"


@dataclass(frozen=True)
class Recipe:
    """A function that returns a tool. `name` is what people type: "arena.train"; `title` is one line about it."""

    name: str
    function: Callable[..., Any]
    title: str

    @property
    def slug(self) -> str:
        """The name as part of a group's name: "arena_train"."""
        return self.name.removeprefix(f"{FOLDER}.").replace(".", "_")


def find_recipe(name: str, project: Path) -> Recipe:
    """Return the function that `name` means: `recipes/X.py` of the project for "X.function", else any dotted path.

    Raises UnknownName with the nearest name, or InvalidInput when the module cannot be imported.
    """
    module_name, dot, function_name = name.rpartition(".")
    if not dot:
        known = [recipe.name for recipe in _functions_of(project, name)]
        hint = f" {name} has {', '.join(known)}." if known else " `metta run --list` shows those there are."
        raise UnknownName(f"{name!r} names no function: write RECIPE.FUNCTION.{hint}")
    module = _import(module_name, project)
    found = _public_functions(module)
    if function_name not in found:
        there = ", ".join(sorted(found)) or "none"
        raise UnknownName(
            f"{module.__name__} has no function {function_name!r}.{nearest(function_name, found)} It has: {there}."
        )
    return _recipe(name, found[function_name])


def list_recipes(project: Path) -> tuple[list[Recipe], list[str]]:
    """Return the functions in recipes/ that return a tool, and the errors of modules that cannot be imported."""
    found: list[Recipe] = []
    broken: list[str] = []
    for stem in _stems(project):
        try:
            found += _functions_of(project, stem)
        except MettaError as error:
            broken.append(str(error))
    return found, broken


def _stems(project: Path) -> list[str]:
    folder = project / FOLDER
    return sorted(path.stem for path in folder.glob("*.py") if not path.stem.startswith("_"))


def _functions_of(project: Path, stem: str) -> list[Recipe]:
    if stem not in _stems(project):
        return []
    functions = _public_functions(_import(stem, project))
    return [_recipe(f"{stem}.{name}", function) for name, function in functions.items() if _returns_tool(function)]


def _recipe(name: str, function: Callable[..., Any]) -> Recipe:
    return Recipe(name, function, (inspect.getdoc(function) or "").partition("\n")[0])


def _public_functions(module: ModuleType) -> dict[str, Callable[..., Any]]:
    return {
        name: value
        for name, value in vars(module).items()
        if inspect.isfunction(value) and not name.startswith("_") and value.__module__ == module.__name__
    }


def _returns_tool(function: Callable[..., Any]) -> bool:
    try:
        returned = get_type_hints(function).get("return")
    except NameError:
        return False  # annotated with a name that only a type checker sees
    return inspect.isclass(returned) and issubclass(returned, Tool)


def _take_folder(folder: Path) -> None:
    """Let `recipes` mean this folder, also where the path has another of this name, with an __init__.py."""
    known = sys.modules.get(FOLDER)
    if known is not None and str(folder) in list(getattr(known, "__path__", [])):
        return
    for name in [name for name in sys.modules if name == FOLDER or name.startswith(f"{FOLDER}.")]:
        del sys.modules[name]
    if not (folder / "__init__.py").exists():
        package = ModuleType(FOLDER)
        package.__path__ = [str(folder)]
        sys.modules[FOLDER] = package


def _import(name: str, project: Path) -> ModuleType:
    """Import `recipes.<name>` of the project, or else `name` itself."""
    if str(project) not in sys.path:
        sys.path.insert(0, str(project))
    local = project.joinpath(FOLDER, *name.split(".")).with_suffix(".py")
    full = name
    if local.is_file():
        full = f"{FOLDER}.{name}"
        _take_folder(project / FOLDER)
    try:
        if importlib.util.find_spec(full) is None:
            raise ModuleNotFoundError(name=full)
    except (ModuleNotFoundError, ValueError):
        stems = _stems(project)
        known = (
            f" There are: {', '.join(stems)}." if stems else f" {project} has no recipes/ folder with recipes in it."
        )
        raise UnknownName(f"There is no recipe {name!r}.{nearest(name, stems)}{known}") from None
    try:
        return importlib.import_module(full)
    except MettaError:
        raise
    except Exception as error:
        raise InvalidInput(f"The recipe {name!r} could not be imported:\n{own_lines(error, project)}") from error


def own_lines(error: Exception, project: Path) -> str:
    """The end of the traceback as far as it lies in the project, and the error itself."""
    frames = [f for f in traceback.extract_tb(error.__traceback__) if Path(f.filename).is_relative_to(project)]
    ours = [f for f in frames if not Path(f.filename).is_relative_to(Path(__file__).parent)]
    return "".join([*traceback.format_list(ours[-2:]), *traceback.format_exception_only(error)]).rstrip()
