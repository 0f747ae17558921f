"""Making an attempt's environment and handing the attempt to its executor."""

from __future__ import annotations

from collections.abc import Mapping

from metta_jobs.environment import TOKEN_VARIABLE, wandb_mode
from metta_jobs.executors.base import LaunchSpec
from metta_jobs.paths import STATE_DIR_VARIABLE, StateDir
from metta_jobs.store.queue import LiveAttempt


def launch_spec(attempt: LiveAttempt, state_dir: StateDir, secrets: Mapping[str, str]) -> LaunchSpec:
    """Return everything the executor needs to start the attempt."""
    config = attempt.config
    return LaunchSpec(
        key=attempt.key,
        name=f"{attempt.group}/{config.name}",
        command=config.command,
        cwd=config.cwd,
        grace_s=config.grace_s,
        environment=build_environment(attempt, state_dir, secrets),
    )


def build_environment(attempt: LiveAttempt, state_dir: StateDir, secrets: Mapping[str, str]) -> dict[str, str]:
    """Return the submitter's environment, the secrets that the daemon knows of, the job's own variables, and ours.

    METTA_* tell the job who it is; WANDB_* give any script's wandb run a private folder, an id and a group, so that it
    is found again; CUDA_VISIBLE_DEVICES holds the job's own GPUs and nothing else.
    """
    folder = state_dir.attempt(*attempt.key)
    found = {name: secrets[name] for name in attempt.secrets if name in secrets}
    theirs = {**attempt.variables, **found, **attempt.config.env}
    name = attempt.config.name
    ours = {
        TOKEN_VARIABLE: state_dir.token(*attempt.key),
        STATE_DIR_VARIABLE: str(state_dir.root),
        "METTA_JOB_ID": str(attempt.job_id),
        "METTA_JOB_NAME": name,
        "METTA_GROUP": attempt.group,
        "METTA_ATTEMPT": str(attempt.number),
        "METTA_JOB_DIR": str(folder),
        "CUDA_VISIBLE_DEVICES": ",".join(attempt.gpus),
        "WANDB_DIR": str(folder),
        "WANDB_RUN_ID": f"{attempt.group}-{name}-{attempt.job_id}-{attempt.number}".translate(_NOT_IN_RUN_ID)[-128:],
        "WANDB_NAME": name,
        "WANDB_RUN_GROUP": attempt.group,
        "WANDB_RESUME": "allow",
        # wandb writes its log every 15 s by itself; the monitor lives by that log.
        "WANDB_X_TRANSACTION_LOG_FLUSH_INTERVAL": "1",
    }
    defaults = {"PYTHONUNBUFFERED": "1", "WANDB_MODE": wandb_mode(theirs)}
    return {**defaults, **theirs, **ours}


_NOT_IN_RUN_ID = str.maketrans(dict.fromkeys(":;,#?/'=@+", "-"))
