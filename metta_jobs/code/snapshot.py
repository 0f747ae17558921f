"""Freezing the working tree: a copy that later edits do not change, kept once under a hash of what is in it.

What SkyPilot 0.14.1 does with a folder that it is to upload (sky/data/storage_utils.py, sky/utils/command_runner.py,
sky/server/server.py; read and tried): with a .skyignore in its root, and be it empty, it leaves out what that names and
asks no .gitignore; rsync reads every .skyignore further down as well. Without one, it leaves out what
`git ls-files --ignored` says where it packs a zip file for an API server elsewhere, and what the patterns of any
.gitignore match where it runs rsync, which takes tracked files away, too, and knows no "!pattern". So that what is
frozen is what arrives, a snapshot has one .skyignore, in its root, that names nothing; those of the project have had
their say when it was made. An API server elsewhere unpacks the zip file without executable bits; rsync keeps them.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import secrets
import shutil
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from metta_jobs.code.listing import IGNORE_FILE, list_files
from metta_jobs.errors import InvalidInput

MOST_BYTES = 500_000_000
_LARGEST_SHOWN = 5
_ID_LENGTH = 40
_CHUNK = 1 << 20
_FICLONE = 0x40049409  # linux/fs.h: share the blocks of another file, where the file system can
_NOTHING_IGNORED = "# Everything in this folder is to be uploaded: nothing that git ignores is in it.\n"


@dataclass(frozen=True)
class Snapshot:
    """A frozen working tree: `id` is a hash of its content, `path` where it lies, `bytes` the size of its files."""

    id: str
    path: Path
    files: int
    bytes: int


@dataclass(frozen=True)
class _Entry:
    """What lies at a path: a link with its `target`, or a file of `size` bytes that may be `executable`."""

    name: str
    size: int = 0
    executable: bool = False
    target: str | None = None


def freeze(project: Path, store: Path) -> Snapshot:
    """Copy the working tree of `project`, as it is now, into a folder of `store` (<state folder>/snapshots).

    It appears there whole or not at all, and the same content only once. Raises InvalidInput when it is larger than
    500 MB, leads outside by a link, cannot be read or copied, or is empty.
    """
    project = Path(os.path.realpath(project))
    store = Path(os.path.realpath(store))
    entries = _entries(project, store.parent)
    try:
        store.mkdir(mode=0o700, parents=True, exist_ok=True)
        identity, found = _identity(project, entries)
        if _touch(store, identity):
            return _snapshot(store, identity, found)
        return _copy(project, found, store)
    except OSError as error:
        where = f" ({error.filename})" if error.filename else ""
        raise InvalidInput(f"{project} cannot be frozen: {error.strerror or error}{where}.") from error


@contextlib.contextmanager
def guard(store: Path, *, exclusive: bool) -> Iterator[None]:
    """Hold the folder of snapshots while one is taken up again (shared) or taken away (exclusive)."""
    descriptor = os.open(store, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH)
        yield
    finally:
        os.close(descriptor)


def _touch(store: Path, identity: str) -> bool:
    """True when that content is there already; then it counts as used just now."""
    with guard(store, exclusive=False):
        try:
            os.utime(store / identity)
        except FileNotFoundError:
            return False
        return True


def _snapshot(store: Path, identity: str, entries: Sequence[_Entry]) -> Snapshot:
    return Snapshot(identity, store / identity, len(entries), sum(entry.size for entry in entries))


# ------------------------------------------------------------------------------------------------ what there is


def _entries(project: Path, state_dir: Path) -> list[_Entry]:
    real: dict[str, bool] = {"": True}
    found = []
    for name in list_files(project, state_dir):
        if not _in_real_folder(project, name, real):
            continue  # git still tracks it, but a link has taken the place of its folder
        entry = _entry(project, name)
        if entry is not None:
            found.append(entry)
    if not found:
        raise InvalidInput(f"{project} holds no file that could be shipped: is all of it ignored by git?")
    _refuse_large(project, found)
    return found


def _in_real_folder(project: Path, name: str, known: dict[str, bool]) -> bool:
    folder = name.rpartition("/")[0]
    if folder not in known:
        known[folder] = _in_real_folder(project, folder, known) and not (project / folder).is_symlink()
    return known[folder]


def _entry(project: Path, name: str) -> _Entry | None:
    """None for what is not there (any more), and for what is neither file nor link."""
    path = project / name
    try:
        status = path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise InvalidInput(f"{path} cannot be read: {error.strerror}.") from error
    if stat.S_ISLNK(status.st_mode):
        return _Entry(name, target=_target(project, path))
    if not stat.S_ISREG(status.st_mode):
        return None
    return _Entry(name, status.st_size, bool(status.st_mode & stat.S_IXUSR))


def _target(project: Path, path: Path) -> str:
    """Where a link leads, relative to itself: an absolute path would lead back into the tree that goes on changing."""
    target = os.readlink(path)  # noqa: PTH115 - as it is written
    inside = Path(os.path.realpath(path))
    if not inside.is_relative_to(project):
        raise InvalidInput(
            f"{path} is a link that leads outside the project, to {inside}, where nodes have nothing: copy what it "
            "leads to, list the link in .gitignore, or ship that folder by file_mounts."
        )
    return os.path.relpath(inside, path.parent) if os.path.isabs(target) else target  # noqa: PTH117


def _refuse_large(project: Path, entries: Sequence[_Entry]) -> None:
    total = sum(entry.size for entry in entries)
    if total <= MOST_BYTES:
        return
    largest = sorted(entries, key=lambda entry: -entry.size)[:_LARGEST_SHOWN]
    named = ", ".join(f"{entry.name} ({entry.size / 1e6:.0f} MB)" for entry in largest)
    raise InvalidInput(
        f"The working tree {project} has {total / 1e6:.0f} MB in {len(entries)} files, and at most "
        f"{MOST_BYTES / 1e6:.0f} MB are shipped with a job. The largest: {named}. List what is no code in .gitignore "
        "(what git tracks already, in .skyignore), and ship data by file_mounts from a bucket."
    )


# ------------------------------------------------------------------------------------------------ copy and name


def _identity(folder: Path, entries: Sequence[_Entry]) -> tuple[str, list[_Entry]]:
    """The hash of these entries as they are in `folder`, with those that are there and the sizes that were read."""
    whole, found = hashlib.sha256(), []
    for entry in entries:
        digest = hashlib.sha256()
        if entry.target is not None:
            kind = b"link"
            digest.update(os.fsencode(entry.target))
        else:
            kind = b"exec" if entry.executable else b"file"
            size = 0
            try:
                with (folder / entry.name).open("rb", buffering=0) as file:
                    while chunk := file.read(_CHUNK):
                        digest.update(chunk)
                        size += len(chunk)
            except FileNotFoundError:
                continue
            entry = replace(entry, size=size)
        whole.update(b"%s %s %s\0" % (kind, digest.hexdigest().encode(), os.fsencode(entry.name)))
        found.append(entry)
    return whole.hexdigest()[:_ID_LENGTH], found


def _copy(project: Path, entries: Sequence[_Entry], store: Path) -> Snapshot:
    aside = store / f".{os.getpid()}-{secrets.token_hex(4)}"
    aside.mkdir()
    try:
        for entry in entries:
            _copy_one(project, entry, aside)
        # Somebody may have typed meanwhile: the name is that of what was copied.
        identity, copied = _identity(aside, entries)
        (aside / IGNORE_FILE).write_text(_NOTHING_IGNORED)
        _to_disk(aside)
        try:
            aside.rename(store / identity)
        except OSError:
            # Another submit with the same code was first: a folder that holds something is never replaced.
            if not _touch(store, identity):
                raise
        _sync(store)
        return _snapshot(store, identity, copied)
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _copy_one(project: Path, entry: _Entry, aside: Path) -> None:
    source, copy = project / entry.name, aside / entry.name
    copy.parent.mkdir(parents=True, exist_ok=True)
    if entry.target is not None:
        copy.symlink_to(entry.target)
        return
    with contextlib.suppress(FileNotFoundError), source.open("rb") as original, copy.open("xb") as file:
        try:
            fcntl.ioctl(file.fileno(), _FICLONE, original.fileno())
        except OSError:  # not this file system, or not from that one to this
            shutil.copyfileobj(original, file, _CHUNK)
        os.fchmod(file.fileno(), 0o755 if entry.executable else 0o644)


def _to_disk(folder: Path) -> None:
    """A submit that returned is on disk, and so is what its jobs will run."""
    for here, _, files in os.walk(folder):
        for name in files:
            path = Path(here, name)
            if not path.is_symlink():
                _sync(path)
        _sync(Path(here))


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
