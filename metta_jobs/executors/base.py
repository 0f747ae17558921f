"""The seam between the daemon and whatever runs processes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Protocol

from metta_jobs.views import Silence

Key = tuple[int, int]
"""(job id, attempt number): the only name of an attempt. Executors find what they launched by it, after any crash."""


class Cause(StrEnum):
    """Why we asked an attempt to end."""

    KILL = "kill"
    TIMEOUT = "timeout"


@dataclass(frozen=True)
class Stopping:
    """We have asked the attempt to end, `since_s` seconds ago; None when that moment cannot be measured any more."""

    cause: Cause
    since_s: float | None
    forced: bool


@dataclass(frozen=True)
class Alive:
    """Its processes run. `running_s` is measured on a clock that neither jumps nor counts a suspended machine."""

    running_s: float | None
    stopping: Stopping | None = None
    note: str | None = None


@dataclass(frozen=True)
class Exited:
    """Its outcome record was read: evidence. `stopped` names the cause when it ended because we asked it to; `left` is
    how many processes its command had left running, which were ended then."""

    exit_code: int
    running_s: float | None
    stopped: Cause | None = None
    error: str | None = None
    left: int = 0


@dataclass(frozen=True)
class Absent:
    """There are none of its processes and no outcome record. `launched` tells whether it ever started, `refused` that
    it was not started by no fault of its own."""

    launched: bool
    stopped: Cause | None = None
    note: str | None = None
    refused: bool = False


@dataclass(frozen=True)
class Queued:
    """It has been handed over and has not started yet; `behind` another one that holds its slots until then.

    `sent` away, it is started by somebody who does not ask us again: only `stop` ends it. `waited_s` since then.
    """

    behind: bool = False
    sent: bool = False
    waited_s: float | None = None
    stopping: Stopping | None = None
    note: str | None = None


@dataclass(frozen=True)
class Failed:
    """It has ended, and not by its command: `why`. `cause` is what a retry policy calls that; None: never try again."""

    why: str
    cause: str | None = None


@dataclass(frozen=True)
class Unknown:
    """It could not be asked. Never an answer: the state stays."""

    why: str


Observation = Alive | Exited | Failed | Absent | Queued | Unknown


@dataclass(frozen=True)
class LaunchSpec:
    """Everything needed to start an attempt. `environment` is complete and may hold secrets: never write it down.

    Attempts of one `lane` run one after another, in the order of their launches. `remote` is the RemoteConfig of one
    that runs elsewhere, as plain data.
    """

    key: Key
    lane: str
    command: Sequence[str]
    cwd: str | None
    environment: Mapping[str, str] = field(repr=False)
    name: str = ""
    grace_s: float = 15
    secrets: Mapping[str, str] = field(repr=False, default_factory=dict)
    remote: Mapping[str, Any] | None = None


class LaunchRefused(Exception):
    """The attempt could not be launched; the message says why. It has not started and may be launched again."""


class Executor(Protocol):
    """Starts attempts, says what they do, ends them. No call waits for a job."""

    name: str

    def lane(self) -> str:
        """Name a free lane for an attempt that is about to be claimed."""

    def launch(self, spec: LaunchSpec) -> None:
        """Start the attempt. Doing it twice starts it once. Raises LaunchRefused when it could not be started."""

    def observe(self, keys: Sequence[Key]) -> dict[Key, Observation]:
        """Say of each attempt what can be said now. `keys` are all that have not ended: the rest may be forgotten."""

    def stop(self, key: Key, cause: Cause, *, force: bool) -> None:
        """Ask the attempt's whole process tree to end (TERM), or end it (KILL, when `force`)."""

    def abandon(self, key: Key) -> bool:
        """Make sure that an attempt which has not started never will; False when it has started after all."""

    def facts(self) -> dict[Key, dict[str, Any]]:
        """What has become known of attempts that run elsewhere since this was last asked, as views.Remote keeps it."""

    def silence(self) -> Silence | None:
        """Whether whoever runs the attempts has stopped answering; None while all is well, or nothing is asked."""

    def wake_fds(self) -> list[int]:
        """File descriptors that become readable when something has ended and `observe` has news."""

    def rest(self) -> None:
        """Nothing else is to be done now: prepare for what may come."""

    def close(self) -> None:
        """Let go of everything; attempts go on."""
