"""The packages that notebooks need beyond the base installation."""

from __future__ import annotations

from importlib.util import find_spec

from metta_jobs.errors import MissingExtra


def require(*packages: str, extra: str = "notebook") -> None:
    """Raise MissingExtra, with the command that helps, unless all these packages are installed."""
    missing = [package for package in packages if find_spec(package) is None]
    if missing:
        raise MissingExtra(
            f"Notebooks need {', '.join(missing)}, not installed here. "
            f"`uv sync --extra {extra}` installs it, as does `pip install 'metta-jobs[{extra}]'`."
        )
