"""The one door from experiments to notebooks: `metta notebook`, as a person would type it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from metta_jobs.errors import MissingExtra, RunFailed
from metta_jobs.experiment.sections import choose_sections
from metta_jobs.job import Dependency, JobConfig
from metta_jobs.states import DependencyKind

NOTEBOOK_JOB = "notebook"


def notebook_job(
    group: str, runs: Sequence[JobConfig], project: Path, sections: Sequence[str], metrics: tuple[str, ...]
) -> JobConfig:
    """The job that writes a group's notebook when all its runs have ended. Raises MissingExtra, UnknownName."""
    chosen = choose_sections(sections) if sections else ()
    if find_spec("nbformat") is None or find_spec("matplotlib") is None:
        raise MissingExtra(
            "The notebook needs packages that are not installed: install metta-jobs[notebook], or say --no-notebook."
        )
    return JobConfig(
        name=NOTEBOOK_JOB,
        kind="notebook",
        command=(sys.executable, "-m", "metta_jobs.notebook", group, *_sections(chosen)),
        cwd=project,
        depends_on=tuple(Dependency(job=run.name, kind=DependencyKind.AFTERANY) for run in runs),
        metrics=metrics,
    )


def notebook_command(what: str | Sequence[int], sections: Sequence[str] = (), *, open_it: bool = False) -> list[str]:
    """The command that writes the notebook of a group, or of jobs, now."""
    of = [what] if isinstance(what, str) else ["--job-ids", *map(str, what)]
    opened = ["--open"] if open_it else []
    return [sys.executable, "-m", "metta_jobs", "notebook", *of, *_sections(sections), *opened]


def write_now(what: str | Sequence[int], sections: Sequence[str] = (), *, open_it: bool = False) -> None:
    """Write the notebook of a group, or one of jobs; with `open_it`, open it. Raises RunFailed when that failed."""
    done = subprocess.run(notebook_command(what, sections, open_it=open_it), check=False)
    if done.returncode:
        about = what if isinstance(what, str) else f"the jobs {', '.join(map(str, what))}"
        raise RunFailed(f"The notebook of {about} was not written as it should; what is above says why.")


def _sections(sections: Sequence[str]) -> list[str]:
    return ["--sections", ",".join(sections)] if sections else []
