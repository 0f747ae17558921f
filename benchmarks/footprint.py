"""What a finished job leaves on the disk."""

from __future__ import annotations

import os
from pathlib import Path

from benchmarks import processes
from benchmarks.bed import Bed, bed, noops, until
from benchmarks.figures import Figure, Must


def measure(quick: bool) -> list[Figure]:
    """Bytes that jobs without output add to the state folder, the daemon stopped before and after."""
    jobs = 300 if quick else 2_000
    with bed() as place:
        place.warm()
        before = _sizes(place)
        place.run(noops(jobs), "many", patience_s=600)
        after = _sizes(place)
    grown = {kind: (after[kind] - before[kind]) / jobs for kind in after}
    return [
        Figure(
            "bytes.allocated",
            "bytes per finished job, files included, without output",
            grown["allocated"],
            "B",
            Must("<", 4096),
            f"disk blocks; {grown['apparent']:.0f} B by length, {grown['database']:.0f} B of them in the database",
            {"jobs": jobs, **grown},
        )
    ]


def _sizes(place: Bed) -> dict[str, int]:
    """Bytes of the state folder, at rest: by disk blocks, by length, and the database's own."""
    place.manager.stop_daemon()
    until(lambda: not processes.of_folder(place.root), "the runners' leave", every_s=0.1)
    place.let_go()
    apparent = allocated = 0
    for folder, _, files in os.walk(place.root):
        for path in (Path(folder), *(Path(folder, name) for name in files)):
            found = path.lstat()
            allocated += 512 * found.st_blocks
            apparent += found.st_size
    return {"allocated": allocated, "apparent": apparent, "database": place.database.stat().st_size}
