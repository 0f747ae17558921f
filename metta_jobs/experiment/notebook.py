"""The one door from experiments to notebooks: `metta notebook`, as a person would type it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from metta_jobs.errors import MissingExtra, RunFailed
from metta_jobs.job import Dependency, JobConfig
from metta_jobs.states import DependencyKind

NOTEBOOK_JOB = "notebook"


def notebook_job(
    group: str, runs: Sequence[JobConfig], project: Path, sections: Sequence[str], metrics: tuple[str, ...]
) -> JobConfig:
    """The job that writes a group's notebook when all its runs have ended. Raises MissingExtra."""
    if find_spec("nbformat") is None or find_spec("matplotlib") is None:
        raise MissingExtra(
            "The notebook needs packages that are not installed: install metta-jobs[notebook], or say --no-notebook."
        )
    return JobConfig(
        name=NOTEBOOK_JOB,
        kind="notebook",
        command=(sys.executable, "-m", "metta_jobs.notebook", group, *_sections(sections)),
        cwd=project,
        depends_on=tuple(Dependency(job=run.name, kind=DependencyKind.AFTERANY) for run in runs),
        metrics=metrics,
    )


def notebook_command(group: str, sections: Sequence[str] = (), *, open_it: bool = False) -> list[str]:
    """The command that writes a group's notebook now."""
    opened = ["--open"] if open_it else []
    return [sys.executable, "-m", "metta_jobs", "notebook", group, *_sections(sections), *opened]


def write_notebooks(groups: Sequence[str], sections: Sequence[str] = (), *, open_it: bool = False) -> None:
    """Write each group's notebook now; with `open_it`, open it. Raises RunFailed when one could not be written."""
    for group in groups:
        done = subprocess.run(notebook_command(group, sections, open_it=open_it), check=False)
        if done.returncode:
            raise RunFailed(f"The notebook of {group} was not written as it should; what is above says why.")


def _sections(sections: Sequence[str]) -> list[str]:
    return ["--sections", ",".join(sections)] if sections else []
