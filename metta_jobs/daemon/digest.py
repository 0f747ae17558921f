"""What a hook says: the facts of an end as lines for people, and as variables for programs. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from metta_jobs.causes import Cause, cause_of, share_causes
from metta_jobs.states import FAILURES, JobState

_LONGEST_REASON = 300
_WORDS = {
    JobState.FAILED: "failed",
    JobState.TIMED_OUT: "timed out",
    JobState.KILLED: "killed",
    JobState.LOST: "lost",
    JobState.SKIPPED: "skipped",
}
_OF_JOBS = {
    "METTA_JOB_NAME": "name",
    "METTA_JOB_ID": "job_id",
    "METTA_ATTEMPT": "attempt",
    "METTA_EXIT_CODE": "exit_code",
    "METTA_REASON": "reason",
}
#: All that may tell of an end; a hook's environment has those of its own end only.
VARIABLES = frozenset({"METTA_EVENT", "METTA_GROUP", "METTA_STATE", "METTA_COUNTS", "METTA_TEXT", *_OF_JOBS})
_MENTION = re.compile(r"@(?=everyone|here|channel|all\b)", re.IGNORECASE)


def headline(facts: Mapping[str, Any]) -> str:
    """The end in a line: "g: 5 of 6 succeeded, 1 failed in 1 h 03 min", "g/train failed after 12 min: exit code 1"."""
    if facts["event"] == "job_health":
        return f"{clean(facts['group'])}/{clean(facts['name'])}: {clean(facts['reason'])}"
    if facts["event"] == "job_ended":
        words = _WORDS.get(JobState(facts["state"]), facts["state"])
        after = "" if facts["duration_s"] is None else f" after {span(facts['duration_s'])}"
        why = f": {_reason(facts)}" if facts["reason"] else ""
        return f"{clean(facts['group'])}/{clean(facts['name'])} {words}{after}{why}"
    counts = {JobState(state): count for state, count in facts["counts"].items()}
    total, good = sum(counts.values()), counts[JobState.SUCCEEDED]
    parts = [f"{good} of {total} succeeded"]
    parts += [f"{counts[state]} {word}" for state, word in _WORDS.items() if counts[state]]
    return f"{clean(facts['group'])}: {', '.join(parts)} in {span(facts['duration_s'])}"


def details(facts: Mapping[str, Any]) -> list[str]:
    """What failed in a group: "high_lr (exit code 1)", "a.s1, a.s4 (3 × lost)", …, "and 3 more".

    Jobs whose reasons are alike are told together. What their logs say stays on this machine: messages go to others.
    """
    failures = facts.get("failures", [])
    told = []
    for cause in share_causes((clean(failure["name"]), _cause(failure)) for failure in failures):
        alike = f"{cause.count} × " if cause.count > 1 else ""
        told.append(f"{', '.join(cause.jobs)} ({alike}{clean(cause.error)})")
    more = sum(facts["counts"][state] for state in FAILURES) - len(failures) if failures else 0
    return told + ([f"and {more} more"] if more else [])


def text(facts: Mapping[str, Any]) -> str:
    """All of it in one line."""
    failed = details(facts)
    return f"{headline(facts)}. failed: {', '.join(failed)}" if failed else headline(facts)


def slack(facts: Mapping[str, Any]) -> str:
    """All of it as mrkdwn: nothing in a name or a reason becomes a link or calls people."""
    lines = [headline(facts), *(f"• {line}" for line in details(facts))]
    return _MENTION.sub("@\u200b", escape("\n".join(lines)))


def escape(line: str) -> str:
    """Text as it is written where & < > mean something."""
    return line.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def variables(facts: Mapping[str, Any]) -> dict[str, str]:
    """The facts as environment variables: those of a job, or those of a group; what they do not have is empty."""
    ours = {"METTA_EVENT": facts["event"], "METTA_GROUP": facts["group"], "METTA_STATE": facts["state"]}
    if facts["event"] != "group_ended":
        ours |= {name: facts.get(fact) for name, fact in _OF_JOBS.items()}
    else:
        ours["METTA_COUNTS"] = json.dumps(facts["counts"])
    ours["METTA_TEXT"] = text(facts)
    return {name: "" if value is None else clean(str(value), 10_000) for name, value in ours.items()}


def clean(value: str, longest: int = _LONGEST_REASON) -> str:
    """Text of unknown origin as one printable line: no NUL, no control characters, not endless."""
    line = " ".join("".join(c if c.isprintable() else " " for c in value).split())
    return line if len(line) <= longest else f"{line[: longest - 1]}…"


def span(seconds: float) -> str:
    """A duration as people say it: "45 s", "12 min", "2 h 03 min", "3 d 04 h"."""
    whole = max(0, int(seconds))
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min"
    if whole < 86_400:
        return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
    return f"{whole // 86_400} d {whole % 86_400 // 3600:02d} h"


def _cause(facts: Mapping[str, Any]) -> Cause:
    state = JobState(facts["state"])
    return cause_of(facts["name"], state, facts["exit_code"], facts["reason"] or _WORDS.get(state), None)


def _reason(facts: Mapping[str, Any]) -> str:
    return clean(facts["reason"] or _WORDS.get(JobState(facts["state"]), facts["state"]))
