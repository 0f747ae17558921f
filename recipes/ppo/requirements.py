"""Optional packages: asked for before the work begins, with a sentence when one is missing."""

from __future__ import annotations

import sys
from importlib.util import find_spec

from metta_jobs.errors import MissingExtra

TRAINING = ("torch", "gymnasium", "stable_baselines3", "wandb")


def require(*packages: str) -> None:
    """Raise MissingExtra when one of these packages cannot be imported here."""
    missing = [package for package in packages if find_spec(package) is None]
    if not missing:
        return
    if "mettagrid" in missing and sys.version_info[:2] >= (3, 13):
        raise MissingExtra(
            f"mettagrid has wheels only for Python 3.11 and 3.12, and this is Python {sys.version_info.major}."
            f"{sys.version_info.minor}: run `uv sync --python 3.12 --extra train`."
        )
    names = ", ".join(package.replace("_", "-") for package in missing)
    raise MissingExtra(f"Training needs packages that are not installed ({names}): run `uv sync --extra train`.")
