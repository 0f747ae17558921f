"""State folders for the doctor to look over."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

from metta_jobs.paths import StateDir
from metta_jobs.upkeep import doctor
from metta_jobs.upkeep.findings import Finding
from metta_jobs.upkeep.patient import Patient
from tests.store.rows import NOW, Rows, fresh_store


def examine(state_dir: StateDir, now: datetime) -> list[Finding]:
    """All that is found without asking SkyPilot."""
    patient = Patient(state_dir, now)
    try:
        return list(doctor.examine(patient))
    finally:
        patient.close()


class Case:
    """A state folder with a queue, to be looked over."""

    def __init__(self, root: Path) -> None:
        root.mkdir(mode=0o700)
        self.dir = StateDir(root)
        self.rows = Rows(fresh_store(self.dir.database))

    def folder(self, job: int, size: int = 1000) -> Path:
        attempt = self.dir.attempt(job, 1)
        attempt.mkdir(parents=True)
        (attempt / "output.log").write_bytes(b"x" * size)
        return attempt.parent

    def find(self, check: str, now: datetime = NOW) -> Finding:
        """The finding of this check."""
        found = {finding.check: finding for finding in examine(self.dir, now)}
        assert check in found, found
        return found[check]
