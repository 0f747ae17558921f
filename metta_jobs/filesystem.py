"""What kind of file system a folder lies on: SQLite's log is shared memory, and locks must hold, so it must be local.

On Linux the answer is read from /proc/self/mountinfo; elsewhere from what `mount` prints.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path

from metta_jobs.errors import InvalidInput

#: File systems whose files other machines may hold open, too, or whose locks and shared memory are those of a server.
NETWORK = frozenset({
    "9p", "acfs", "afpfs", "afs", "beegfs", "ceph", "cifs", "coda", "davfs", "drvfs", "fhgfs", "gfs", "gfs2",
    "glusterfs", "gpfs", "lustre", "moosefs", "ncpfs", "nfs", "nfs4", "ocfs2", "orangefs", "osxfs", "panfs", "prl_fs",
    "pvfs2", "smb2", "smb3", "smbfs", "vboxsf", "vmhgfs", "webdav", "wekafs",
})  # fmt: skip
#: FUSE programs that keep their files elsewhere, by how their names begin.
_FUSE = (
    "alluxio", "beegfs", "blobfuse", "ceph", "cifs", "curlftpfs", "davfs", "gcsfuse", "gluster", "google", "goofys",
    "grpcfuse", "hdfs", "juicefs", "lizardfs", "mfs", "moosefs", "mountpoint-s3", "nfs", "objectivefs", "onedriver",
    "osxfs", "rclone", "s3", "smb", "sshfs", "vmhgfs",
)  # fmt: skip
ALLOW_VARIABLE = "METTA_ALLOW_NETWORK_FS"


def kind(folder: Path, mounts: str | None = None) -> str | None:
    """The type of the file system that holds `folder` (or will, once it is made): "ext4", "nfs4", "fuse.sshfs".

    None when it cannot be told. `mounts` stands for what the system says: the text of mountinfo, or of `mount`.
    """
    folder = _existing(folder)
    try:
        if mounts is None and sys.platform == "linux":
            return _by_device(Path("/proc/self/mountinfo").read_bytes(), folder)
        return _by_name(_mount() if mounts is None else mounts, folder)
    except OSError:
        return None


def is_network(fs_type: str | None) -> bool:
    """True when files on such a file system may live on another machine."""
    if fs_type is None:
        return False
    program = fs_type.removeprefix("fuse.")
    return fs_type in NETWORK or (program != fs_type and program.startswith(_FUSE))


def refuse_network(folder: Path, allowed: Callable[[], bool], mounts: str | None = None) -> None:
    """Raise InvalidInput when a state folder would lie on a network file system and that is not `allowed`.

    `allowed` is asked only then, so it may be slow.
    """
    found = kind(folder, mounts)
    if is_network(found) and not allowed():
        raise InvalidInput(
            f"The state folder {folder} is on a network file system ({found}). The queue needs locks and memory that "
            "the processes of one machine share, and would be damaged there. Name a folder on a local disk with "
            f"METTA_JOB_STATE or --state-dir; {ALLOW_VARIABLE}=1 uses this one all the same, at your own risk."
        )


def _mount() -> str:
    import subprocess

    try:
        return subprocess.run(["mount"], capture_output=True, text=True, check=True, timeout=10).stdout
    except subprocess.SubprocessError:
        return ""


def _existing(folder: Path) -> Path:
    folder = Path(os.path.realpath(folder))
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    return folder


def _by_device(mountinfo: bytes, folder: Path) -> str | None:
    """Find the mount by its device number, which is a search for a few bytes, however many mounts there are."""
    device = folder.stat().st_dev
    found = mountinfo.find(f" {os.major(device)}:{os.minor(device)} /".encode())
    if found < 0:
        # Subvolumes have device numbers of their own, which mountinfo does not tell.
        return _by_name(os.fsdecode(mountinfo), folder)
    line = mountinfo[found : mountinfo.find(b"\n", found)]
    return os.fsdecode(line.partition(b" - ")[2].split(b" ", 1)[0])


def _by_name(mounts: str, folder: Path) -> str | None:
    """The type of the longest mount point above `folder`; the last one mounted there is the one that is seen."""
    best, answer = -1, None
    for line in mounts.splitlines():
        point, fs_type = _mountinfo_line(line) or _mount_line(line) or (None, None)
        if point is not None and len(point) >= best and _below(str(folder), point):
            best, answer = len(point), fs_type
    return answer


def _below(path: str, point: str) -> bool:
    return path == point or path.startswith(point.rstrip("/") + "/")


def _mountinfo_line(line: str) -> tuple[str, str] | None:
    before, dash, after = line.partition(" - ")
    fields = before.split(" ")
    if not dash or len(fields) < 6 or not fields[0].isdigit():
        return None
    point = fields[4]
    for code in (r"\040", r"\011", r"\012", r"\134"):  # blanks, and last the backslash itself
        point = point.replace(code, chr(int(code[1:], 8)))
    return point, after.split(" ", 1)[0]


def _mount_line(line: str) -> tuple[str, str] | None:
    """Of macOS and the BSDs: "server:/x on /Volumes/x (nfs, nodev)"."""
    _, on, rest = line.partition(" on ")
    point, bracket, options = rest.rpartition(" (")
    if not (on and bracket and point.startswith("/")):
        return None
    return point, options.rstrip(")").split(",", 1)[0]
