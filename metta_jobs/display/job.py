"""`metta job show` and `metta job events`: one job whole, and what happened to it."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from rich.console import Group, RenderableType
from rich.style import Style
from rich.table import Table
from rich.text import Text

from metta_jobs.display.errorlines import error_lines
from metta_jobs.display.format import age, dollars, duration, percent
from metta_jobs.display.listing import Field, Listing
from metta_jobs.display.marks import MARKS
from metta_jobs.display.pace import fraction
from metta_jobs.display.sanitize import clean_lines, one_line
from metta_jobs.display.targets import KINDS, link_of, shown_target
from metta_jobs.metrics.artifacts import Artifact
from metta_jobs.states import FAILURES, LIVE
from metta_jobs.views import EventView, JobView, Progress, RemoteView, criterion_words, hooks_words

_OUTPUT_LINES = 20


def render_job(
    job: JobView,
    events: Sequence[EventView],
    log_tail: Sequence[str],
    artifacts: Sequence[Artifact],
    now: datetime,
) -> RenderableType:
    """Return everything about one job: how it stands and why, what it runs, what it left, its events, its log's end.

    `log_tail` holds the last lines of its output: a failed job's error is looked for in all, the last 20 are shown.
    """
    mark = MARKS[job.state]
    title = Text.assemble(
        (f"{mark.symbol} ", mark.style), (one_line(job.name), "bold"), ("  ", ""), (f"{mark.word}", mark.style)
    )
    lines = clean_lines("\n".join(log_tail))
    parts: list[RenderableType] = [title, Text(), _grid(_facts(job, artifacts, now))]
    if job.state in FAILURES and lines:
        parts += _titled("error", _quoted(error_lines(lines), "red"))
    if events:
        parts += _titled("events", [render_events(events, of_one_job=True)])
    if lines:
        parts += _titled("output", _quoted(lines[-_OUTPUT_LINES:], "dim"))
    return Group(*parts)


def _facts(job: JobView, artifacts: Sequence[Artifact], now: datetime) -> Iterator[tuple[str, Text]]:
    yield "id", Text(str(job.id))
    yield "group", Text(one_line(job.group))
    if job.variant is not None:
        seed = "" if job.seed is None else f", seed {job.seed}"
        yield "variant", Text(f"{one_line(job.variant)}{seed}")
    if job.reason:
        yield "reason", Text(one_line(job.reason))
    if job.exit_code is not None:
        yield "exit code", Text(str(job.exit_code), MARKS[job.state].style)
    if job.kill_requested and not job.state.terminal:
        yield "kill", Text("asked for, its processes are still there", "magenta")
    allowed = f" of at most {job.max_attempts} by itself" if job.max_attempts > 1 else ""
    yield "attempt", Text(f"{job.attempt}{allowed}" if job.attempt else f"none yet{allowed}")
    yield "submitted", _moment(job.created_at, now)
    if job.started_at:
        yield "started", _moment(job.started_at, now)
    if job.finished_at:
        yield "finished", _moment(job.finished_at, now)
    if job.duration_s is not None:
        yield "ran" if job.state.terminal else "running for", Text(duration(job.duration_s))
    if job.progress is not None:
        yield from ((label, Text(one_line(value))) for label, value in _measured(job.progress))
    for said in job.health:
        yield "health", Text(one_line(said), "yellow")
    yield "command", Text(one_line(shlex.join(job.command)))
    for parent in job.parents:
        name = parent.name if parent.group == job.group else f"{parent.group}/{parent.name}"
        mark = MARKS[parent.state]
        yield (
            parent.kind.value,
            Text.assemble(f"{one_line(name)} ({parent.job_id})  ", (f"{mark.symbol} {mark.word}", mark.style)),
        )
    yield "executor", Text(one_line(job.executor))
    if job.remote is not None:
        yield from _elsewhere(job.remote)
    else:
        memory = f", {job.memory_gb:g} GB of memory" if job.memory_gb else ""
        yield "resources", Text(f"{job.gpus:g} GPUs, {job.cpus:g} CPUs{memory}")
    if job.devices:
        share = f" ({job.device_share:g} of it)" if job.device_share < 1 else ""
        yield "on GPUs" if job.state in LIVE else "GPUs had", Text(one_line(", ".join(job.devices) + share))
    if job.priority:
        yield "priority", Text(str(job.priority))
    yield "time limit", Text(duration(job.timeout_s) if job.timeout_s is not None else "none")
    if job.queue_timeout_s is not None:
        yield "queue limit", Text(duration(job.queue_timeout_s))
    yield from ((label, Text(one_line(value))) for label, value in _configured(job.config))
    if job.metrics:
        yield "metrics", Text(", ".join(map(one_line, job.metrics)))
    if job.folder:
        yield "folder", Text(one_line(str(job.folder)))
    for artifact in artifacts:
        yield KINDS[artifact.kind], Text(one_line(shown_target(artifact)), Style(link=link_of(artifact)))


def _measured(progress: Progress) -> Iterator[tuple[str, str]]:
    """How far it is, and the last values of its metrics."""
    done = fraction(progress)
    if progress.steps is not None:
        of = f" of {progress.total:,.0f} ({percent(done)})" if progress.total and done is not None else ""
        yield "steps", f"{progress.steps:,.0f}{of}"
    for name, value in progress.by_name().items():
        yield "last", f"{name} = {value:.6g}"


def _configured(config: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """What is not as it is by default, and has no other row."""
    if config.get("grace_s", 15) != 15:
        yield "grace", duration(config["grace_s"])
    if retry := config.get("retry"):
        yield "tried again", _retried(retry)
    if config.get("cwd"):
        yield "runs in", config["cwd"]
    for name, value in (config.get("env") or {}).items():
        yield "env", f"{name}={shlex.quote(value)}"
    if config.get("secrets"):
        yield "secrets", ", ".join(config["secrets"])
    if config.get("max_log_mb") is not None:
        yield "log limit", f"{config['max_log_mb']:g} MB"
    for criterion in config.get("acceptance", ()):
        yield "accepted if", criterion_words(criterion)
    if config.get("on_end"):
        yield "on end", f"tells {hooks_words(config['on_end'])}"


def _retried(retry: Mapping[str, Any]) -> str:
    """E.g. "on timeout, 137; never on 2; after 1 min 00 s, each pause 2 times the one before"."""
    words = [f"on {', '.join(map(str, retry['on']))}" if retry["on"] else "on any failure"]
    if retry["never_on"]:
        words.append(f"never on {', '.join(map(str, retry['never_on']))}")
    longer = f", each pause {retry['factor']:g} times the one before" if retry["factor"] != 1 else ""
    return "; ".join([*words, f"after {duration(retry['backoff_s'])}{longer}"])


def _elsewhere(remote: RemoteView) -> Iterator[tuple[str, Text]]:
    if remote.managed_id is not None:
        yield "managed job", Text(f"{remote.managed_id} ({one_line(remote.managed_name or '')})")
    if remote.status is not None:
        yield "SkyPilot", Text(one_line(f"{remote.status}: {remote.detail}" if remote.detail else remote.status))
    if remote.recoveries:
        yield "recovered", Text(f"{remote.recoveries} ×, on new machines")
    where = " · ".join(one_line(part) for part in (remote.infra, remote.resources) if part)
    if where:
        yield "runs on", Text(where)
    if remote.hourly_usd is not None:
        spent = "" if remote.cost_usd is None else f", {dollars(remote.cost_usd)} so far"
        yield "price", Text(f"{dollars(remote.hourly_usd)} an hour{spent}")


def _grid(facts: Iterator[tuple[str, Text]]) -> Table:
    grid = Table.grid(padding=(0, 2, 0, 0))
    grid.add_column(style="dim", no_wrap=True)
    grid.add_column(overflow="fold")
    for label, value in facts:
        grid.add_row(f"  {label}", value)
    return grid


def _titled(title: str, parts: Sequence[RenderableType]) -> list[RenderableType]:
    return [Text(), Text(title, "bold"), *parts]


def _quoted(lines: Sequence[str], style: str) -> list[RenderableType]:
    grid = Table.grid()
    grid.add_column(no_wrap=True)
    grid.add_column(overflow="fold")
    for line in lines:
        grid.add_row(Text("  │ ", style), Text(line))
    return [grid]


def _moment(moment: datetime, now: datetime) -> Text:
    return Text.assemble(_stamp(moment), (f"  {age(moment, now)} ago", "dim"))


def _stamp(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%SZ")


def render_events(events: Sequence[EventView], of_one_job: bool = False) -> RenderableType:
    """Return the table of events, in the order given: time (UTC), job, attempt, what happened, why.

    `of_one_job` leaves out whose they are.
    """
    if not events:
        return Text("No events.", style="dim")
    fields = [
        Field("time"),
        Field("job", gives_way="name"),
        Field("attempt", "right", spare=2),
        Field("event", spare=1),
    ]
    fields += [Field("change"), Field("reason", gives_way="text")]
    rows = [_event(event) for event in events]
    if of_one_job:
        fields.pop(1)
        rows = [[*row[:1], *row[2:]] for row in rows]
    return Listing(fields, rows, text_lines=None)


def _event(event: EventView) -> list[tuple[str, str]]:
    change, style = "", ""
    if event.to_state:
        mark = MARKS[event.to_state]
        style = mark.style
        change = f"{mark.symbol} {mark.word}"
        if event.from_state and event.from_state is not event.to_state:
            change = f"{MARKS[event.from_state].word} → {change}"
    return [
        (_stamp(event.at), "dim"),
        (one_line(event.name or "(the group)"), "bold"),
        (str(event.attempt or ""), ""),
        (one_line(event.kind), ""),
        (change, style),
        (one_line(event.reason or ""), "dim"),
    ]
