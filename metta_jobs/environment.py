"""The environment of a job: what is taken over from the submitter, what is never stored, what must not leak in."""

from __future__ import annotations

import re
from collections.abc import Mapping

#: Names whose values are never written down. They travel from the submitter to the daemon's memory to the job.
_SECRET_NAME = re.compile(
    r"(^|_)(API_?KEY|KEY|TOKEN|SECRET|PASSWORD|PASSWD|PASSPHRASE|PASS|PWD|CREDENTIALS?|COOKIE|AUTH|DSN|SIGNATURE)(_|\d*$)"
    r"|SECRET|PASSWORD|APIKEY|TOKEN",
    re.IGNORECASE,
)
_SECRET_VALUE = re.compile(
    r"://[^/\s:@]*:[^/\s@]+@"  # a password in a URL
    r"|\b(sk|pk|rk)[-_](live|test|proj|ant)?[-_]?[A-Za-z0-9_-]{20,}"
    r"|\b(ghp|gho|ghs|github_pat|glpat|hf|xox[abp]|wandb_v\d)[-_][A-Za-z0-9_-]{16,}"
    r"|\b(AKIA|ASIA)[A-Z0-9]{16}\b"
    r"|-----BEGIN [A-Z ]*PRIVATE KEY"
    r"|\beyJ[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]{10,}\."
)
_NOT_SECRET = frozenset({"PWD", "OLDPWD", "SSH_AUTH_SOCK", "XAUTHORITY", "GPG_KEY"})

#: Variables that tie a process to somebody else's run, session or terminal; a job gets its own or none.
_FOREIGN = re.compile(
    r"WANDB_(SERVICE|RUN_ID|RUN_GROUP|NAME|SWEEP_ID|DIR|RESUME|_.*|X_.*|JOB_TYPE|TAGS|NOTES)"
    r"|METTA_(JOB|ATTEMPT|GROUP).*"
    r"|(CUDA|HIP|ROCR)_VISIBLE_DEVICES"
    r"|COLUMNS|LINES|TERM_SESSION_ID|TMUX|TMUX_PANE|STY|WINDOW|_|SHLVL|OLDPWD|PWD"
    r"|COMP_.*|_METTA_COMPLETE.*|_TYPER_COMPLETE.*|BASH_FUNC_.*|PYTEST_.*"
)

TOKEN_VARIABLE = "METTA_ATTEMPT_TOKEN"


def is_secret(name: str, value: str) -> bool:
    """True when the name or the value looks like a credential."""
    if name in _NOT_SECRET:
        return False
    return bool(_SECRET_NAME.search(name) or _SECRET_VALUE.search(value))


def split(environ: Mapping[str, str]) -> tuple[dict[str, str], dict[str, str]]:
    """Split an environment into (what may be stored, secrets); foreign variables are in neither."""
    plain: dict[str, str] = {}
    secret: dict[str, str] = {}
    for name, value in environ.items():
        if not _FOREIGN.fullmatch(name):
            (secret if is_secret(name, value) else plain)[name] = value
    return plain, secret
