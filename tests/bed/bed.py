"""A real SkyPilot over a real Slurm of two nodes, on this machine alone."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.bed.files import API_PORT, CURL, NODES, SLURMCTLD_PORT, SSH_PORT, handed_on, owner_of_curl, write_files
from tests.bed.members import MARK, end, members

SKYPILOT = "skypilot[slurm]==0.14.1"
#: Program → Debian's package of it.
PACKAGES = {
    "slurmctld": "slurm-wlm", "munged": "munge", "sshd": "openssh-server", "ssh": "openssh-client", "rsync": "rsync",
    "curl": "curl",
}  # fmt: skip
_SYSTEM = "/usr/local/sbin:/usr/sbin:/sbin:/usr/local/bin:/usr/bin:/bin"


class Unavailable(Exception):
    """This machine cannot carry a bed, and why: a reason to skip tests."""


class Bed:
    """All of it lies in `folder` and listens on loopback. `python` has SkyPilot; None makes a virtual environment."""

    def __init__(self, folder: Path, python: str | None = None) -> None:
        self.folder = folder
        self.own_python = python is None
        self.python = str(folder / "venv/bin/python") if python is None else python
        self.home = folder / "home"

    # -------------------------------------------------------------------------------------------------- up and down

    def up(self) -> None:
        """Start everything; SkyPilot can use Slurm when it returns. Raises Unavailable, and RuntimeError with a log."""
        if self.answers():
            return
        self._check()
        self._install()
        write_files(self.folder, self._uv(), os.path.realpath(self.python))
        self._start_slurm()
        self._start_sshd()
        self.start_server()

        def enabled() -> bool:
            return "Slurm: enabled" in self._sky("check", "slurm", may_fail=True)

        self._until(enabled, "`sky check slurm`", 180, "check")

    def down(self) -> None:
        """End what `up` has started and remove what it has written."""
        if not self.folder.exists():
            return
        if Path(self.python).exists() and (self.home / ".sky").exists():
            self.stop_server()
        if members(self.folder, "slurmctld"):
            self.slurm("scancel", "--full", "--signal=KILL", "--user=root", may_fail=True)
        end(lambda: members(self.folder))
        if owner_of_curl() == str(self.folder):
            CURL.unlink()
        shutil.rmtree(self.folder)

    def env(self) -> dict[str, str]:
        """What the tests, and a shell that uses the bed, need in their environment; HOME is the bed's own."""
        return {
            "METTA_BED_DIR": str(self.folder),
            "METTA_TEST_SKY_PYTHON": self.python,
            "HOME": str(self.home),
            "SKYPILOT_API_SERVER_LOCAL_PORT": str(API_PORT),
            "SKYPILOT_DISABLE_USAGE_COLLECTION": "1",
            "SLURM_CONF": str(self.folder / "slurm.conf"),
        }

    # ---------------------------------------------------------------------------------------------- the API server

    def start_server(self) -> None:
        """Start SkyPilot's API server; returns when it answers."""
        self._sky("api", "start")
        self._until(self.answers, "the API server", 120, "api")

    def stop_server(self) -> None:
        """Kill it with all its workers and controllers, as a power cut would; managed jobs go on in Slurm."""
        self._sky("api", "stop", may_fail=True)
        end(lambda: members(self.folder, "sky.server.server") + members(self.folder, "sky.jobs.controller"), 0)

    def answers(self) -> bool:
        """True when the API server of this bed is up."""
        if not (self.folder / "slurm.conf").exists():
            return False
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{API_PORT}/api/health", timeout=5) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    def slurm(self, *command: str, may_fail: bool = False) -> str:
        """Run one of Slurm's commands and return what it prints."""
        return self._run(*command, may_fail=may_fail, env=self._environment())

    # -------------------------------------------------------------------------------------------------------- parts

    def _check(self) -> None:
        if sys.platform != "linux" or os.geteuid() != 0:
            raise Unavailable("the bed needs root on Linux: it starts slurmd and sshd")
        if shutil.which("apt-get") is None and self._missing():
            raise Unavailable(f"the bed needs {', '.join(self._missing())}, and there is no apt-get to install that")
        if owner_of_curl() not in (None, str(self.folder)):
            raise Unavailable(f"{CURL} is not the bed's own, which needs that place (`down` of another bed frees it)")
        taken = [port for port in (API_PORT, SLURMCTLD_PORT, *NODES.values(), SSH_PORT) if _listens(port)]
        if taken:
            raise Unavailable(f"something else listens on port {taken[0]}, which the bed needs")

    def _missing(self) -> list[str]:
        return [package for program, package in PACKAGES.items() if shutil.which(program, path=_SYSTEM) is None]

    def _install(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        if missing := self._missing():
            quiet = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
            try:
                self._run("apt-get", "update", "-qq", env=quiet)
                self._run("apt-get", "install", "-y", "-qq", "--no-install-recommends", *missing, env=quiet)
            except RuntimeError as error:
                raise Unavailable(
                    f"the bed needs {', '.join(missing)}, and apt-get cannot install it: {error}"
                ) from error
        if self.own_python and not Path(self.python).exists():
            self._run(self._uv(), "venv", "-q", "--python", sys.executable, str(self.folder / "venv"))
            self._run(self._uv(), "pip", "install", "-q", "--python", self.python, SKYPILOT)

    def _uv(self) -> str:
        found = os.environ.get("UV") or shutil.which("uv")
        if found is None:
            raise Unavailable("the bed needs uv: pip install uv")
        return found

    def _start_slurm(self) -> None:
        run, log = self.folder / "run", self.folder / "log"
        self._daemon(
            "munged", "--foreground", "--force", f"--key-file={self.folder}/munge.key", f"--socket={run}/munge.socket",
            f"--pid-file={run}/munge.pid", f"--log-file={log}/munged.log", f"--seed-file={run}/munge.seed",
        )  # fmt: skip
        self._until((run / "munge.socket").exists, "munge", 30, "munged")
        conf = str(self.folder / "slurm.conf")
        self._daemon("slurmctld", "-D", "-f", conf)
        self._until(lambda: "UP" in self.slurm("scontrol", "ping", may_fail=True), "slurmctld", 60, "slurmctld")
        for node in NODES:
            self._daemon("slurmd", "-D", "-f", conf, "-N", node)

        def idle() -> bool:
            states = self.slurm("sinfo", "-h", "-N", "-p", "main", "-o", "%T", may_fail=True).split()
            return states == ["idle"] * len(NODES)

        self._until(idle, "the nodes", 60, "slurmd")

    def _start_sshd(self) -> None:
        Path("/run/sshd").mkdir(exist_ok=True)
        given = {**handed_on(), MARK: str(self.folder), "SLURM_CONF": str(self.folder / "slurm.conf")}
        options = [
            "ListenAddress=127.0.0.1", f"PidFile={self.folder}/run/sshd.pid", "PermitRootLogin=prohibit-password",
            "PasswordAuthentication=no", "StrictModes=no", f"AuthorizedKeysFile={self.folder}/node_key.pub",
            "Subsystem=sftp internal-sftp", "MaxStartups=100", "MaxSessions=200",
            "SetEnv=" + " ".join(f'{name}="{value}"' for name, value in given.items()),
        ]  # fmt: skip
        self._daemon(
            shutil.which("sshd", path=_SYSTEM) or "sshd", "-D", "-f", "/dev/null", "-p", str(SSH_PORT), "-h",
            f"{self.folder}/host_key", *(word for option in options for word in ("-o", option)),
        )  # fmt: skip
        self._until(lambda: _listens(SSH_PORT), "sshd", 30, "sshd")

    # ------------------------------------------------------------------------------------------------------ running

    def _environment(self) -> dict[str, str]:
        base = {
            name: value for name, value in os.environ.items() if not name.startswith(("METTA_", "UV_RUN", "VIRTUAL_"))
        }
        path = f"{base.get('PATH', '')}:{_SYSTEM}"
        return {**base, **self.env(), "PATH": path, "PYTHONPATH": str(self.folder / "site"), MARK: str(self.folder)}

    def _daemon(self, *command: str) -> None:
        with (self.folder / f"log/{Path(command[0]).name}.log").open("ab") as log:
            subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
                env=self._environment(),
            )  # fmt: skip

    def _sky(self, *words: str, may_fail: bool = False) -> str:
        said = self._run(
            self.python, "-m", "sky.client.cli.command", *words, may_fail=may_fail, env=self._environment()
        )
        (self.folder / f"log/{words[0]}.log").write_text(said)
        return said

    def _run(self, *command: str, may_fail: bool = False, env: dict[str, str] | None = None) -> str:
        # Into a file, not a pipe: what it leaves running would hold the pipe open.
        with (self.folder / ".said").open("w+b") as said:
            ended = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=said, stderr=said, env=env, check=False)
            said.seek(0)
            text = said.read().decode(errors="replace")
        if ended.returncode and not may_fail:
            raise RuntimeError(f"{' '.join(command[:4])} ended with {ended.returncode}:\n{text[-2000:]}")
        return text

    def _until(self, condition: Callable[[], Any], what: str, patience_s: float, log: str) -> None:
        deadline = time.monotonic() + patience_s
        while not condition():
            if time.monotonic() > deadline:
                path = self.folder / f"log/{log}.log"
                tail = path.read_text(errors="replace")[-2000:] if path.exists() else ""
                raise RuntimeError(f"{what} does not come up in {patience_s:.0f} s:\n{tail}")
            time.sleep(0.3)


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0
