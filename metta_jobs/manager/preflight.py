"""What is looked at before remote jobs are stored: all that would otherwise fail minutes later, on a paid machine."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from metta_jobs.code.git import look
from metta_jobs.code.program import NoGit, NoRepository
from metta_jobs.environment import wandb_mode
from metta_jobs.errors import InvalidInput, MettaError
from metta_jobs.executors.sky.ledger import managed_name
from metta_jobs.executors.sky.python import find_python
from metta_jobs.job import JobConfig
from metta_jobs.manager.sky import Sky
from metta_jobs.recipe.build import build
from metta_jobs.remote import RemoteConfig, cloud_of, is_legal_name, legal_name
from metta_jobs.settings import Settings

_RUN_RECIPE = ("-m", "metta_jobs", "run")
_SHOWN = 3


@dataclass(frozen=True)
class Finding:
    """What one check found: `said` is a sentence, `remedy` what to do when it is not `ok`."""

    check: str
    ok: bool
    said: str
    remedy: str | None = None


def preflight(
    configs: Sequence[JobConfig], state_dir: Path, project: Path, *, skip_git_check: bool = False
) -> list[Finding]:
    """Look at all that would fail later, and return what was found, which all is well.

    Jobs of this machine are passed over; without a remote one, SkyPilot is not asked. Raises one InvalidInput for all
    problems together, a line each with its remedy.
    """

    def check() -> Mapping[str, Any]:
        with Sky(state_dir, project) as sky:
            return sky.ask("check")

    found = examine(
        configs,
        project,
        skip_git_check=skip_git_check,
        check=check,
        find_python=lambda: find_python(Settings.load(project).sky_python),
        name_of=lambda config: managed_name("00000000", (1, 1), config.name),
    )
    refuse(found)
    return found


def refuse(findings: Sequence[Finding]) -> None:
    """Raise one InvalidInput that lists all problems among these findings, if there are any."""
    problems = [finding for finding in findings if not finding.ok]
    if len(problems) == 1:
        raise InvalidInput(_line(problems[0]))
    if problems:
        lines = "\n".join(f"  {finding.check}: {_line(finding)}" for finding in problems)
        raise InvalidInput(f"Before these jobs can run remotely, {len(problems)} things have to be seen to:\n{lines}")


def _line(finding: Finding) -> str:
    return f"{finding.said} {finding.remedy}" if finding.remedy else finding.said


def examine(
    configs: Sequence[JobConfig],
    project: Path,
    *,
    skip_git_check: bool = False,
    check: Callable[[], Mapping[str, Any]] | None = None,
    find_python: Callable[[], str] | None = None,
    name_of: Callable[[JobConfig], str] | None = None,
    environment: Mapping[str, str] = os.environ,
) -> list[Finding]:
    """Look at everything that the remote ones of these jobs need, and return what was found, well or not.

    `check` answers as the SkyPilot worker's check does ("healthy", "endpoint", "enabled") and is not asked when None;
    `find_python` returns the interpreter that has sky; `name_of` the name under which a job is launched, by default
    its own.
    """
    jobs = [(config, config.remote) for config in configs if config.remote is not None]
    if not jobs:
        return []
    found: list[Finding] = []
    if not skip_git_check and any(remote.workdir == "git" for _, remote in jobs):
        found += _git(project)
    found.append(_names([config for config, _ in jobs], name_of))
    found += _files(remote for _, remote in jobs)
    found += _secrets(jobs, environment)
    found.append(_wandb(jobs, environment))
    found.append(_runs([config for config, _ in jobs], project))
    interpreter = _interpreter(find_python)
    found.append(interpreter)
    if interpreter.ok and check is not None:
        found += _infra({remote.cloud for _, remote in jobs}, check)
    return found


# ------------------------------------------------------------------------------------------------ each check


def _git(project: Path) -> list[Finding]:
    """Nodes fetch the commit: what is not committed and pushed is not what would run."""
    try:
        state = look(project)
    except (NoGit, NoRepository) as error:
        return [Finding("git", False, str(error), "workdir=snapshot ships the files as they are.")]
    except InvalidInput as error:
        return [Finding("git", False, str(error))]
    short = state.commit[:12]
    found = []
    if state.url is None:
        said = "The repository has no remote from which nodes could fetch the code."
        found.append(Finding("git", False, said, "`git remote add origin <url>` and push, or say workdir=snapshot."))
    elif not state.pushed:
        said = f"The commit {short} is not on any branch of {state.url}."
        found.append(Finding("git", False, said, "`git push`, or say workdir=snapshot."))
    if not state.clean:
        said = f"There are changes that the commit {short} does not hold, so nodes would not run them."
        remedy = "Commit and push them, say workdir=snapshot, or skip_git_check=true to run the commit as it is."
        found.append(Finding("git", False, said, remedy))
    return found or [Finding("git", True, f"The commit {short} is on {state.url}.")]


def _names(configs: Sequence[JobConfig], name_of: Callable[[JobConfig], str] | None) -> Finding:
    names = [config.name if name_of is None else name_of(config) for config in configs]
    wrong = list(dict.fromkeys(name for name in names if not is_legal_name(name)))
    if not wrong:
        return Finding("names", True, f"SkyPilot takes the names of all {len(names)} jobs.")
    remedy = f"Use letters and digits with single . _ - between them: {legal_name(wrong[0])!r}."
    return Finding("names", False, f"SkyPilot takes no job that is named {_some(map(repr, wrong))}.", remedy)


def _files(remotes: Iterable[RemoteConfig]) -> list[Finding]:
    found: dict[str, Finding] = {}
    for remote in remotes:
        if isinstance(remote.workdir, Path) and not remote.workdir.is_dir():
            said = f"The workdir {remote.workdir} is no folder."
            found[said] = Finding("files", False, said, "Name a folder, or say workdir=snapshot.")
        for target, source in remote.file_mounts.items():
            if "://" not in source and not Path(source).exists():
                said = f"{source}, which is to be mounted at {target}, is not there."
                found[said] = Finding("files", False, said, "Correct the path in file_mounts.")
    return list(found.values())


def _secrets(jobs: Sequence[tuple[JobConfig, RemoteConfig]], environment: Mapping[str, str]) -> list[Finding]:
    wanted = {name for config, remote in jobs for name in (*config.secrets, *remote.secrets)}
    missing = sorted(name for name in wanted if name not in environment)
    if not missing:
        return []
    return [Finding("secrets", False, f"{_some(missing)}: not in your environment.", f"`export {missing[0]}=…` first.")]


def _wandb(jobs: Sequence[tuple[JobConfig, RemoteConfig]], environment: Mapping[str, str]) -> Finding:
    """Nobody is there to answer wandb's question for a key, so a job that insists on being online would fail."""
    without = []
    for config, remote in jobs:
        own = {**environment, **config.env, **remote.env}
        if own.get("WANDB_MODE") in ("online", "shared") and wandb_mode(own) != "online":
            without.append(config.name)
    if without:
        said = f"{_some(without)}: WANDB_MODE is online, and there is no login to W&B."
        return Finding("wandb", False, said, "`wandb login`, export WANDB_API_KEY, or set WANDB_MODE=offline.")
    mode = environment.get("WANDB_MODE") or wandb_mode(environment)
    return Finding("wandb", True, f"Runs are logged {mode}." if mode != "disabled" else "Runs are not logged to W&B.")


def _runs(configs: Sequence[JobConfig], project: Path) -> Finding:
    """Build every distinct configuration once; a mistake shows here at once, and on a node after minutes."""
    built: dict[tuple[str, ...], str | None] = {}
    wrong = []
    for config in configs:
        run = _recipe(config)
        if run and run not in built:
            built[run] = _build_error(run, project)
            if (error := built[run]) is not None:
                wrong.append(f"{config.name}: {error}")
    if wrong:
        more = f" (and {len(wrong) - _SHOWN} more)" if len(wrong) > _SHOWN else ""
        return Finding("runs", False, "; ".join(wrong[:_SHOWN]) + more)
    return Finding("runs", True, f"{len(built)} distinct configuration{'' if len(built) == 1 else 's'} can be built.")


def _recipe(config: JobConfig) -> tuple[str, ...]:
    """The recipe that a job runs and its arguments; empty when it runs something else."""
    return tuple(config.command[4:]) if tuple(config.command[1:4]) == _RUN_RECIPE else ()


def _build_error(run: tuple[str, ...], project: Path) -> str | None:
    try:
        build(run[0], run[1:], project)
    except MettaError as error:
        return str(error)
    return None


def _interpreter(find_python: Callable[[], str] | None) -> Finding:
    remedy = "`uv tool install skypilot`, or name the Python that has it in the setting sky_python."
    try:
        if find_python is None:
            find_python = import_module("metta_jobs.executors.sky.python").find_python
        found = find_python()
    except ImportError:
        return Finding("skypilot", False, "SkyPilot is not installed.", remedy)
    except MettaError as error:
        return Finding("skypilot", False, str(error))
    return Finding("skypilot", True, f"SkyPilot is run by {found}.")


def _infra(clouds: set[str | None], check: Callable[[], Mapping[str, Any]]) -> list[Finding]:
    try:
        answer = check()
    except MettaError as error:
        return [Finding("infra", False, str(error))]
    where = answer.get("endpoint") or "SkyPilot's API server"
    if not answer.get("healthy"):
        return [Finding("infra", False, f"{where} does not answer as it should.", "`sky api info` tells more.")]
    enabled = {str(cloud).split("/")[0].lower() for cloud in answer.get("enabled") or ()}
    enabled = {cloud for cloud in map(cloud_of, enabled) if cloud is not None}
    if not enabled:
        return [Finding("infra", False, f"{where} has no infra enabled.", "`sky check` says what each still needs.")]
    missing = sorted(cloud for cloud in clouds if cloud is not None and cloud not in enabled)
    has = ", ".join(sorted(enabled))
    if missing:
        said = f"{', '.join(missing)} is not enabled at {where}; there is {has}."
        return [Finding("infra", False, said, f"`sky check {missing[0]}` says what it still needs.")]
    return [Finding("infra", True, f"{where} can use {has}.")]


def _some(words: Iterable[str]) -> str:
    shown = list(words)
    return ", ".join(shown[:_SHOWN]) + (f" and {len(shown) - _SHOWN} more" if len(shown) > _SHOWN else "")
