"""What `metta doctor` says of the ways out: the wandb login, SkyPilot's interpreter, its API server, its infras."""

from __future__ import annotations

import importlib.util
import json
import os
import sys
from pathlib import Path

import pytest

from metta_jobs import __version__
from metta_jobs.daemon.lock import DaemonLock
from metta_jobs.manager import reachable
from metta_jobs.paths import StateDir
from metta_jobs.upkeep import logins, stored
from metta_jobs.upkeep.findings import Finding, Verdict
from metta_jobs.upkeep.patient import Patient
from tests.executors.conftest import bed, sky_python
from tests.executors.sky_stand_in import Bed
from tests.processes import metta
from tests.store.rows import NOW, Rows, fresh_store

__all__ = ["bed", "sky_python"]
OK, WARNING, BROKEN = Verdict.OK, Verdict.WARNING, Verdict.BROKEN
_KEY = "a" * 40


def patient_of(root: Path, *, remote_jobs: int = 0) -> Patient:
    """A state folder with pending remote jobs, opened; without any, it is not even made."""
    if remote_jobs:
        root.mkdir(mode=0o700)
        rows = Rows(fresh_store(StateDir(root).database))
        for number in range(remote_jobs):
            rows.job(rows.group(f"g{number}"), "a")
        rows.run("""UPDATE jobs SET config = json_set(config, '$.remote', json('{"cpus": 1}'))""")
        rows.store.close()
    patient = Patient(StateDir(root), NOW)
    if remote_jobs:
        list(stored.database(patient))
    return patient


# ------------------------------------------------------------------------------------------------ wandb


def wandb(root: Path, remote_jobs: int = 0, **environment: str) -> Finding:
    patient = patient_of(root / "job_state", remote_jobs=remote_jobs)
    (found,) = logins.look(patient, {"HOME": str(root), **environment})
    patient.close()
    assert _KEY not in str(found.to_dict())
    return found


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An installed wandb that may not be imported."""
    (tmp_path / "site" / "wandb").mkdir(parents=True)
    (tmp_path / "site" / "wandb" / "__init__.py").write_text("raise SystemExit('imported')")
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    monkeypatch.delitem(sys.modules, "wandb", raising=False)


@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize(
    ("environment", "verdict", "words"),
    [
        ({}, OK, "not logged in: runs are logged offline"),
        ({"WANDB_API_KEY": _KEY}, OK, "logged in by WANDB_API_KEY: runs are logged online"),
        ({"WANDB_MODE": "offline", "WANDB_API_KEY": _KEY}, OK, "WANDB_MODE=offline: runs are logged offline"),
        ({"WANDB_MODE": "disabled"}, OK, "nothing is logged"),
        ({"WANDB_MODE": "online"}, WARNING, "WANDB_MODE=online, but not logged in: runs will fail"),
        ({"WANDB_BASE_URL": f"https://me:{_KEY}@wandb.lab.org/x"}, OK, "not logged in at wandb.lab.org"),
    ],
)
def test_wandb(tmp_path: Path, environment: dict[str, str], verdict: Verdict, words: str) -> None:
    found = wandb(tmp_path, **environment)
    assert (found.verdict, words in found.says) == (verdict, True), found
    assert ("wandb login" in (found.remedy or "")) is ("not logged in" in found.says)


@pytest.mark.usefixtures("installed")
def test_wandb_by_netrc(tmp_path: Path) -> None:
    netrc = tmp_path / ".netrc"
    netrc.write_text(f"machine api.wandb.ai login user password {_KEY}\n")
    found = wandb(tmp_path, remote_jobs=1)
    assert (found.verdict, f"logged in by {netrc}" in found.says) == (OK, True)
    assert "remote jobs are sent WANDB_API_KEY alone" in found.details[0]
    netrc.write_text(f"machine api.wandb.ai\nlogin user {_KEY} x\n")
    os.utime(netrc, (1, 1))
    (tmp_path / "job_state").rename(tmp_path / "old")
    found = wandb(tmp_path)
    assert (found.verdict, f"of {netrc} cannot be understood" in found.says) == (WARNING, True)


def test_a_folder_of_runs_called_wandb_is_no_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    assert wandb(tmp_path).says.startswith("not installed in this environment")


# ------------------------------------------------------------------------------------------------ SkyPilot


def look(root: Path, *, remote_jobs: int = 0, deadline_s: float = 60.0) -> dict[str, Finding]:
    patient = patient_of(root, remote_jobs=remote_jobs)
    found = {finding.check: finding for finding in reachable.examine(patient, deadline_s=deadline_s)}
    patient.close()
    assert not (root / "sky-asked.log").exists()
    return found


@pytest.fixture
def nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)


@pytest.mark.usefixtures("nowhere")
@pytest.mark.parametrize(("remote_jobs", "verdict"), [(0, OK), (2, BROKEN)])
def test_without_skypilot_only_remote_jobs_are_in_trouble(tmp_path: Path, remote_jobs: int, verdict: Verdict) -> None:
    found = look(tmp_path / "job_state", remote_jobs=remote_jobs)
    assert list(found) == ["SkyPilot"]
    assert found["SkyPilot"].verdict is verdict
    assert "not installed" in found["SkyPilot"].says
    assert ("2 remote jobs cannot go on" in found["SkyPilot"].says) is (verdict is BROKEN)
    assert 'uv tool install "skypilot' in (found["SkyPilot"].remedy or "")


@pytest.fixture
def stands_in(bed: Bed, sky_python: str, monkeypatch: pytest.MonkeyPatch) -> Bed:
    monkeypatch.setenv("METTA_SKY_PYTHON", sky_python)
    return bed


def test_a_python_that_has_none_or_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for python, words in ((sys.executable, "has no SkyPilot"), (str(tmp_path / "none"), "cannot be run")):
        if python == sys.executable and importlib.util.find_spec("sky"):
            continue
        monkeypatch.setenv("METTA_SKY_PYTHON", python)
        found = look(tmp_path / "job_state")
        assert (found["SkyPilot"].verdict, words in found["SkyPilot"].says) == (WARNING, True)
        assert list(found) == ["SkyPilot"]


def test_skypilot_that_is_well(stands_in: Bed, sky_python: str, tmp_path: Path) -> None:
    stands_in.says(enabled_clouds={"value": ["Slurm", "Kubernetes"]})
    found = look(tmp_path / "job_state")
    assert {finding.verdict for finding in found.values()} == {OK}
    assert sky_python in found["SkyPilot"].says
    assert found["API server"].says == "http://127.0.0.1:46580, SkyPilot 0.14.0"  # without the password
    assert found["infra"].says == "kubernetes, slurm are enabled"
    assert not (tmp_path / "job_state").exists()


@pytest.mark.parametrize(
    ("book", "check", "says", "remedy"),
    [
        ({"enabled_clouds": {"value": []}}, "infra", "none is enabled", "sky check"),
        ({"/api/health": {"value": {"status": "ill"}}}, "API server", "not healthy", "sky api status"),
        ({"/api/health": {"raise": ["ConnectionRefused", "x"]}}, "API server", "refuses", "sky api start"),
        ({"enabled_clouds": {"raise": ["RuntimeError", "no right"]}}, "API server", "error instead", "sky check"),
        ({"import": {"raise": ["ImportError", "no pandas"]}}, "API server", "no pandas", "import sky"),
        ({"/api/health": {"exit": 5}}, "API server", "exit code 5", "sky api status"),
    ],
)
def test_skypilot_that_is_not(
    stands_in: Bed, tmp_path: Path, book: dict[str, object], check: str, says: str, remedy: str
) -> None:
    stands_in.says(**book)
    for remote_jobs, verdict in ((0, WARNING), (1, BROKEN)):
        found = look(tmp_path / "job_state", remote_jobs=remote_jobs)[check]
        assert (found.verdict, says in found.says, remedy in (found.remedy or "")) == (verdict, True, True), found
        assert "sky.log" not in found.says


def test_what_it_printed_before_it_died_is_shown(stands_in: Bed, tmp_path: Path) -> None:
    stands_in.says(**{"/api/health": {"print": "an odd warning", "exit": 5}})
    assert "an odd warning" in look(tmp_path / "job_state")["API server"].details


def test_a_skypilot_that_hangs_is_given_up(stands_in: Bed, tmp_path: Path) -> None:
    stands_in.hold("enabled_clouds")
    found = look(tmp_path / "job_state", deadline_s=1)
    assert found["API server"].says == "no answer within 1 s"


def test_a_daemon_whose_environment_leads_elsewhere(stands_in: Bed, tmp_path: Path) -> None:
    patient = patient_of(tmp_path / "job_state", remote_jobs=1)
    lock = DaemonLock(patient.dir.daemon_lock)
    assert lock.acquire({"pid": os.getpid(), "started_at": NOW.isoformat(), "version": __version__})
    found = next(reachable.examine(patient, ask=False))  # this process began without METTA_SKY_PYTHON
    patient.close()
    lock.release()
    assert (found.verdict, "the daemon, which started in another shell" in found.says) == (BROKEN, True)
    assert "sky_python" in (found.remedy or "")


def test_the_command_says_that_it_asks_and_can_be_told_not_to(stands_in: Bed, tmp_path: Path) -> None:
    stands_in.says(enabled_clouds={"value": ["Slurm"]})
    done = metta("--state-dir", tmp_path / "job_state", "doctor")
    assert (done.returncode, "Asking SkyPilot" in done.stderr) == (0, True), done
    assert "ok       infra         slurm is enabled.\nNothing is wrong.\n" in done.stdout
    done = metta("--state-dir", tmp_path / "job_state", "doctor", "--json")
    assert [check["check"] for check in json.loads(done.stdout)["checks"]][-4:] == [
        *("wandb", "SkyPilot", "API server", "infra")
    ]
    assert done.stderr == ""
    asked = len(stands_in.calls("import"))
    done = metta("--state-dir", tmp_path / "job_state", "doctor", "--no-remote")
    assert "SkyPilot" in done.stdout
    assert "API server" not in done.stdout
    assert len(stands_in.calls("import")) == asked
