"""Making an attempt's environment and handing the attempt to its executor."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from metta_jobs.daemon import resume
from metta_jobs.daemon.house import House, Launches
from metta_jobs.environment import TOKEN_VARIABLE, wandb_mode, wandb_run_id
from metta_jobs.executors.base import LaunchRefused, LaunchSpec
from metta_jobs.executors.devices import visible
from metta_jobs.paths import PROGRAM, STATE_DIR_VARIABLE, StateDir
from metta_jobs.store import queue, transitions
from metta_jobs.store.queue import LiveAttempt

log = logging.getLogger("metta_jobs.daemon")

REFUSED_PAUSE_S = 5.0
LONGEST_LAUNCH_PAUSE_S = 30.0
ENVIRONMENTS = 64


def launch(house: House, attempt: LiveAttempt) -> str | None:
    """Hand an attempt that is claimed to its executor; return what is worth saying when that could not be done."""
    launches = house.launches.setdefault(attempt.key, Launches())
    launches.refused = _launch(house, attempt, launches)
    return launches.refused


def _launch(house: House, attempt: LiveAttempt, launches: Launches) -> str | None:
    # Who submits sends the secrets first and commits then: what belongs to a stored job has been sent.
    house.secrets.submitted |= house.hear()
    secrets = house.secrets.of(attempt.environment, attempt.secrets)
    if wanted := [name for name in attempt.named_secrets if name not in secrets]:
        # Started without it, it would fail hours later, or succeed without having done what it should.
        launches.next_at = house.clock.monotonic() + REFUSED_PAUSE_S
        return (
            f"needs the secret {wanted[0]}, which this daemon was not told: in a shell that has it, "
            f"`{PROGRAM} daemon stop` and `{PROGRAM} daemon start`"
        )
    if attempt.environment not in house.variables:
        if len(house.variables) >= ENVIRONMENTS:
            house.variables.clear()
        with house.store.read() as connection:
            house.variables[attempt.environment] = queue.variables(connection, attempt.environment)
    if attempt.remote is None:
        environment = build_environment(attempt, house.state_dir, {**house.variables[attempt.environment], **secrets})
        if attempt.key[1] > 1:
            environment |= resume.earlier(house, attempt.key)
        spec = LaunchSpec(attempt.key, attempt.lane, attempt.command, attempt.cwd, environment)
    else:
        spec = _elsewhere(attempt, attempt.remote, house.state_dir, house.variables[attempt.environment], secrets)
    try:
        house.executors[attempt.executor].launch(spec)
    except LaunchRefused as refusal:
        # A full disk or no free process is no fault of the job's, so it is tried again and again.
        launches.next_at = house.clock.monotonic() + REFUSED_PAUSE_S
        log.warning("job %d.%d %s", *attempt.key, refusal)
        return str(refusal)
    launches.count += 1
    launches.next_at = house.clock.monotonic() + min(2 ** (launches.count - 1), LONGEST_LAUNCH_PAUSE_S)
    if missing := [name for name in attempt.secrets if name not in secrets]:
        said = f"launched without {', '.join(missing)}, which this daemon does not know"
        log.warning("job %d.%d is %s", *attempt.key, said)
        with house.store.write() as connection:
            transitions.record(
                connection, house.clock.now(), [attempt.key[0]], "note", attempt=attempt.key[1], reason=said
            )
    return None


def _elsewhere(
    attempt: LiveAttempt,
    remote: Mapping[str, Any],
    state_dir: StateDir,
    submitted: Mapping[str, str],
    secrets: Mapping[str, str],
) -> LaunchSpec:
    """What an attempt takes along to another machine: of its submitter's environment nothing but W&B's settings, of the
    secrets those that it names, and W&B's key."""
    named = {*attempt.named_secrets, "WANDB_API_KEY"}
    along = {name: value for name, value in submitted.items() if name in _WANDB}
    own = {**attempt.env, **remote.get("env", {})}
    theirs = {**along, **own}
    sent = {name: value for name, value in secrets.items() if name in named}
    if "WANDB_MODE" not in theirs:
        theirs["WANDB_MODE"] = "online" if "WANDB_API_KEY" in sent else "offline"
    environment = {"PYTHONUNBUFFERED": "1", **theirs, **_run(attempt, state_dir, own), **_who(attempt)}
    return LaunchSpec(
        attempt.key,
        attempt.lane,
        attempt.command,
        attempt.cwd,
        environment,
        attempt.name,
        attempt.grace_s,
        sent,
        remote,
    )


_WANDB = ("WANDB_ENTITY", "WANDB_PROJECT", "WANDB_BASE_URL", "WANDB_MODE", "WANDB_TAGS", "WANDB_NOTES")


def build_environment(attempt: LiveAttempt, state_dir: StateDir, submitted: Mapping[str, str]) -> dict[str, str]:
    """Return the submitter's environment with what is known of its secrets, the job's own variables, and ours.

    METTA_* tell the job who it is; WANDB_* give any script's wandb run a private folder, an id, a name and a group, so
    that it is found again, unless its own configuration names them; CUDA_VISIBLE_DEVICES holds the job's own GPUs and
    nothing else.
    """
    folder = f"{state_dir.root}/jobs/{attempt.key[0]}/{attempt.key[1]}"
    theirs = {**submitted, **attempt.env}
    ours = {
        **_run(attempt, state_dir, attempt.env),
        **_who(attempt),
        TOKEN_VARIABLE: state_dir.token(*attempt.key),
        STATE_DIR_VARIABLE: str(state_dir.root),
        "METTA_JOB_DIR": folder,
        **visible(attempt.gpus),
        "WANDB_DIR": folder,
    }
    defaults = {"PYTHONUNBUFFERED": "1"}
    if "WANDB_MODE" not in theirs:
        defaults["WANDB_MODE"] = wandb_mode(theirs)
    return {**defaults, **theirs, **ours}


def _who(attempt: LiveAttempt) -> dict[str, str]:
    """What tells a job, wherever it runs, which one it is."""
    (job_id, number), name = attempt.key, attempt.name
    return {
        "METTA_JOB_ID": str(job_id),
        "METTA_JOB_NAME": name,
        "METTA_GROUP": attempt.group,
        "METTA_ATTEMPT": str(number),
    }


def _run(attempt: LiveAttempt, state_dir: StateDir, own: Mapping[str, str]) -> dict[str, str]:
    """What makes any script's wandb run this job's. `own` is what the job's configuration says itself."""
    ours = {
        "WANDB_RUN_ID": wandb_run_id(state_dir.mark, attempt.group, attempt.name, attempt.key[0]),
        "WANDB_NAME": attempt.name,
        "WANDB_RUN_GROUP": attempt.group,
        "WANDB_RESUME": "allow",
        # wandb writes its log every 15 s by itself; the monitor lives by that log.
        "WANDB_X_TRANSACTION_LOG_FLUSH_INTERVAL": "1",
    }
    return {**ours, **{name: own[name] for name in ours if name in own}}
