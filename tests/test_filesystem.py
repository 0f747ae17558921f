from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from metta_jobs import filesystem
from metta_jobs.errors import InvalidInput

MOUNTINFO = r"""
25 1 254:0 / / rw,relatime - ext4 /dev/vda rw
26 25 0:40 / /home rw,relatime shared:7 - nfs4 server:/home rw,vers=4.2
27 26 0:41 / /home/ann/scratch rw - xfs /dev/sdb rw
28 25 0:42 / /my\040data rw - fuse.sshfs ann@host:/ rw
29 25 0:43 / /lab rw - autofs systemd-1 rw
30 29 0:44 / /lab rw master:1 - lustre 10.0.0.1@tcp:/lab rw
31 25 0:45 / /union rw - fuse.unionfs-fuse unionfs rw
32 25 0:46 / /back\134slash rw - cifs //host/share rw
"""
MACOS = """\
/dev/disk3s1s1 on / (apfs, sealed, local, read-only, journaled)
server:/export (x) on /Volumes/my share (nfs, nodev, nosuid, mounted by ann)
//ann@nas/home on /Volumes/home (smbfs, nodev, nosuid)
"""


@pytest.mark.parametrize(
    ("mounts", "folder", "expected"),
    [
        (MOUNTINFO, "/srv/job_state", "ext4"),
        (MOUNTINFO, "/home", "nfs4"),
        (MOUNTINFO, "/home/ann/project/job_state", "nfs4"),
        (MOUNTINFO, "/home/ann/scratch/job_state", "xfs"),
        (MOUNTINFO, "/home/ann/scratches", "nfs4"),
        (MOUNTINFO, "/homestead", "ext4"),
        (MOUNTINFO, "/my data/job_state", "fuse.sshfs"),
        (MOUNTINFO, "/lab/x", "lustre"),
        (MOUNTINFO, "/back\\slash/x", "cifs"),
        (MACOS, "/Users/ann", "apfs"),
        (MACOS, "/Volumes/my share/job_state", "nfs"),
        (MACOS, "/Volumes/home/x", "smbfs"),
        ("", "/x", None),
        ("no such format\n\n", "/x", None),
    ],
)
def test_the_longest_mount_point_above_a_folder_tells(
    monkeypatch: pytest.MonkeyPatch, mounts: str, folder: str, expected: str | None
) -> None:
    monkeypatch.setattr(filesystem, "_existing", lambda path: path)
    assert filesystem.kind(Path(folder), mounts) == expected


@pytest.mark.parametrize("fs_type", ["nfs", "nfs4", "cifs", "smb3", "9p", "lustre", "beegfs", "gpfs", "ceph", "afs"])
@pytest.mark.parametrize("prefix", ["", "fuse."])
def test_what_lives_on_other_machines(fs_type: str, prefix: str) -> None:
    local = {"fuse.9p", "fuse.lustre", "fuse.gpfs", "fuse.afs"}  # there are no such programs
    assert filesystem.is_network(prefix + fs_type) == (prefix + fs_type not in local)


@pytest.mark.parametrize(
    "fs_type", ["ext4", "xfs", "btrfs", "zfs", "tmpfs", "overlay", "apfs", "fuseblk", "fuse.unionfs-fuse", None]
)
def test_what_lives_here(fs_type: str | None) -> None:
    assert not filesystem.is_network(fs_type)


def test_a_network_folder_is_refused_with_the_reason_and_two_ways_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(filesystem, "_existing", lambda path: path)
    with pytest.raises(InvalidInput, match=r"/home/x.*nfs4.*locks.*METTA_JOB_STATE.*METTA_ALLOW_NETWORK_FS=1"):
        filesystem.refuse_network(Path("/home/x"), lambda: False, MOUNTINFO)
    filesystem.refuse_network(Path("/home/x"), lambda: True, MOUNTINFO)


def test_a_local_folder_does_not_ask_for_settings(tmp_path: Path) -> None:
    filesystem.refuse_network(tmp_path / "not" / "yet", lambda: pytest.fail("asked"))


@pytest.mark.skipif(sys.platform != "linux", reason="reads mountinfo")
def test_the_real_root_and_a_folder_to_be_made_have_the_type_that_the_system_tells(tmp_path: Path) -> None:
    told = subprocess.run(["stat", "-f", "-c", "%T", tmp_path], capture_output=True, text=True, check=True).stdout
    assert told.startswith((filesystem.kind(tmp_path / "a" / "b") or "?").rstrip("4"))  # "ext2/ext3"
    assert filesystem.kind(Path("/proc")) == "proc"


@pytest.fixture
def tmpfs(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "with a blank"
    folder.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "none", folder], check=False).returncode:
        pytest.skip("needs the right to mount")
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


@pytest.mark.skipif(sys.platform != "linux" or os.geteuid() != 0, reason="needs root")
def test_a_mount_made_just_now_is_seen_by_device_and_by_name(tmpfs: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmpfs)
    text = Path("/proc/self/mountinfo").read_text()
    for folder in (tmpfs, tmpfs / "new" / "er", tmp_path / "link" / "x"):
        assert filesystem.kind(folder) == filesystem.kind(folder, text) == "tmpfs"


def test_it_costs_next_to_nothing(tmp_path: Path) -> None:
    def once() -> float:
        begin = time.perf_counter()
        filesystem.kind(tmp_path / "job_state")
        return time.perf_counter() - begin

    assert min(once() for _ in range(50)) < 0.001  # 0.07 ms on an idle machine
