"""The settings in which runs differ, from what they were told and what they told W&B themselves."""

from __future__ import annotations

import html
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from metta_jobs.environment import is_secret
from metta_jobs.errors import MettaError
from metta_jobs.experiment import hydra
from metta_jobs.experiment.training import leaves
from metta_jobs.notebook.extra import require
from metta_jobs.recipe.values import literal
from metta_jobs.views import JobView

if TYPE_CHECKING:
    import pandas as pd

_NONE = "–"
_LONGEST = 60
Settings = dict[str, Any]


def compare(jobs: Sequence[JobView]) -> Differences:
    """Compare the settings of runs.

    Of each run: what it wrote into its W&B config; the training's file that it was given; its command's arguments
    (`key=value`, `--key value`). Where several of them say the same setting, the one that comes first here holds.
    """
    require("pandas")
    import pandas as pd

    told, notes = {}, []
    for job in jobs:
        told[job.name], missing = settings_of(job)
        notes += [f"{job.name}: {words}" for words in missing]
    names = dict.fromkeys(name for settings in told.values() for name in settings)
    rows = {}
    for name in names:
        values = [settings.get(name) for settings in told.values()]
        if len({_key(value) for value in values}) > 1:
            rows[name] = values
    frame = pd.DataFrame(
        list(rows.values()), columns=list(told), index=pd.Index(list(rows), name="setting"), dtype=object
    )
    return Differences(frame, {job.name: job.variant or job.name for job in jobs}, len(names), notes)


def settings_of(job: JobView) -> tuple[Settings, list[str]]:
    """One run's settings by dotted name, and what could not be read, in words. Secrets become stars."""
    found, missing = _arguments(job.command), []
    path = _training_file(job)
    if path is not None:
        try:
            found |= leaves(hydra.read(path))
        except MettaError:
            missing.append("the file of its training is gone")
    try:
        found |= _logged(job)
    except OSError as error:
        missing.append(f"its W&B log cannot be read ({error.strerror})")
    return {name: "***" if is_secret(name, str(value)) else value for name, value in found.items()}, missing


def _arguments(command: Sequence[str]) -> Settings:
    """The settings among the arguments of a command; the configuration of a Hydra program is read elsewhere."""
    found: Settings = {}
    flag: str | None = None
    for argument in command[1:]:
        name, equals, value = argument.partition("=")
        if flag in _FILES:  # a name like lr=0.001 is no setting
            flag = None
        elif equals and name.lstrip("-+").replace(".", "").replace("_", "").replace("-", "").replace("/", "").isalnum():
            found[_name(name)] = literal(value)
            flag = None
        elif argument.startswith("--"):
            flag = _name(argument)
            found[flag] = True
        elif flag is not None:
            found[flag] = literal(argument)
            flag = None
    return {name: value for name, value in found.items() if name not in _FILES}


#: What names a Hydra program's configuration.
_FILES = ("config_path", "config_name", "config_dir")


def _name(argument: str) -> str:
    return argument.lstrip("-+").replace("-", "_")


def _training_file(job: JobView) -> Path | None:
    """The file on this machine that the training was configured by, None where there is none."""
    given = dict(zip(job.command, job.command[1:], strict=False))
    folder, name = given.get("--config-path"), given.get("--config-name")
    if folder is None or name is None:
        return None
    told = Path(folder) / f"{name}.yaml"
    mounts = (job.config.get("remote") or {}).get("file_mounts") or {}
    return Path(mounts.get(str(told), told))


def _logged(job: JobView) -> Settings:
    """What the run wrote into its W&B config; its own folder, which differs for everyone, is left out of the values."""
    if job.folder is None:
        return {}
    from metta_jobs.metrics.wandb_log import WandbFolder

    config = leaves(WandbFolder(job.folder).info().config)
    config.pop("", None)  # an empty configuration is a leaf without a name
    return {name: _without(value, str(job.folder)) for name, value in config.items()}


def _without(value: Any, folder: str) -> Any:
    return value.replace(folder, "<run folder>") if isinstance(value, str) else value


def _key(value: Any) -> str:
    """What tells values apart: 1, 1.0 and True's spelling are numbers alike, "1" is none."""
    if isinstance(value, float | int) and not isinstance(value, bool):
        return f"number {float(value)!r}" if math.isfinite(value) else f"number {value}"
    return repr(value)


class Differences:
    """Settings that differ, a row each; `frame` has one column for each run, None where a run does not say.

    As people read it, there is a column for each variant, with its seeds' values in one cell; a setting that says the
    same of every variant, as their seeds do, has no row. `total` is how many settings there are, `notes` say what could
    not be read.
    """

    def __init__(self, frame: pd.DataFrame, variants: Mapping[str, str], total: int, notes: Sequence[str]) -> None:
        self.frame = frame
        self.total = total
        self.notes = list(notes)
        self._variants = variants

    def _cells(self) -> list[list[str]]:
        columns: dict[str, list[str]] = {}
        for run, variant in self._variants.items():
            columns.setdefault(variant, []).append(run)
        rows = [["setting", *columns]]
        for name, values in zip(self.frame.index, self.frame.to_numpy(dtype=object), strict=True):
            row = dict(zip(self.frame.columns, values, strict=True))
            cells = (dict.fromkeys(_shown(row[run]) for run in runs) for runs in columns.values())
            if len(columns) == 1 or len({frozenset(_key(row[run]) for run in runs) for runs in columns.values()}) > 1:
                rows.append([str(name), *(", ".join(cell) for cell in cells)])
        return rows

    def _words(self) -> list[str]:
        differing = len(self._cells()) - 1
        count = f"{differing} of {self.total} known settings differ."
        if not self.total:
            count = "Nothing is known of the runs' settings: no arguments, no file, no W&B config."
        elif not differing:
            count = f"All {self.total} known settings agree."
        return [count, *self.notes]

    def _repr_html_(self) -> str:
        head, *rows = self._cells()
        line = '<th style="text-align:left">{}</th>'
        table = "".join(line.format(html.escape(cell)) for cell in head)
        body = "".join(
            "<tr>" + "".join(f'<td style="text-align:left">{html.escape(cell)}</td>' for cell in row) + "</tr>"
            for row in rows
        )
        shown = f"<table><thead><tr>{table}</tr></thead><tbody>{body}</tbody></table>" if rows else ""
        return shown + "".join(f'<p style="color:#555;font-size:90%">{html.escape(word)}</p>' for word in self._words())

    def __repr__(self) -> str:
        rows = self._cells()
        rows = rows if len(rows) > 1 else []
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = ("  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)).rstrip() for row in rows)
        return "\n".join([*lines, *self._words()])


def _shown(value: Any) -> str:
    if value is None:
        return _NONE
    text = f"{value:g}" if isinstance(value, float) else str(value)
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"
