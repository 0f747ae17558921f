"""The run's record: Weights & Biases for curves, one plain line per row for people."""

from __future__ import annotations

import netrc
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

import wandb
from wandb.errors import CommError

from recipes.ppo.folder import RunFolder, run_name
from recipes.ppo.stop import StopSignals

STEP = "metric/agent_step"
REWARD = "overview/reward"
SPS = "overview/sps"
_PROJECT = "metta-jobs"


class RunLog:
    """One W&B run, entered around the work. Nothing here ever asks for a key.

    WANDB_MODE decides where the rows go; without it they go online when a key is configured, else they stay in the
    run's own folder. A server that does not answer costs no training: the run then stays offline and says so.
    """

    def __init__(self, folder: RunFolder, recipe: str, config: Mapping[str, Any], stop: StopSignals) -> None:
        """`config` is what W&B keeps as the run's configuration, nested as the tool's fields are."""
        self._folder = folder
        self._recipe = recipe
        self._config = dict(config)
        self._stop = stop
        self._run: Any = None

    def __enter__(self) -> Self:
        mode = wandb_mode(os.environ)
        try:
            self._run = self._init(mode)
        except CommError as error:
            if mode != "online":
                raise
            print(f"W&B could not be used ({_first_line(error)}); the run stays offline, for `wandb sync`.", flush=True)
            mode = "offline"
            self._run = self._init(mode)
        for family in ("overview/*", "train/*"):
            self._run.define_metric(family, step_metric=STEP)
        if mode == "online" and self._run.url:
            self._folder.write_links({"wandb": self._run.url})
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._run.finish(exit_code=1 if kind else self._stop.exit_code)
        except (OSError, wandb.Error) as failure:
            # A kill of the whole process tree reaches wandb's own process too: what it wrote is on disk.
            if self._stop.received is None:
                raise
            print(f"W&B ended first ({_first_line(failure)}).", flush=True)
            with suppress(OSError, wandb.Error):  # else its exit hook would fail too, with a traceback
                wandb.teardown()

    def row(self, step: int, values: Mapping[str, float]) -> None:
        """Log one row at `step` agent steps."""
        try:
            self._run.log({STEP: step, **values})
        except (OSError, wandb.Error):
            if self._stop.received is None:
                raise

    def _init(self, mode: str) -> Any:
        settings: dict[str, Any] = {"silent": True} if mode == "offline" else {}
        return wandb.init(
            project=os.environ.get("WANDB_PROJECT") or _PROJECT,
            name=run_name(self._recipe),
            dir=os.environ.get("WANDB_DIR") or str(self._folder.root),
            mode=mode,  # type: ignore[arg-type]
            config=self._config,
            settings=wandb.Settings(**settings),
        )


def wandb_mode(environ: Mapping[str, str]) -> str:
    """Return WANDB_MODE, else "online" when an API key is configured for W&B's host, else "offline"."""
    if mode := environ.get("WANDB_MODE"):
        return mode
    return "online" if environ.get("WANDB_API_KEY") or _key_in_netrc(environ) else "offline"


def _key_in_netrc(environ: Mapping[str, str]) -> bool:
    path = Path(environ.get("NETRC") or Path(environ.get("HOME") or "~").expanduser() / ".netrc")
    try:
        hosts = netrc.netrc(str(path)).hosts
    except (OSError, netrc.NetrcParseError):
        return False
    if base := environ.get("WANDB_BASE_URL"):
        return urlsplit(base).netloc in hosts
    return any(host.endswith(("wandb.ai", "coreweave.com")) for host in hosts)


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)
