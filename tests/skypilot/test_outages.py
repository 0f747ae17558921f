"""The API server dies with one job running and one on its way, and comes back after nearly a minute."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from metta_jobs.executors.sky.ledger import Ledger
from metta_jobs.job import JobConfig
from metta_jobs.manager import JobManager
from metta_jobs.paths import StateDir
from metta_jobs.remote import RemoteConfig
from metta_jobs.states import JobState
from tests.bed.bed import Bed
from tests.processes import metta, until
from tests.skypilot.asker import PATIENCE_S, Asker

pytestmark = [pytest.mark.skypilot, pytest.mark.timeout(1500), pytest.mark.xdist_group("skypilot-1")]

_WAIT = 'echo "$0" >> "$1"; until [ -e "$2" ]; do sleep 1; done'


def test_an_api_server_that_dies_and_comes_back(
    manager: JobManager, asker: Asker, bed: Bed, name_start: str, project: Path, tmp_path: Path
) -> None:
    traces, gate = tmp_path / "traces", tmp_path / "gate"

    def submit(name: str) -> int:
        command = ("sh", "-c", _WAIT, name, str(traces), str(gate))
        remote = RemoteConfig(infra="slurm", gpus=0, cpus=0.5, workdir=None)
        (job,) = [
            job
            for job in manager.submit([JobConfig(name=name, command=command, remote=remote)], group="g").jobs
            if job.name == name
        ]
        return job.id

    steady = submit("steady")
    until(lambda: manager.job(steady).state is JobState.RUNNING, "its start", PATIENCE_S)
    caught = submit("caught")
    folder = StateDir(manager.state_dir).attempt(caught, 1)
    until(lambda: (known := Ledger.load(folder) if folder.exists() else None) and known.request_id, "its launch")
    bed.stop_server()
    try:
        seen = manager.last_event()
        until(lambda: "SkyPilot has not answered for" in (manager.warning(True) or ""), "what is said", PATIENCE_S)
        shown = metta("job", "monitor", "g", "--once", cwd=project)
        assert "SkyPilot has not answered for" in shown.stdout
        assert manager.job(steady).state is JobState.RUNNING
        assert manager.job(caught).state is JobState.LAUNCHING
        assert [event for event in manager.all_events(after=seen) if event.kind == "state"] == []
    finally:
        bed.start_server()
    until(lambda: manager.job(caught).state is JobState.RUNNING, "the start of what was on its way", PATIENCE_S)
    assert manager.job(steady).state is JobState.RUNNING
    gate.touch()
    jobs = manager.wait(["g"], timeout_s=PATIENCE_S)
    assert [(job.name, job.state, job.attempt) for job in jobs] == [
        ("steady", JobState.SUCCEEDED, 1),
        ("caught", JobState.SUCCEEDED, 1),
    ]
    assert Counter(traces.read_text().split()) == {"steady": 1, "caught": 1}
    # What the server forgot before it had begun was cancelled, and launched anew.
    records = Counter((record["job_name"], record["status"]) for record in asker.records(name_start))
    assert records.pop((f"{name_start}{caught}-1-caught", "CANCELLED"), 0) <= 1
    assert records == {(f"{name_start}{job.id}-1-{job.name}", "SUCCEEDED"): 1 for job in jobs}
