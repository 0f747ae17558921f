"""What `metta doctor` says of the way to other machines: the Python that has SkyPilot, its API server, its infras."""

from __future__ import annotations

import os
import re
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import psutil

from metta_jobs.daemon import control
from metta_jobs.errors import MettaError, MissingExtra
from metta_jobs.executors.sky.python import find_python, installed_version
from metta_jobs.manager.sky import Sky, SkyError
from metta_jobs.paths import PROGRAM, find_project
from metta_jobs.upkeep.findings import Finding, broken, counted, fine, idle, warning
from metta_jobs.upkeep.patient import Patient

INTERPRETER, SERVER, INFRA = "SkyPilot", "API server", "infra"
#: To import sky takes 5-6 s, and the server's answers as long; three times that on a busy machine.
DEADLINE_S = 60.0
_OLDEST = (0, 14)
_INSTALL = '`uv tool install "skypilot[kubernetes]"` ([slurm], [aws] … as your infra is)'
_NAME_ONE = "name a Python that has it by METTA_SKY_PYTHON or the setting sky_python"
_TELL_DAEMON = (
    "put sky_python into ~/.config/metta-jobs/config.toml, which holds for every shell; or "
    f"`{PROGRAM} daemon stop`, then `{PROGRAM} daemon start` here; jobs go on meanwhile"
)
_VARIABLE = "METTA_SKY_PYTHON"
_LOG_LINES = 3


def examine(
    patient: Patient, *, ask: bool = True, asking: Callable[[], None] = lambda: None, deadline_s: float = DEADLINE_S
) -> Iterator[Finding]:
    """Find SkyPilot, and ask it, unless `ask` is false; `asking` is called before that, as it takes about ten seconds.

    What does not work is broken when remote jobs wait for it. Nothing is written into the state folder.
    """
    if patient.settings is None:
        remedy = "correct the settings first"
        yield warning(INTERPRETER, "not looked for: the settings cannot be read", remedy)
        return
    waiting = patient.remote_jobs()
    bad = broken if waiting else warning
    wanted = f"; {counted(waiting, 'remote job')} cannot go on without it" if waiting else ""
    try:
        python = find_python(patient.settings.sky_python)
        version = installed_version(python)
    except MissingExtra:
        if waiting:
            yield broken(INTERPRETER, f"not installed{wanted}", _INSTALL)
        else:
            yield idle(INTERPRETER, "not installed: needed for remote jobs only", _INSTALL)
        return
    except MettaError as error:
        yield bad(INTERPRETER, f"{str(error).rstrip('.')}{wanted}", f"{_NAME_ONE}; or install it: {_INSTALL}")
        return
    if version is not None and _numbers(version) < _OLDEST:
        says = f"{version}, in {python}: older than 0.14, the first that is known to work"
        yield warning(INTERPRETER, says, "`uv tool upgrade skypilot`, or `pip install -U skypilot` where it is")
    else:
        says = f"{version or 'of a version that it does not tell'}, in {python}"
        if difference := _daemon_differs(patient, python):
            yield bad(INTERPRETER, f"{says}; but {difference}", _TELL_DAEMON)
        else:
            yield fine(INTERPRETER, says)
    if ask:
        asking()
        yield from _asked(patient, python, bad, wanted, deadline_s)


def _asked(
    patient: Patient, python: str, bad: Callable[..., Finding], wanted: str, deadline_s: float
) -> Iterator[Finding]:
    with tempfile.TemporaryDirectory(prefix="metta-doctor-") as folder:
        log = Path(folder) / "sky.log"
        try:
            with Sky(patient.dir.root, find_project(patient.dir.root.parent), log) as sky:
                told = sky.ask("check", timeout_s=deadline_s)
        except SkyError as error:
            says = _words(error, log, deadline_s)
            yield bad(SERVER, f"{says}{wanted}", _remedy(error, python), *_printed(log, says))
            return
    running = told.get("server_version")
    says = f"{told['endpoint']}, SkyPilot {running}" if running else str(told["endpoint"])
    if told["healthy"]:
        yield fine(SERVER, says)
    else:
        yield bad(SERVER, f"{says}, says that it is not healthy{wanted}", "`sky api status` tells more")
    if enabled := told["enabled"]:
        yield fine(INFRA, f"{', '.join(enabled)} {'is' if len(enabled) == 1 else 'are'} enabled")
    else:
        yield bad(INFRA, f"none is enabled{wanted}", "`sky check` says what each lacks")


def _daemon_differs(patient: Patient, python: str) -> str | None:
    """How the running daemon looks for SkyPilot, where its environment leads it elsewhere than ours leads us."""
    holder = control.status(patient.dir)
    if holder is None or patient.settings is None:
        return None
    try:
        theirs = psutil.Process(holder.pid).environ()
    except psutil.Error:
        return None  # it has just ended, or this system does not tell
    in_file = None if _VARIABLE in os.environ else patient.settings.sky_python

    def leads_to(environment: Mapping[str, str]) -> str | None:
        if setting := environment.get(_VARIABLE) or in_file:
            return setting
        return None if python == sys.executable else shutil.which("sky", path=environment.get("PATH"))

    daemons = leads_to(theirs)
    if daemons == leads_to(os.environ):
        return None
    return f"the daemon, which started in another shell, {f'uses {daemons}' if daemons else 'finds none'}"


def _words(error: SkyError, log: Path, deadline_s: float) -> str:
    # The log goes with its folder, so its end is shown instead of its name.
    says = str(error).replace(f"; see {log}", "").removeprefix("SkyPilot: ").rstrip(".")
    if error.kind == "late":
        return f"no answer within {deadline_s:.0f} s"
    return f"an error instead of an answer: {says}" if error.kind in ("error", "refused") else says


def _remedy(error: SkyError, python: str) -> str:
    if error.kind == "unreachable":
        return "`sky api start` where it runs; `sky api info` says which is asked, `sky api login -e URL` names another"
    if error.kind == "missing":
        return f'`{python} -c "import sky"` shows what it lacks; then install it anew'
    return "`sky api status` and `sky check` tell more"


def _printed(log: Path, says: str) -> tuple[str, ...]:
    """The last lines that SkyPilot has printed; none where they only repeat what is said."""
    try:
        text = log.read_text(errors="replace")
    except FileNotFoundError:
        return ()
    lines = [line.strip() for line in text.splitlines() if line.strip()][-_LOG_LINES:]
    return () if lines and lines[-1].rpartition(": ")[2].rstrip(".") in says else tuple(lines)


def _numbers(version: str) -> tuple[int, ...]:
    """(0, 14) of "0.14.1"; of a nightly build, which counts by dates, (1, 0)."""
    return tuple(map(int, re.findall(r"\d+", version)[:2]))
