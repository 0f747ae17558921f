"""Where runs are logged: whether wandb is here, and whether it would find a login. It is not imported: that is slow."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import netrc
import os
from collections.abc import Iterator, Mapping

from metta_jobs.environment import netrc_path, wandb_login
from metta_jobs.upkeep.findings import Finding, fine, idle, warning
from metta_jobs.upkeep.patient import Patient

NAME = "wandb"
_OFFLINE = "runs are logged offline, and are read all the same"


def look(patient: Patient, environment: Mapping[str, str] = os.environ) -> Iterator[Finding]:
    """Say whether runs that are submitted from this shell would be logged online. No key is ever shown."""
    # A folder of runs that happens to be called wandb has no file of its own.
    spec = importlib.util.find_spec("wandb")
    if spec is None or spec.origin is None:
        yield fine(NAME, "not installed in this environment; jobs that have one of their own may use it")
        return
    found = f"wandb {_version()}"
    mode, login = environment.get("WANDB_MODE", ""), wandb_login(environment)
    host = f" at {_host(environment)}" if environment.get("WANDB_BASE_URL") else ""
    if mode in ("disabled", "dryrun", "offline"):
        what = "nothing is logged" if mode == "disabled" else _OFFLINE
        yield fine(NAME, f"{found}, WANDB_MODE={mode}: {what}")
    elif login is not None:
        remote = patient.remote_jobs() and login != "WANDB_API_KEY"
        alone = "remote jobs are sent WANDB_API_KEY alone: without it in your shell, theirs are logged offline"
        yield fine(NAME, f"{found}, logged in{host} by {login}: runs are logged online", *([alone] if remote else ()))
    elif mode in ("online", "shared"):
        yield warning(NAME, f"{found}, WANDB_MODE={mode}, but not logged in{host}: runs will fail", _remedy(host))
    elif (trouble := _unreadable(environment)) is not None:
        yield warning(NAME, f"{found}, not logged in{host}, for {trouble}: {_OFFLINE}", "correct the file")
    else:
        yield idle(NAME, f"{found}, not logged in{host}: {_OFFLINE}", f"{_remedy(host)}, to see them there too")


def _version() -> str:
    try:
        return importlib.metadata.version("wandb")
    except importlib.metadata.PackageNotFoundError:
        return "of no version"


def _host(environment: Mapping[str, str]) -> str:
    """Without the password that an address may hold."""
    return environment["WANDB_BASE_URL"].split("://")[-1].split("/")[0].split("@")[-1]


def _remedy(host: str) -> str:
    return f"`wandb login{' --host=$WANDB_BASE_URL' if host else ''}`, or export WANDB_API_KEY"


def _unreadable(environment: Mapping[str, str]) -> str | None:
    """Why the file of logins cannot be read; its words may be passwords, and are not repeated."""
    path = netrc_path(environment)
    try:
        netrc.netrc(str(path))
    except FileNotFoundError:
        return None
    except netrc.NetrcParseError as error:
        return f"line {error.lineno} of {path} cannot be understood"
    except (OSError, UnicodeDecodeError) as error:
        return f"{path} cannot be read ({error.strerror if isinstance(error, OSError) else 'it is no text'})"
    return None
