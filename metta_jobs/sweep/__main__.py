"""`python -m metta_jobs.sweep NAME`: the loop of a sweep, which is itself a job of the sweep's group."""

from __future__ import annotations

import sys

from metta_jobs.errors import MettaError
from metta_jobs.manager import JobManager
from metta_jobs.sweep.book import Book
from metta_jobs.sweep.loop import Loop


def main(arguments: list[str]) -> int:
    """Run the loop until the sweep has ended; 2 when it cannot go on."""
    if len(arguments) != 1:
        sys.stderr.write("usage: python -m metta_jobs.sweep NAME\n")
        return 2
    try:
        with JobManager(create=False) as manager, Book(manager.state_dir) as book:
            return Loop(manager, book, arguments[0], _say).run()
    except MettaError as error:
        sys.stderr.write(f"error: {error}\n")
        return error.exit_code


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
