from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

HEAVY = ("torch", "sky", "wandb", "pandas", "dash", "numpy", "matplotlib", "alembic", "nbformat", "stable_baselines3")


@pytest.mark.parametrize("arguments", [["job", "list"], ["job", "list", "g"], ["--help"]])
def test_listing_jobs_loads_nothing_heavy(state_dir: Path, arguments: list[str]) -> None:
    subprocess.run(
        [
            sys.executable,
            "-m",
            "metta_jobs",
            "--state-dir",
            str(state_dir),
            "job",
            "submit",
            "--group",
            "g",
            "--",
            "true",
        ],
        check=True,
    )
    code = (
        "import json, sys\n"
        "from metta_jobs.cli.app import run\n"
        "try:\n    run(sys.argv[1:])\n"
        "except SystemExit:\n    pass\n"
        "print('MODULES', json.dumps(sorted({name.partition('.')[0] for name in sys.modules})))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "--state-dir", str(state_dir), *arguments],
        capture_output=True,
        text=True,
        check=True,
    )
    loaded = set(json.loads(done.stdout.partition("MODULES ")[2]))
    assert loaded & set(HEAVY) == set()
    assert "metta_jobs" in loaded
