"""What the bed writes before it starts anything: configurations, keys, and stand-ins for what the internet has."""

from __future__ import annotations

import os
import shlex
import socket
import subprocess
from pathlib import Path

SSH_PORT, SLURMCTLD_PORT, API_PORT = 46622, 46617, 46680
#: The nodes of Slurm, which both are this machine, and the ports of their daemons.
NODES = {"bed1": 46618, "bed2": 46619}
#: A login shell resets PATH, so the stand-in for uv's installer lies where every shell looks first.
CURL = Path("/usr/local/bin/curl")
#: How the node reaches package indices: as whoever started the bed does.
_HANDED_ON = (
    "UV_",
    "PIP_",
    "SSL_CERT_",
    "REQUESTS_CA_BUNDLE",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "http_proxy",
    "https_proxy",
)
#: What `uv run` says of itself is not for the node.
_OURS_ALONE = ("UV_RUN_RECURSION_DEPTH", "UV_PROJECT_ENVIRONMENT")


def write_files(folder: Path, uv: str, python: str) -> None:
    """All files below `folder`, and the stand-in for curl. `uv` and `python` are programs of this machine."""
    for name in (
        "ctld",
        *(f"slurmd/{node}" for node in NODES),
        "log",
        "run",
        "home/.slurm",
        "home/.ssh",
        "home/.sky",
        "bin",
        "site",
        "shared",
        "tmp",
    ):
        (folder / name).mkdir(parents=True, exist_ok=True)
    folder.chmod(0o755)
    (folder / "munge.key").write_bytes(os.urandom(128))
    (folder / "munge.key").chmod(0o400)
    (folder / "slurm.conf").write_text(_slurm_conf(folder))
    for name in ("node_key", "host_key"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / name], check=True)
    (folder / "home/.slurm/config").write_text(_ssh_config(folder))
    (folder / "home/.sky/config.yaml").write_text(_sky_config(folder))
    (folder / "site/sitecustomize.py").write_text(_SITE.format(port=API_PORT, nodes=set(NODES)))
    (folder / "bin/uv").write_text(_uv(folder, uv, python))
    (folder / "bin/uv").chmod(0o755)
    CURL.write_text(_curl(folder))
    CURL.chmod(0o755)


def owner_of_curl() -> str | None:
    """The folder of the bed that put its stand-in for curl there; "" when it is nobody's, None when it is not there."""
    if not CURL.exists():
        return None
    lines = CURL.read_text(errors="replace").splitlines()
    return lines[1].removeprefix(_MARK) if len(lines) > 1 and lines[1].startswith(_MARK) else ""


def handed_on() -> dict[str, str]:
    """What the node gets of our environment."""
    return {k: v for k, v in os.environ.items() if k.startswith(_HANDED_ON) and k not in _OURS_ALONE}


def _slurm_conf(folder: Path) -> str:
    host = socket.gethostname().split(".")[0]
    # They say to have more CPUs than there are, so that jobs that sleep and print run side by side.
    nodes = "\n".join(
        f"NodeName={name} NodeHostname={host} NodeAddr=127.0.0.1 Port={port} CPUs=32 RealMemory=64000 State=UNKNOWN"
        for name, port in NODES.items()
    )
    return f"""
ClusterName=bed
SlurmctldHost={host}(127.0.0.1)
AuthType=auth/munge
AuthInfo=socket={folder}/run/munge.socket
CryptoType=crypto/munge
SlurmUser=root
SlurmdUser=root
SlurmctldPort={SLURMCTLD_PORT}
StateSaveLocation={folder}/ctld
SlurmdSpoolDir={folder}/slurmd/%n
SlurmctldPidFile={folder}/run/slurmctld.pid
SlurmdPidFile={folder}/run/slurmd.pid
SlurmdParameters=config_overrides
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
ReturnToService=2
MpiDefault=none
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
{nodes}
PartitionName=main Nodes={",".join(NODES)} Default=YES MaxTime=1-0 DefaultTime=2:00:00 State=UP
PartitionName=closed Nodes={",".join(NODES)} MaxTime=1-0 DefaultTime=2:00:00 State=DOWN
"""


def _ssh_config(folder: Path) -> str:
    return f"""
Host bed
    HostName 127.0.0.1
    Port {SSH_PORT}
    User root
    IdentityFile {folder}/node_key
    IdentitiesOnly yes
    StrictHostKeyChecking no
    UserKnownHostsFile /dev/null
    LogLevel ERROR
"""


def _sky_config(folder: Path) -> str:
    # The controller of managed jobs lives in the API server: it needs no machine of its own.
    return f"""
jobs:
  controller:
    consolidation_mode: true
slurm:
  cluster_configs:
    bed:
      workdir: {folder}/shared
      tmpdir: {folder}/tmp
"""


# What of SkyPilot one small machine without the internet cannot carry. It asks public addresses whether
# the network is up, and waits for ever where they are out of reach: here the API server stands for the network. And
# clusters that start on a node side by side choose the same port for their skylet; those that lose are started again
# for ever, and what is asked of them is answered by the winner. And it starts a controller for every 2 GB of memory,
# each of which takes its share of the processor. The nodes' names are this machine's, which its resolver need not know.
_SITE = """
import importlib.util
import random
import socket
import sys

address_of = socket.gethostbyname
socket.gethostbyname = lambda name: address_of("localhost" if name in {nodes} else name)


def network(module):
    module._TEST_IP_LIST = ["http://127.0.0.1:{port}/api/health"]


def ports(module):
    find = module.find_free_port
    module.find_free_port = lambda start: find(start + random.randrange(8000))


def controllers(module):
    module.MAX_CONTROLLERS = 2


class Patches:
    wanted = {{
        "sky.backends.backend_utils": network,
        "sky.utils.common_utils": ports,
        "sky.utils.controller_utils": controllers,
    }}

    def find_spec(self, name, path=None, target=None):
        patch = self.wanted.pop(name, None)
        if patch is None:
            return None
        spec = importlib.util.find_spec(name)
        load = spec.loader.exec_module

        def loaded(module):
            load(module)
            patch(module)

        spec.loader.exec_module = loaded
        return spec


sys.meta_path.insert(0, Patches())
"""


def _uv(folder: Path, uv: str, python: str) -> str:
    exports = "\n".join(f"export {name}={shlex.quote(value)}" for name, value in handed_on().items())
    # SkyPilot asks for Python 3.10 by number, and would have uv download it where there is none. The environment that
    # it makes for itself on each cluster's node, which here is this machine, is made once and shared: a launch takes 54
    # seconds of processor time, and took 72.
    return f"""#!/usr/bin/env bash
{exports}
export UV_CACHE_DIR=${{UV_CACHE_DIR:-{folder}/uv-cache}}
runtime={folder}/runtime
words=()
for word in "$@"; do
  [[ $word == 3.10 ]] && ! python3.10 -V >/dev/null 2>&1 && word={shlex.quote(python)}
  [[ $word == */skypilot-runtime ]] && own=$word && word=$runtime
  words+=("$word")
done
once() {{
  exec 9>"{folder}/run/runtime.lock" && flock 9
  [[ -e $runtime/.$1 ]] || {{ {shlex.quote(uv)} "${{words[@]}}" && touch "$runtime/.$1"; }}
}}
case "$*" in
  venv*/skypilot-runtime*)
    once made && for packages in "$runtime"/lib/python*/site-packages; do
      cp {folder}/site/sitecustomize.py "$packages"
    done
    ln -sfn "$runtime" "$own" ;;
  "pip uninstall"*skypilot*) ;;
  "pip install"*/skypilot-*.whl*) once installed ;;
  *) exec {shlex.quote(uv)} "${{words[@]}}" ;;
esac
"""


_MARK = "# the bed of metta-jobs' tests, for as long as it is up: "


def _curl(folder: Path) -> str:
    return f"""#!/bin/sh
{_MARK}{folder}
case "$*" in
  *astral.sh/uv/install.sh*) echo 'mkdir -p "$UV_INSTALL_DIR" && cp "{folder}/bin/uv" "$UV_INSTALL_DIR/uv"' ;;
  *) exec /usr/bin/curl "$@" ;;
esac
"""
