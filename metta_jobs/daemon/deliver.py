"""One try to deliver a message, in a thread of its own: a command, a webhook, the desktop.

Nothing here touches the database. What cannot be delivered raises Undelivered with a sentence, which is stored: no
address, no output of a command and nothing that a server said is part of it.
"""

from __future__ import annotations

import errno
import os
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http import HTTPStatus
from pathlib import Path
from typing import IO, Any
from urllib.parse import urlsplit

from metta_jobs import __version__
from metta_jobs.daemon import digest
from metta_jobs.environment import NO_ATTEMPT_VARIABLE, split
from metta_jobs.errors import MettaError
from metta_jobs.paths import STATE_DIR_VARIABLE, StateDir
from metta_jobs.policy import Hook

COMMAND_TIMEOUT_S = 60.0
WEBHOOK_TIMEOUT_S = 10.0
#: A command that writes more (bytes) is ended.
MOST_OUTPUT = 8 << 20
_KEPT_OUTPUT = 16 << 10
_LOG_BYTES = 1 << 20
_LOOK_S = 0.1


class Undelivered(MettaError):
    """A try that failed; after `wait_s` seconds at the earliest another one makes sense."""

    def __init__(self, message: str, wait_s: float = 0) -> None:
        super().__init__(message)
        self.wait_s = wait_s


@dataclass
class Means:
    """What deliveries need.

    Commands run in the folder `project`. `settings_webhook` finds the address of a webhook in the settings, and is
    asked anew for each message. `stopping` ends the commands under way, because the daemon ends.
    """

    state_dir: StateDir
    project: Path
    settings_webhook: Callable[[str], str | None] = lambda name: None
    command_timeout_s: float = COMMAND_TIMEOUT_S
    webhook_timeout_s: float = WEBHOOK_TIMEOUT_S
    stopping: threading.Event = field(default_factory=threading.Event)
    log_lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def log(self) -> Path:
        """Where the output of commands is kept."""
        return self.state_dir.root / "hooks.log"


def deliver(hook: Hook, facts: Mapping[str, Any], address: str | None, means: Means) -> None:
    """Deliver one message; raises Undelivered. `address` is the webhook's, where its submitter has one."""
    if hook.command is not None:
        _run(hook.command, _environment(facts, means), facts, means)
    elif hook.webhook is not None:
        # The submitter's, else that of the settings file, else that of the shell that started the daemon.
        name = hook.webhook
        known = address_of(name, address, means.settings_webhook(name), os.environ.get(name))
        _post(known, digest.slack(facts), means.webhook_timeout_s)
    else:
        _notify(facts, means)


# ------------------------------------------------------------------------------------------------ command


def find_command(program: str, folder: Path) -> str | None:
    """Where the program of a hook that runs in `folder` is; None when it is not there, or may not be executed."""
    return shutil.which(str(folder / program) if "/" in program else program)


def _environment(facts: Mapping[str, Any], means: Means) -> dict[str, str]:
    plain, secrets = split(os.environ)
    inherited = {name: value for name, value in (plain | secrets).items() if name not in digest.VARIABLES}
    # The mark keeps what a hook leaves running from the end of the job that happens to have started the daemon.
    ours = {NO_ATTEMPT_VARIABLE: "1", STATE_DIR_VARIABLE: str(means.state_dir.root)}
    if facts["event"] != "group_ended":
        started = facts.get("attempt")
        ours["METTA_JOB_DIR"] = str(means.state_dir.attempt(facts["job_id"], started)) if started else ""
    return {**inherited, **ours, **digest.variables(facts)}


def _notify(facts: Mapping[str, Any], means: Means) -> None:
    # Notifications are shown as markup.
    body = digest.escape("\n".join(digest.details(facts)))
    plain, secrets = split(os.environ)
    command = ("notify-send", "--app-name=metta", "--", digest.headline(facts), body)
    try:
        _run(command, {**plain, **secrets, NO_ATTEMPT_VARIABLE: "1"}, facts, means)
    except _NotFound:
        raise Undelivered(
            "notify-send is not installed, which shows desktop notifications: install libnotify-bin (Debian, Ubuntu) "
            "or libnotify (Fedora, Arch)"
        ) from None


class _NotFound(Undelivered):
    pass


def _run(command: Sequence[str], environment: Mapping[str, str], facts: Mapping[str, Any], means: Means) -> None:
    """Run a command in a session of its own; raises Undelivered unless it ends with exit code 0 in time."""
    with _room_for_output() as output:
        try:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                cwd=means.project,
                env=environment,
                start_new_session=True,
            )
        except OSError as error:
            raise _not_started(command[0], means.project, error) from error
        try:
            how = _wait(process, output, means)
        finally:
            if process.poll() is None:
                _kill(process)
        _keep(command[0], facts, how or "delivered", output, means)
    if how is not None:
        raise Undelivered(how)


def _room_for_output() -> IO[bytes]:
    """A file without a name: it is gone with us, whatever happens. On a full disk, nothing is kept."""
    try:
        return tempfile.TemporaryFile()
    except OSError:
        return Path(os.devnull).open("r+b")


def _not_started(program: str, folder: Path, error: OSError) -> Undelivered:
    if not folder.is_dir():
        return Undelivered(f"the folder {folder}, in which hooks run, does not exist")
    if error.errno in (errno.ENOENT, errno.ENOTDIR):
        return _NotFound(
            f"the command {program} was not found: give its full path, or put it on the PATH of the shell that starts "
            "the daemon"
        )
    return Undelivered(f"the command {program} cannot be started: {error.strerror}")


def _wait(process: subprocess.Popen[bytes], output: IO[bytes], means: Means) -> str | None:
    """Wait for its end, or end it; return what went wrong."""
    deadline = time.monotonic() + means.command_timeout_s
    while True:
        with suppress(subprocess.TimeoutExpired):
            code = process.wait(min(_LOOK_S, max(0.0, deadline - time.monotonic())))
            if code == 0:
                return None
            ended = f"ended by signal {-code}" if code < 0 else f"ended with exit code {code}"
            return f"{ended}; its output is in {means.log.name}"
        if means.stopping.is_set():
            return "it was ended with the daemon"
        if os.fstat(output.fileno()).st_size > MOST_OUTPUT:
            return f"wrote more than {MOST_OUTPUT >> 20} MB of output and was killed; see {means.log.name}"
        if time.monotonic() >= deadline:
            return f"did not end within {means.command_timeout_s:g} s and was killed; see {means.log.name}"


def _kill(process: subprocess.Popen[bytes]) -> None:
    with suppress(ProcessLookupError):  # gone this moment
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _keep(program: str, facts: Mapping[str, Any], how: str, output: IO[bytes], means: Means) -> None:
    """Append the end of the output to a log that does not grow without end."""
    size = os.fstat(output.fileno()).st_size
    output.seek(max(0, size - _KEPT_OUTPUT))
    said = output.read(_KEPT_OUTPUT)
    left_out = f" ({size - len(said)} bytes before this are left out)" if size > len(said) else ""
    head = f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S}Z {program} for {digest.headline(facts)}: {how}{left_out}\n"
    with means.log_lock, suppress(OSError):  # a full disk: the message itself matters more
        if means.log.exists() and means.log.stat().st_size > _LOG_BYTES:
            means.log.replace(means.log.with_name("hooks.log.1"))
        with means.log.open("ab") as log:
            log.write(head.encode() + said + (b"\n" if said and not said.endswith(b"\n") else b""))


# ------------------------------------------------------------------------------------------------ webhook


def address_of(name: str, *found: str | None) -> str:
    """The first address that was found for a webhook of this name; raises Undelivered where none can be used."""
    address = next(filter(None, found), None)
    if address is None:
        raise Undelivered(
            f"there is no address of that name: put {name} under [webhooks] in ~/.config/metta-jobs/config.toml, or "
            "into the environment of the shell that submits"
        )
    try:
        parts = urlsplit(address)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname)
    except ValueError:
        usable = False
    if not usable:
        raise Undelivered("its address cannot be used: it must begin with https:// or http://")
    return address


def _post(address: str, text: str, timeout_s: float) -> None:
    """Post Slack-compatible JSON; raises Undelivered unless the answer is 2xx. Redirects are not followed."""
    # Together they take as long to import as all of the daemon, and most queues have no webhook.
    import http.client
    import json
    import urllib.error
    import urllib.request as requests

    opener = requests.OpenerDirector()
    for handler in (
        requests.ProxyHandler(),
        requests.UnknownHandler(),
        requests.HTTPHandler(),
        requests.HTTPSHandler(),
        requests.HTTPDefaultErrorHandler(),
        requests.HTTPErrorProcessor(),
    ):
        opener.add_handler(handler)
    headers = {"Content-Type": "application/json; charset=utf-8", "User-Agent": f"metta-jobs/{__version__}"}
    try:
        request = requests.Request(address, json.dumps({"text": text}).encode(), headers, method="POST")  # noqa: S310 - http and https only, see above
        with opener.open(request, timeout=timeout_s):
            return
    except urllib.error.HTTPError as error:
        with error:
            raise _refused(error.code, error.headers.get("Retry-After", "")) from None
    except urllib.error.URLError as error:
        reason: BaseException | str = error.reason
    except (OSError, http.client.HTTPException, ValueError) as error:
        reason = error
    # What the libraries say names the address or its host: only what kind of error it is goes on.
    raise Undelivered(_unreachable(reason, timeout_s))


def _refused(code: int, retry_after: str) -> Undelivered:
    phrase = f" ({HTTPStatus(code).phrase})" if code in HTTPStatus._value2member_map_ else ""
    moved = ", a redirect, which is not followed: give the new address" if 300 <= code < 400 else ""
    return Undelivered(f"answered {code}{phrase}{moved}", float(retry_after) if retry_after.isdigit() else 0)


def _unreachable(reason: BaseException | str, timeout_s: float) -> str:
    import http.client
    import socket
    import ssl

    match reason:
        case TimeoutError():
            return f"did not answer within {timeout_s:g} s"
        case socket.gaierror():
            return "cannot be reached: the name of its host is not known"
        case ssl.SSLError():
            return "cannot be trusted: TLS with its host failed (certificate or protocol)"
        case http.client.InvalidURL() | ValueError():
            return "its address cannot be used: it is malformed"
        case OSError(errno=int(number)):
            return f"cannot be reached: {os.strerror(number)}"
        case http.client.HTTPException():
            return "the connection ended without an answer"
    return "cannot be reached"
