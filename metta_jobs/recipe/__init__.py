"""Recipes: found by name, called with typed arguments, their tools overridden by dotted path."""

from metta_jobs.recipe.build import build, split_argument, takes
from metta_jobs.recipe.find import Recipe, find_recipe, list_recipes

__all__ = ["Recipe", "build", "find_recipe", "list_recipes", "split_argument", "takes"]
