"""Failures of a group that share a cause, counted together. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from metta_jobs.states import FAILURES, JobState
from metta_jobs.views import JobView

#: What ended a command that ended by a signal; shells and our runner say 128 + the signal.
_SIGNALS = {
    132: "exit code 132: illegal instruction (SIGILL)",
    134: "exit code 134: aborted (SIGABRT)",
    135: "exit code 135: bus error (SIGBUS)",
    136: "exit code 136: arithmetic error (SIGFPE)",
    137: "exit code 137: killed by the kernel or somebody (SIGKILL), often out of memory",
    139: "exit code 139: segmentation fault (SIGSEGV)",
    143: "exit code 143: ended by somebody (SIGTERM)",
}
_SIGKILL = 137
_LONGEST = 500
_KEY_LENGTH = 200
_SAYS_ONLY_THE_CODE = re.compile(r"exit(?:ed)?(?: with)?(?: code)? -?\d+\.?", re.IGNORECASE)
_OUT_OF_GPU_MEMORY = re.compile(r"(?:cuda|hip) (?:error: )?out of memory", re.IGNORECASE)
# What differs between equal failures, in the order in which it is taken out.
_VARIES = (
    (re.compile(r"\b0x[0-9a-f]+\b", re.IGNORECASE), "#"),
    (re.compile(r"\w+://\S+"), "#"),
    (re.compile(r"(?:(?<=[\s'\"(=\[:])|^)(?:~|\.{1,2}|[A-Za-z]:)?(?:[/\\][^\s'\",:;)\]]+)+"), "#"),
    (re.compile(r"\b[\w-]+(?:/[\w.-]+)+\b"), "#"),
    (re.compile(r"\b[0-9a-f]{8}-[0-9a-f-]{27}\b", re.IGNORECASE), "#"),
    (re.compile(r"\b(?=[a-z]*\d)(?=\d*[a-z])[0-9a-f]{7,}\b", re.IGNORECASE), "#"),
    (re.compile(r"[-+]?\d+(?:[.,_]\d+)*(?:e[-+]?\d+)?", re.IGNORECASE), "#"),
    (re.compile(r"# ?(?:[kmgt]i?)?b(?:ytes)?\b|# ?(?:ns|us|µs|ms|s|min|h|d)\b", re.IGNORECASE), "#"),
    (re.compile(r"#(?:[\s,.:;/x×T-]*#)+"), "#"),
)


@dataclass(frozen=True)
class Cause:
    """Why a job failed: `error` in a line, as it was said; jobs with the same `key` failed of the same cause."""

    error: str
    key: str


@dataclass(frozen=True)
class SharedCause:
    """A cause, the names of the jobs that failed of it in the order of their ids, and how many they are."""

    error: str
    jobs: tuple[str, ...]

    @property
    def count(self) -> int:
        """How many jobs it ended."""
        return len(self.jobs)

    def to_dict(self) -> dict[str, Any]:
        """The stable JSON form."""
        return {"error": self.error, "jobs": list(self.jobs), "count": self.count}


@dataclass(frozen=True)
class FailureDigest:
    """The failures of a group by cause, the commonest first: `failed` of `total` jobs, `unread` of them not looked at.

    Jobs whose cause only their log could tell, and whose log was not read, are in no cause.
    """

    causes: tuple[SharedCause, ...]
    failed: int
    total: int
    unread: int = 0

    @property
    def shared(self) -> tuple[SharedCause, ...]:
        """The causes that ended more than one job."""
        return tuple(cause for cause in self.causes if cause.count > 1)


def cause_of(name: str, state: JobState, exit_code: int | None, reason: str | None, error: str | None) -> Cause:
    """Return why a job failed; `error` is the line of its log that tells it, None where none does.

    Timeouts, lost jobs and those that never ran are told by their reason, whatever their log says.
    """
    if needs_log(state, exit_code):
        if error:
            return Cause(error[:_LONGEST], common(error, name))
        if exit_code in _SIGNALS:
            return Cause(_SIGNALS[exit_code], f"exit {exit_code}")
        if not reason or _SAYS_ONLY_THE_CODE.fullmatch(reason):
            return Cause(f"exit code {exit_code}", f"exit {exit_code}")
    elif exit_code == _SIGKILL and state is JobState.FAILED:
        return Cause(_SIGNALS[_SIGKILL], f"exit {_SIGKILL}")
    told = reason or state.value.replace("_", " ")
    return Cause(told[:_LONGEST], f"{state.value} {common(told, name)}")


def needs_log(state: JobState, exit_code: int | None) -> bool:
    """Whether only the log of a failed job can tell why it failed.

    Nobody says more in a log when he is killed; one that failed with 0 failed by our judgement, which is its reason.
    """
    return state is JobState.FAILED and exit_code not in (None, 0, _SIGKILL)


def common(line: str, name: str = "") -> str:
    """Return what a line has in common with those of equal failures: no numbers, paths, addresses, ids, not its job's
    name; for GPU memory that ran out, only that."""
    if _OUT_OF_GPU_MEMORY.search(line):
        return "GPU out of memory"
    if len(name) > 2:
        line = re.sub(rf"(?<![\w.-]){re.escape(name)}(?![\w-])", "#", line)
    line = line[: 4 * _LONGEST]
    for pattern, instead in _VARIES:
        line = pattern.sub(instead, line)
    return " ".join(line.lower().split())[:_KEY_LENGTH]


def failed_jobs(jobs: Iterable[JobView]) -> list[JobView]:
    """Those that failed, timed out or are lost, in the order that they have."""
    return [job for job in jobs if job.state in FAILURES]


def share_causes(told: Iterable[tuple[str, Cause]]) -> tuple[SharedCause, ...]:
    """Put the failures (name, cause) that have the same cause together, the commonest first, then as they came."""
    found: dict[str, tuple[str, list[str]]] = {}
    for name, cause in told:
        found.setdefault(cause.key, (cause.error, []))[1].append(name)
    causes = [SharedCause(error, tuple(names)) for error, names in found.values()]
    return tuple(sorted(causes, key=lambda cause: -cause.count))


def digest(jobs: Sequence[JobView], errors: Mapping[int, str | None]) -> FailureDigest:
    """Return the failures among `jobs` by cause. `errors` has the telling line of each log that was read, by job id,
    None where the log tells nothing."""
    failed = failed_jobs(jobs)
    known = [job for job in failed if job.id in errors or not needs_log(job.state, job.exit_code)]
    told = [(job.name, cause_of(job.name, job.state, job.exit_code, job.reason, errors.get(job.id))) for job in known]
    return FailureDigest(share_causes(told), len(failed), len(jobs), len(failed) - len(known))


def names(cause: SharedCause, most: int = 5) -> str:
    """The jobs of a cause in words: "a.s1, a.s4 and 7 more"."""
    told = ", ".join(cause.jobs[:most])
    return told if cause.count <= most else f"{told} and {cause.count - most} more"
