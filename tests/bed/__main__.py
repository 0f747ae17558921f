"""A real SkyPilot for tests and for people who try things: `python -m tests.bed VERB`.

up          starts munge, slurmctld, slurmd, sshd and SkyPilot's API server; waits until SkyPilot can use Slurm
down        ends them and removes what was written
env         the lines that point a shell at it: eval "$(python -m tests.bed env)"
status      what runs
outage S    kills the API server, and starts it again after S seconds
run CMD …   up, CMD with the bed's environment, down, whatever happens; the exit status is CMD's

METTA_BED_DIR is its folder (by default metta-bed below the temporary folder), METTA_TEST_SKY_PYTHON a Python that has
skypilot[slurm] (by default one is made). Exit status 77: this machine cannot carry a bed. Where it cannot, or none
comes up, `run` runs CMD without, unless METTA_BED_REQUIRED is set.
"""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.bed.bed import Bed, Unavailable
from tests.bed.members import members

CANNOT = 77


def main(words: list[str]) -> int:
    """Do what the command line says; its exit status."""
    bed = here()
    match words:
        case ["up"]:
            try:
                started(bed)
            except Unavailable as why:
                print(f"bed: {why}", file=sys.stderr)
                return CANNOT
        case ["down"]:
            bed.down()
        case ["env"]:
            for name, value in bed.env().items():
                print(f"export {name}={shlex.quote(value)}")
        case ["status"]:
            print("API server:", "up" if bed.answers() else "down", f"\nprocesses: {len(members(bed.folder))}")
            if bed.answers():
                print(bed.slurm("squeue", may_fail=True), end="")
        case ["outage", seconds]:
            bed.stop_server()
            time.sleep(float(seconds))
            bed.start_server()
        case ["run", _, *_]:
            return run(bed, words[1:])
        case _:
            print(__doc__, file=sys.stderr)
            return 2
    return 0


def here() -> Bed:
    """The bed that the environment names."""
    folder = os.environ.get("METTA_BED_DIR") or Path(tempfile.gettempdir()) / "metta-bed"
    return Bed(Path(folder).resolve(), os.environ.get("METTA_TEST_SKY_PYTHON") or None)


def started(bed: Bed) -> None:
    """Have it up, or nothing of it."""
    begun = time.monotonic()
    try:
        bed.up()
    except BaseException:
        bed.down()
        raise
    print(f"bed: up after {time.monotonic() - begun:.0f} s in {bed.folder}", file=sys.stderr)


def run(bed: Bed, command: list[str]) -> int:
    """Run a command on a bed of its own."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        started(bed)
    except (Unavailable, RuntimeError) as why:  # what does not come up here says nothing of what is tried on it
        print(f"bed: {why}", file=sys.stderr)
        if os.environ.get("METTA_BED_REQUIRED"):
            return CANNOT
        return subprocess.run(
            command, env={**os.environ, "METTA_BED_MISSING": str(why).partition("\n")[0]}, check=False
        ).returncode
    try:
        return subprocess.run(command, env={**os.environ, **bed.env()}, check=False).returncode
    finally:
        bed.down()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
