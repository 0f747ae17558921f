"""An attempt's folder, made before its command starts and gone again when that has left nothing there.

A folder that stayed empty is kept aside for the next attempt: renaming it takes a tenth of the time of making one.
Standard library only: the runner uses it.
"""

from __future__ import annotations

import contextlib
import os

LOG = "output.log"


class Folders:
    """One runner's. `spare` is the path of the folder that is kept aside."""

    def __init__(self, spare: str) -> None:
        self._spare = spare
        self._kept = False

    def open(self, folder: str) -> int:
        """Make jobs/<id>/<attempt> and return a descriptor of its log, to append to. Raises OSError."""
        job, _, number = folder.rpartition("/")
        if self._kept and number == "1" and not os.path.exists(job):
            os.rename(self._spare, job)
            self._kept = False
        else:
            os.makedirs(folder, 0o700, exist_ok=True)
        return os.open(f"{folder}/{LOG}", os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)

    def close(self, folder: str, *, alone: bool) -> None:
        """Remove what is empty. `alone` says that nobody is left who could still write there."""
        job, _, number = folder.rpartition("/")
        log = f"{folder}/{LOG}"
        try:
            if os.stat(log).st_size:
                return
            if alone and number == "1" and not self._kept and os.listdir(job) == ["1"] and os.listdir(folder) == [LOG]:
                os.rename(job, self._spare)
                self._kept = True
                return
            os.unlink(log)
            os.rmdir(folder)
            os.rmdir(job)
        except OSError:
            return  # it holds something, or the job has removed it itself

    def leave(self) -> None:
        """Remove the folder that is kept aside."""
        remove_spare(self._spare)


def remove_spare(spare: str) -> None:
    """Remove a folder that a runner has kept aside, where there is one."""
    with contextlib.suppress(OSError):
        os.unlink(f"{spare}/1/{LOG}")
        os.rmdir(f"{spare}/1")
        os.rmdir(spare)
