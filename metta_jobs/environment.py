"""The environment of a job: what is taken over from the submitter, what is never stored, what must not leak in."""

from __future__ import annotations

import hmac
import json
import netrc
import re
from collections.abc import Collection, Mapping, Sequence
from functools import lru_cache
from pathlib import Path

#: Names whose values are never written down. They travel from the submitter to the daemon's memory to the job.
_SECRET_NAME = re.compile(
    r"(^|_)(KEYS?|PASS|PWD|PAT|CREDS?|CREDENTIALS?|COOKIE|AUTH|BEARER|DSN|SIGNATURE)(_|\d*$)"
    r"|SECRET|PASSWO?R?D|PASSPHRASE|TOKEN|WEBHOOK|CONNECTION_?STRING"
    r"|(API|SSH|ACCESS|PRIVATE|ENCRYPTION|SIGNING)_?KEY",
    re.IGNORECASE,
)
_SECRET_VALUE = re.compile(
    r"://[^/\s:@]*:[^@\s]+@"  # a password in a URL
    r"|\b(Basic|Bearer)\s+[A-Za-z0-9+/=._~-]{8,}"
    r"|AccountKey=|hooks\.slack\.com/"
    r"|\b(sk|pk|rk)-[A-Za-z0-9_-]{20,}|\b(sk|pk|rk)_(live|test)_[A-Za-z0-9]{16,}"
    r"|\b(ghp|gho|ghs|github_pat|glpat|hf|xox[abp]|wandb_v\d)[-_][A-Za-z0-9_-]{16,}"
    r"|\b(AKIA|ASIA)[A-Z0-9]{16}\b"
    r"|-----BEGIN [A-Z ]*PRIVATE KEY"
    r"|\beyJ[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]{10,}\."
)
_SECRET_FLAG = re.compile(
    r"--?([a-z]+[-_])?(api[-_]?key|password|secret|access[-_]token|auth[-_]token|hf[-_]token)(=.+)?", re.IGNORECASE
)
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_NOT_SECRET = frozenset({"PWD", "OLDPWD", "SSH_AUTH_SOCK", "XAUTHORITY", "GPG_KEY"})

#: Variables that tie a process to somebody else's run, session or terminal; a job gets its own or none.
_FOREIGN = re.compile(
    r"WANDB_(SERVICE|RUN_ID|RUN_GROUP|NAME|SWEEP.*|AGENT.*|LAUNCH.*|DIR|RESUME.*|FORK_FROM|_.*|X_.*|JOB_TYPE|NOTES)"
    r"|METTA_(JOB|ATTEMPT|GROUP|CHECKPOINT|PREVIOUS).*"
    r"|(CUDA|HIP|ROCR)_VISIBLE_DEVICES"
    r"|COLUMNS|LINES|TERM_SESSION_ID|TMUX|TMUX_PANE|STY|WINDOW|_|SHLVL|OLDPWD|PWD"
    r"|COMP_.*|_METTA_COMPLETE.*|_TYPER_COMPLETE.*|BASH_FUNC_.*|PYTEST_.*"
)

#: wandb.init() raises at a tag that is longer (characters).
LONGEST_TAG = 64
_NOT_IN_RUN_ID = str.maketrans(dict.fromkeys(":;,#?/'=@+", "-"))

TOKEN_VARIABLE = "METTA_ATTEMPT_TOKEN"  # noqa: S105 - a name
#: Marks a process, and what it starts, as part of no attempt: a daemon that a job has started.
NO_ATTEMPT_VARIABLE = "METTA_ATTEMPT_NONE"
#: Which GPUs a process is shown.
CUDA, HIP, ROCR = "CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES"
#: Which GPUs its queue is shown, as a job is told it: the job's own variables name only those that it was given.
OUTSIDE_VARIABLE = "METTA_JOB_OUTSIDE"


def is_secret(name: str, value: str) -> bool:
    """True when the name or the value looks like a credential."""
    if name in _NOT_SECRET:
        return False
    return bool(_SECRET_NAME.search(name) or _SECRET_VALUE.search(value))


def check_env(env: dict[str, str]) -> dict[str, str]:
    """Return variables that may be stored; raise ValueError for what is no variable or looks like a credential."""
    for name, value in env.items():
        if not _VARIABLE.fullmatch(name) or "\0" in value:
            raise ValueError(f"{name!r} cannot be an environment variable")
        if name == "WANDB_TAGS" and any(len(tag) > LONGEST_TAG for tag in value.split(",")):
            raise ValueError(f"WANDB_TAGS holds a tag of more than {LONGEST_TAG} characters, which wandb refuses")
        if is_secret(name, value):
            raise ValueError(
                f"{name} looks like a secret, and configurations are stored: export it in your shell instead, "
                "from where it reaches the job without being written down"
            )
    return env


def check_secret_names(names: tuple[str, ...]) -> tuple[str, ...]:
    """Return names of variables; raise ValueError, which repeats nothing of it, when one is a value."""
    if not all(_VARIABLE.fullmatch(name) for name in names):
        raise ValueError("secrets are given by the names of environment variables, never by their values")
    return names


def secret_argument(command: Sequence[str]) -> str | None:
    """Return the first argument of a command that looks like a credential or is announced as one; None if none does."""
    for position, argument in enumerate(command):
        flag = _SECRET_FLAG.fullmatch(argument)
        given = flag and (flag.group(3) or (position + 1 < len(command) and not command[position + 1].startswith("-")))
        if given or _SECRET_VALUE.search(argument):
            return argument.partition("=")[0] if flag else f"argument {position}"
    return None


def environment_id(variables: Mapping[str, str], secrets: Mapping[str, str], salt: bytes) -> str:
    """Return a name for this environment: another one wherever a value differs, telling nothing about secrets."""
    whole = json.dumps([sorted(variables.items()), sorted(secrets.items())]).encode()
    return hmac.new(salt, whole, "sha256").hexdigest()


def split(environ: Mapping[str, str], named: Collection[str] = ()) -> tuple[dict[str, str], dict[str, str]]:
    """Split an environment into (what may be stored, secrets); foreign variables are in neither.

    `named` are secrets although nothing in them looks like it.
    """
    plain: dict[str, str] = {}
    secret: dict[str, str] = {}
    for name, value in environ.items():
        if not _FOREIGN.fullmatch(name):
            (secret if name in named or is_secret(name, value) else plain)[name] = value
    hidden = {value for value in secret.values() if len(value) >= 12}
    for name in [name for name, value in plain.items() if any(word in value for word in hidden)]:
        secret[name] = plain.pop(name)  # another name for the same secret
    return plain, secret


def outside(environ: Mapping[str, str], queue: str) -> dict[str, str]:
    """The variables that confine the queue in the folder `queue` to some GPUs, from a process that may be its job.

    A job that was given no GPU sees none, and may still be the one that starts the daemon or submits what wants one.
    """
    if environ.get(TOKEN_VARIABLE, "").startswith(f"{queue}:") and (told := environ.get(OUTSIDE_VARIABLE)):
        return {str(name): str(value) for name, value in json.loads(told).items()}
    return {name: environ[name] for name in (CUDA, HIP, ROCR) if name in environ}


def tell_outside(environ: Mapping[str, str]) -> dict[str, str]:
    """What a job of the daemon with this environment needs for `outside`."""
    return {OUTSIDE_VARIABLE: json.dumps(outside(environ, ""))}


def wandb_run_id(queue: str, group: str, name: str, job_id: int) -> str:
    """The id of a job's W&B run, the same for all its attempts: a retry goes on with the run.

    `queue` is the mark of the state folder: jobs of two queues that log to one project are two runs.
    """
    return f"{group}-{name}-{job_id}-{queue}".translate(_NOT_IN_RUN_ID)[-128:]


def wandb_mode(environment: Mapping[str, str]) -> str:
    """Return "online" when wandb would find an API key in this environment, else "offline": it must never ask."""
    return "online" if wandb_login(environment) else "offline"


def netrc_path(environment: Mapping[str, str]) -> Path:
    """Where logins are kept by host."""
    return Path(environment.get("NETRC") or Path(environment.get("HOME") or "/") / ".netrc")


@lru_cache(maxsize=16)
def _hosts(path: Path, _changed_at: int) -> frozenset[str]:
    return frozenset(netrc.netrc(str(path)).hosts)


def wandb_login(environment: Mapping[str, str]) -> str | None:
    """Return where wandb would find an API key for its default hosts, or for the host that $WANDB_BASE_URL names:
    "WANDB_API_KEY" or the path of a netrc file; None where it would find none."""
    if environment.get("WANDB_API_KEY"):
        return "WANDB_API_KEY"
    path = netrc_path(environment)
    try:
        known = _hosts(path, path.stat().st_mtime_ns)
    except (OSError, netrc.NetrcParseError, UnicodeDecodeError):
        return None
    base = environment.get("WANDB_BASE_URL", "")
    if base:
        found = base.split("://")[-1].split("/")[0].split(":")[0] in known
    else:
        found = any(name.endswith(("wandb.ai", "coreweave.com")) for name in known)
    return str(path) if found else None
