"""A job on two nodes, of which the second fails."""

from __future__ import annotations

import pytest

from metta_jobs.job import JobConfig
from metta_jobs.manager import JobManager
from metta_jobs.remote import RemoteConfig
from metta_jobs.states import JobState
from tests.skypilot.asker import PATIENCE_S

pytestmark = [pytest.mark.skypilot, pytest.mark.timeout(1500), pytest.mark.xdist_group("skypilot-2")]

_SAY = 'echo "$SKYPILOT_NODE_RANK of $SKYPILOT_NUM_NODES"; test "$METTA_NODE_RANK" = 0 || exit 3'


def test_each_node_runs_it_and_the_first_that_fails_is_told(manager: JobManager) -> None:
    remote = RemoteConfig(infra="slurm", gpus=0, cpus=0.5, nodes=2, workdir=None)
    manager.submit([JobConfig(name="both", command=("sh", "-c", _SAY), remote=remote)], group="g")
    (job,) = manager.wait(["g"], timeout_s=PATIENCE_S)
    assert (job.state, job.exit_code, job.attempt) == (JobState.FAILED, 3, 1)
    assert job.folder is not None
    said = (job.folder / "output.log").read_text().splitlines()
    assert {line for line in said if " of 2" in line} == {"0 of 2", "[rank 1] 1 of 2"}
