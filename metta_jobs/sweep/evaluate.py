"""`python -m metta_jobs.sweep.evaluate GROUP/JOB MODULE ARGS…`: run a recipe on what that job's training has left.

In ARGS, {checkpoint} is the newest checkpoint in the folder of the job's newest attempt, {folder} that folder.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from metta_jobs.errors import InvalidInput, MettaError
from metta_jobs.manager.look import Reader
from metta_jobs.metrics.artifacts import find_checkpoints


def command(arguments: Sequence[str]) -> list[str]:
    """The command that evaluates. Raises InvalidInput where the training has left no checkpoint that is asked for."""
    if len(arguments) < 2:
        raise InvalidInput("Say GROUP/JOB and MODULE.")
    target, module, *args = arguments
    with Reader(create=False) as reader:
        folder = reader.one(target).folder
    if folder is None:
        raise InvalidInput(f"{target} has not run.")
    checkpoints = find_checkpoints(folder)
    if not checkpoints and any("{checkpoint}" in text for text in args):
        raise InvalidInput(f"{target} has left no checkpoint in {folder / 'checkpoints'}.")
    newest = str(checkpoints[-1][1]) if checkpoints else ""
    filled = [text.replace("{checkpoint}", newest).replace("{folder}", str(folder)) for text in args]
    return [sys.executable, "-m", "metta_jobs", "run", module, *filled]


def main(arguments: Sequence[str]) -> int:
    """Become the evaluation; 2 when it cannot begin."""
    try:
        found = command(arguments)
    except MettaError as error:
        sys.stderr.write(f"error: {error}\n")
        return error.exit_code
    return os.execv(found[0], found)  # noqa: S606 - an argv list, no shell


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
