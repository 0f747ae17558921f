"""Starting an attempt's command, and saying why it could not be started. Standard library only: the runner uses it."""

from __future__ import annotations

import errno
import os
import signal

if __package__:
    from metta_jobs.executors.folders import Folders
else:
    from folders import Folders  # type: ignore[import-not-found, no-redef]

Line = dict[str, object]
#: No fault of the command's: it may be started again.
_PASSING = {errno.EAGAIN, errno.ENOMEM, errno.EMFILE, errno.ENFILE, errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS}


class Unready(Exception):
    """The place is not ready for the command, which is none of its faults."""


def spawn(spec: Line, folders: Folders) -> int:
    """Start the command in a session of its own, its output going straight to the log; return its process id.

    Raises Unready, or OSError or ValueError where the command itself is to blame.
    """
    folder, command, env = str(spec["folder"]), list(spec["command"]), dict(spec["env"])  # type: ignore[call-overload]
    try:
        log = folders.open(folder)
    except OSError as error:
        raise Unready(f"its folder cannot be made: {error.strerror}") from error
    try:
        os.chdir(str(spec["cwd"] or "/"))
        return os.posix_spawn(
            _find(command[0], env.get("PATH", os.defpath)),
            command,
            env,
            file_actions=[
                (os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0),
                (os.POSIX_SPAWN_DUP2, log, 1),
                (os.POSIX_SPAWN_DUP2, log, 2),
            ],
            setsid=True,
            setsigdef=[signal.SIGPIPE, signal.SIGXFSZ],
        )
    except OSError as error:
        if error.errno in _PASSING:
            raise Unready(error.strerror) from error
        raise
    finally:
        os.close(log)


def _find(program: str, path: str) -> str:
    if "/" in program:
        return program
    places = [os.path.join(folder, program) for folder in path.split(os.pathsep) if folder]
    for place in places:
        if os.access(place, os.X_OK) and os.path.isfile(place):
            return place
    raise FileNotFoundError(errno.ENOENT, "not found", program)


def explain(spec: Line, error: OSError | ValueError) -> tuple[int, str]:
    """The exit code and the reason of a command that could not be started by its own fault."""
    program, cwd = str(spec["command"][0]), str(spec["cwd"] or "/")  # type: ignore[index]
    if isinstance(error, FileNotFoundError | NotADirectoryError):
        if not os.path.isdir(cwd):
            return 127, f"the folder {cwd} does not exist"
        if os.path.exists(os.path.join(cwd, program)) and "/" in program:
            return 127, f"the interpreter that {program} names in its first line does not exist"
        return 127, f"the command {program} does not exist"
    why = error.strerror if isinstance(error, OSError) else error
    return 126, f"{program} cannot be started: {why}"
