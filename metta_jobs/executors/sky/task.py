"""An attempt as SkyPilot's task: its command under our script, its code, its environment."""

from __future__ import annotations

import posixpath
import sys
from typing import Any

from metta_jobs.executors.base import LaunchSpec
from metta_jobs.executors.sky.outcome import script
from metta_jobs.remote import RemoteConfig


def task_of(spec: LaunchSpec, token: str) -> dict[str, Any]:
    """The fields "task" and "pool" of a launch: what sky.Task takes, as plain data, running the job's command under the
    script that leaves evidence with this token."""
    config = RemoteConfig.model_validate(spec.remote)
    hours, command, task = config.max_runtime_hours, list(spec.command), config.task_fields()
    if command[0] == sys.executable:
        # Our Python is not there: the project's own environment is made on the node, and its Python runs it.
        command[:1] = ["env", "-u", "VIRTUAL_ENV", "uv", "run", "--no-sync", "python"]  # SkyPilot's own is not meant
        task["setup"] = task["setup"] or _SETUP
    before = ""
    if config.pool is not None and task["setup"]:
        # A pool's workers were set up when the pool was made: SkyPilot runs no job's setup on them.
        before, task["setup"] = f"(\n{task['setup']}\n) || {{ echo 'The setup failed.'; exit 1; }}\n", None
    task["run"] = before + script(
        command,
        token,
        cwd=posixpath.join((config.shipped or {}).get("prefix", ""), spec.cwd or "."),
        limit_s=None if hours is None else hours * 3600,
        grace_s=spec.grace_s,
    )
    task["envs"] = {**task["envs"], **spec.environment}
    task["secrets"] = dict(spec.secrets)
    return {"task": task, "pool": config.pool}


#: How a node that has just been made gets the project's environment, when the job does not say it.
_SETUP = """
PATH=$HOME/.local/bin:$PATH
unset VIRTUAL_ENV
command -v uv >/dev/null || python3 -m pip install --user uv || curl -LsSf https://astral.sh/uv/install.sh | sh
uv sync
"""
