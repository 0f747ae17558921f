"""What a job left behind for people to open."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from metta_jobs.metrics.wandb_framing import find_logs

_ANSI = re.compile(r"\x1b\[[0-9;]*m")
_VIEW_RUN = re.compile(r"View run\b[^\n]*?\bat:?\s+(https?://\S+)")
_STRETCH_BYTES = 256 * 1024


@dataclass(frozen=True)
class Artifact:
    """One thing to open: `target` is a URL or the absolute path of a file or folder, `label` a short name for it."""

    kind: Literal["notebook", "wandb", "checkpoint", "replay", "log"]
    label: str
    target: str

    @property
    def is_url(self) -> bool:
        """True when the target is on the web."""
        return self.target.startswith(("http://", "https://"))


def find_artifacts(folder: Path) -> list[Artifact]:
    """Return what the attempt folder of a job holds.

    The notebook that it wrote (named by `links.json`), the W&B run (its URL from `links.json` or from what wandb
    printed; else its local folder), the newest entry of `checkpoints/`, the files of `replays/`, and `output.log`.
    """
    found: list[Artifact] = []
    notebook = _links(folder).get("notebook")
    if isinstance(notebook, str) and Path(notebook).is_file():
        found.append(Artifact("notebook", Path(notebook).name, notebook))
    if url := _wandb_url(folder):
        found.append(Artifact("wandb", "W&B run", url))
    elif logs := find_logs(folder):
        found.append(Artifact("wandb", logs[-1].parent.name, str(logs[-1].parent)))
    checkpoints = _entries(folder / "checkpoints")
    if checkpoints:
        found.append(Artifact("checkpoint", checkpoints[-1].name, str(checkpoints[-1])))
    found += [Artifact("replay", path.name, str(path)) for path in _entries(folder / "replays") if path.is_file()]
    log = folder / "output.log"
    if log.is_file():
        found.append(Artifact("log", log.name, str(log)))
    return found


def find_checkpoints(folder: Path) -> list[tuple[float, Path]]:
    """The checkpoints of an attempt folder, oldest first, with the time of each (seconds since the epoch)."""
    return [(moment / 1e9, path) for moment, _, path in _aged(folder / "checkpoints")]


def _entries(folder: Path) -> list[Path]:
    """The visible entries of a folder that are completely written, oldest first."""
    return [path for _, _, path in _aged(folder)]


def _aged(folder: Path) -> list[tuple[int, str, Path]]:
    if not folder.is_dir():
        return []
    aged: list[tuple[int, str, Path]] = []
    for path in folder.iterdir():
        if path.name.startswith(".") or path.suffix in (".tmp", ".part"):
            continue
        try:
            aged.append((path.stat().st_mtime_ns, path.name, path))
        except FileNotFoundError:
            continue  # a running job keeps only its newest checkpoints
    return sorted(aged)


def _wandb_url(folder: Path) -> str | None:
    url = _links(folder).get("wandb")
    known = isinstance(url, str) and url.startswith(("http://", "https://"))
    return str(url) if known else _url_in_output(folder / "output.log")


def _links(folder: Path) -> dict[str, object]:
    """What the job says that it left elsewhere: {"wandb": URL, "notebook": path}."""
    try:
        links = json.loads((folder / "links.json").read_bytes())
    except (FileNotFoundError, ValueError):
        return {}  # none, or half written by a job that was killed: the output may still tell
    return links if isinstance(links, dict) else {}


def _url_in_output(path: Path) -> str | None:
    """wandb prints the URL when a run begins and when it ends: the ends of the file are enough."""
    try:
        with path.open("rb") as file:
            text = file.read(_STRETCH_BYTES)
            size = path.stat().st_size
            if size > 2 * _STRETCH_BYTES:
                file.seek(size - _STRETCH_BYTES)
            text += b"\n" + file.read(_STRETCH_BYTES)
    except FileNotFoundError:
        return None
    if b"View run" not in text:
        return None  # the usual case, asked every second by the monitor
    urls = _VIEW_RUN.findall(_ANSI.sub("", text.decode("utf-8", "replace")))
    return urls[-1] if urls else None
