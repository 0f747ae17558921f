"""The machine and who uses it: versions, the state folder's place, disk space, settings, GPUs, the clock."""

from __future__ import annotations

XX

def _folder(patient: Patient) -> Iterator[Finding]:
    root, name = patient.dir.root, "state folder"
    status = root.stat()
    if status.st_uid != os.geteuid():
        yield warning(name, f"{root} belongs to another user", "use a state folder of your own: --state-dir")
        return
    open_to_others = [root] if stat.S_IMODE(status.st_mode) & 0o077 else []
    inside = [patient.dir.doorbell, *sorted((root / "runners").glob("*.sock")), root / "salt"]
    open_inside = [path for path in inside if path.exists() and stat.S_IMODE(path.lstat().st_mode) & 0o077]
    if open_to_others:
        yield warning(name, f"other users may look into {root}", f"`chmod 700 {root}`")
    elif open_inside:
        yield warning(name, f"other users may use {open_inside[0]}", f"`chmod 600 {open_inside[0]}`")
    else:
        yield fine(name, str(root))


def _file_system(patient: Patient) -> Iterator[Finding]:
    kind = filesystem.kind(patient.dir.root)
    if filesystem.is_network(kind):
        allowed = Settings.load(find_project(patient.dir.root.parent)).allow_network_fs
        yield (warning if allowed else broken)(
            "file system",
            f"{kind} is a network file system, where locks and shared memory do not hold",
            "move the folder to a local disk and name it with METTA_JOB_STATE",
        )
    else:
        yield fine("file system", kind or "its type cannot be told on this system")


def _space(patient: Patient) -> Iterator[Finding]:
    found = os.statvfs(patient.dir.root)
    free, total = found.f_bavail * found.f_frsize, found.f_blocks * found.f_frsize
    says = f"{amount(free)} of {amount(total)} are free"
    remedy = "`metta job prune --older-than 30d` makes room"
    if free < LEAST_FREE:
        yield broken("disk space", says, remedy)
    elif found.f_files and found.f_favail < SHOWN:
        yield broken("disk space", "no more files can be made (no inodes are free)", remedy)
    elif free < LITTLE_FREE:
        yield warning("disk space", says, remedy)
    else:
        yield fine("disk space", says)


def _devices(patient: Patient) -> Iterator[Finding]:
    settings = Settings.load(find_project(patient.dir.root.parent))
    gpus = find_gpus(settings)
    whence = "by the settings" if settings.gpus is not None else "found"
    yield fine("GPUs", f"{len(gpus)} {whence}: {', '.join(gpus)}" if gpus else f"none {whence}")


def _settings(patient: Patient) -> Iterator[Finding]:
    try:
        Settings.load(find_project(patient.dir.root.parent))
    except MettaError as error:
        yield broken("settings", str(error).rstrip("."), "correct it: nothing can be submitted before")
    else:
        yield fine("settings", "can be read")


def _clock(patient: Patient) -> Iterator[Finding]:
    now, remedy = patient.now, "set the clock (`timedatectl`); no job is harmed, but times and ages are wrong"
    newest = None
    if patient.connection is not None:
        newest = patient.connection.execute("SELECT at FROM events ORDER BY id DESC LIMIT 1").fetchone()
    last = to_time(newest[0]) if newest else None
    if now.year < 2025:
        yield broken("clock", f"it is {now:%Y-%m-%d %H:%M} UTC, says the machine", remedy)
    elif last is not None and last - now > _FUTURE:
        yield warning("clock", f"the newest event is of {last:%Y-%m-%d %H:%M} UTC, which is yet to come", remedy)
    else:
        yield fine("clock", f"{now:%Y-%m-%d %H:%M} UTC")


def _versions(_: Patient) -> Iterator[Finding]:
    says = f"metta-jobs {__version__}, Python {platform.python_version()}, SQLite {sqlite3.sqlite_version}"
    if sqlite3.sqlite_version_info < (3, 35):
        yield broken("versions", says, "use a Python with SQLite 3.35 or newer")
    else:
        yield fine("versions", says)


