"""`metta job …`: submitting, ending and repeating jobs."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from metta_jobs.cli.context import ask, complete_group, manager, print_json
from metta_jobs.errors import InvalidInput
from metta_jobs.paths import PROGRAM
from metta_jobs.states import JobState
from metta_jobs.views import JobView

if TYPE_CHECKING:
    from metta_jobs.job import JobConfig

Json = Annotated[bool, typer.Option("--json", help="Print JSON with stable keys.")]
Targets = Annotated[
    list[str],
    typer.Argument(
        metavar="GROUP|ID…", help="Groups, job ids, GROUP/NAME, or GROUP/VARIANT.", autocompletion=complete_group
    ),
]
DEFAULT_GROUP = "default"
LISTED = 20
#: So long (seconds) the end of jobs that run elsewhere is waited for.
REMOTE_PATIENCE_S = 180.0
#: "timeout_s=60" is a change; "group/lr=1e-3" names a job.
_CHANGE = re.compile(r"[A-Za-z_][A-Za-z0-9_.]*=")


def register(app: typer.Typer) -> None:
    """Add these commands to `metta job`."""
    # What stands behind the command is the command's own: `submit python train.py --lr 1` needs no "--".
    app.command(
        context_settings={"allow_interspersed_args": False},
        epilog="Example: `metta job submit --group g --name train --gpus 1 -- python train.py --lr 1e-3`, then "
        "`metta job submit --group g --name eval --after train -- python evaluate.py`",
    )(submit)
    app.command(epilog="Example: `metta job kill 14`, `metta job kill my_group`")(kill)
    app.command(epilog="Example: `metta job retry my_group --failed`, `metta job retry 14 timeout_s=7200`")(retry)


def submit(
    command: Annotated[list[str], typer.Argument(metavar="[--] COMMAND [ARG…]", help="The command and its arguments.")],
    group: Annotated[str, typer.Option(help="The group it belongs to.", autocompletion=complete_group)] = DEFAULT_GROUP,
    name: Annotated[str | None, typer.Option(help="Its name in the group; by default the command's.")] = None,
    after: Annotated[
        list[str] | None,
        typer.Option(
            help="What to wait for: NAME, GROUP/NAME, ID, or GROUP/ for all of a group; afterany:… or afternotok:… for "
            "other ends."
        ),
    ] = None,
    gpus: Annotated[float, typer.Option(min=0, help="GPUs it gets; 0.5 shares one.")] = 0,
    cpus: Annotated[float, typer.Option(min=0, help="CPU slots it holds.")] = 1,
    memory_gb: Annotated[float, typer.Option(min=0, help="Memory it holds, in GB.")] = 0,
    remote: Annotated[
        bool, typer.Option("--remote", help="Run it through SkyPilot, with these GPUs, CPUs and memory a node.")
    ] = False,
    infra: Annotated[
        str | None, typer.Option(help="Where SkyPilot runs it: cloud[/region[/zone]], slurm, k8s/context. Remote.")
    ] = None,
    priority: Annotated[int, typer.Option(help="Higher starts first.")] = 0,
    timeout: Annotated[float | None, typer.Option(help="Limit of its running time, in seconds.")] = None,
    retries: Annotated[int, typer.Option(min=0, help="How often it is tried again when it fails.")] = 0,
    env: Annotated[list[str] | None, typer.Option(help="KEY=VALUE for its environment.")] = None,
    secret: Annotated[list[str] | None, typer.Option(help="A variable of your environment to hand on unseen.")] = None,
    cwd: Annotated[Path | None, typer.Option(help="The folder it runs in; by default this one.")] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="KEY=VALUE",
            help="Any other field: queue_timeout_s, retry.backoff_s, on_end, acceptance, …",
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Submit any command as a job. Its own options come before the command; all that follows belongs to the command."""
    with manager(create=True) as opened:
        chosen = name or opened.free_name(group, _stem(command[0]))
        values: dict[str, Any] = {
            "name": chosen,
            "command": tuple(command),
            **_resources(gpus, cpus, memory_gb, infra, remote=remote or infra is not None),
            "priority": priority,
            "timeout_s": timeout,
            "retry": {"max_attempts": retries + 1} if retries else None,
            "env": dict(_variable(text) for text in env or []),
            "secrets": tuple(secret or []),
            "cwd": cwd,
        }
        view = opened.submit([_config(values, after or [], settings or [])], group=group)
    job = next(job for job in view.jobs if job.name == chosen)
    if as_json:
        print_json(job.to_dict())
        return
    typer.echo(f"Job {job.id} ({job.group}/{job.name}) is submitted. `{PROGRAM} job logs {job.id} -f` follows it.")


def _resources(gpus: float, cpus: float, memory_gb: float, infra: str | None, *, remote: bool) -> dict[str, Any]:
    if not remote:
        return {"gpus": gpus, "cpus": cpus, "memory_gb": memory_gb}
    asked = {"gpus": gpus, "cpus": cpus or None, "memory_gb": memory_gb or None}
    return {"remote": asked if infra is None else {**asked, "infra": infra}}


def _config(values: dict[str, Any], after: list[str], settings: list[str]) -> JobConfig:
    from pydantic import ValidationError

    from metta_jobs.job import Dependency, JobConfig
    from metta_jobs.recipe.build import override
    from metta_jobs.refusal import explain

    try:
        parents = tuple(Dependency.parse(text) for text in after)
    except ValidationError as error:
        raise InvalidInput(explain(error, called="--after")) from error
    except ValueError as error:
        raise InvalidInput(f"--after: {error}.") from error
    try:
        config = JobConfig(**values, depends_on=parents)
    except ValidationError as error:
        loc = error.errors()[0]["loc"]
        option = str(loc[-1] if loc[0] == "remote" else loc[0]).removesuffix("_s").replace("_", "-")
        option = "retries" if option == "retry" else option
        raise InvalidInput(explain(error, JobConfig, called=f"--{option}")) from error
    return override(config, settings)


def kill(
    targets: Targets,
    force: Annotated[bool, typer.Option("--force", help="KILL at once: no question, no grace.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    as_json: Json = False,
) -> None:
    """End jobs: TERM to the whole process tree, KILL after the grace; pending ones are cancelled."""
    with manager() as opened:
        doomed = [job for job in opened.jobs(targets) if not job.state.terminal]
        if not doomed:
            if as_json:
                print_json({"jobs": []})
            else:
                typer.echo("Nothing to kill: all of these jobs have ended.")
            return
        if not (force or yes):
            _list(doomed)
            ask(f"End {_jobs(len(doomed))}?")
        if not as_json:
            typer.echo(f"Ending {_jobs(len(doomed))} …", err=True)
        asked = opened.kill([job.id for job in doomed], force=force)
        ids = [job.id for job in asked]
        patience_s = max((job.grace_s for job in asked), default=0.0) + 10
        if any(job.elsewhere for job in asked):
            patience_s = max(patience_s, REMOTE_PATIENCE_S)
            if not as_json:
                typer.echo("SkyPilot ends those that run elsewhere, which takes about a minute.", err=True)
        ended = opened.wait(ids, timeout_s=patience_s) if ids else []
    if as_json:
        print_json({"jobs": [job.to_dict() for job in ended]})
    open_jobs = [job for job in ended if not job.state.terminal]
    if not as_json:
        if len(ended) > len(open_jobs):
            typer.echo(f"{_jobs(len(ended) - len(open_jobs))} ended.")
        for job in open_jobs:
            typer.echo(f"{job.group}/{job.name} ({job.id}) has not ended yet: {job.reason}", err=True)
        if open_jobs:
            typer.echo("The daemon goes on ending them; `metta job wait` waits for that.", err=True)
    raise typer.Exit(1 if open_jobs else 0)


def retry(
    targets: Annotated[
        list[str],
        typer.Argument(metavar="GROUP|ID… [KEY=VALUE…]", help="Jobs, and changes.", autocompletion=complete_group),
    ],
    failed: Annotated[bool, typer.Option("--failed", help="Pass over what succeeded or has not ended.")] = False,
    as_json: Json = False,
) -> None:
    """Give jobs that ended without success a new attempt. What was skipped because of them runs too.

    KEY=VALUE changes their configuration first: limits, slots, environment, or arguments of the recipe that they run.
    """
    changes = [target for target in targets if _CHANGE.match(target)]
    with manager() as opened:
        again = opened.retry([target for target in targets if target not in changes], failed=failed, changes=changes)
        groups = {job.group for job in again}
        written = {g for g in groups for j in opened.group(g).jobs if j.kind == "notebook" and j.state.terminal}
    if as_json:
        print_json({"jobs": [job.to_dict() for job in again]})
        return
    if not again:
        typer.echo("Nothing to try again: none of these jobs has failed.")
        return
    _list(again)
    back = [job for job in again if job.state is not JobState.SKIPPED]
    typer.echo(f"{_jobs(len(back))} tried again.")
    for group in sorted({job.group for job in back if job.kind == "run"} & written):
        typer.echo(
            f"The notebook of {group} tells of the earlier attempts; `{PROGRAM} notebook {group}` writes it anew."
        )


def _list(jobs: list[JobView]) -> None:
    for job in jobs[:LISTED]:
        typer.echo(f"  {job.id:>5}  {job.group}/{job.name}  {job.state.value}", err=True)
    if len(jobs) > LISTED:
        typer.echo(f"  … and {len(jobs) - LISTED} more", err=True)


def _jobs(count: int) -> str:
    return f"{count} job{'' if count == 1 else 's'}"


def _stem(program: str) -> str:
    name = Path(program).name or program
    cleaned = re.sub(r"[^A-Za-z0-9_.-]", "-", name).lstrip("-.")
    return cleaned if cleaned and not cleaned.isdigit() else f"job-{cleaned}".rstrip("-")


def _variable(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not equals:
        raise InvalidInput(f"--env: {text!r} is not KEY=VALUE.")
    return key, value
