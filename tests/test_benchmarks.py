"""The benchmarks run, and write what programs read. How good the figures are is no test: machines are noisy."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def test_the_reference_is_measured_and_written_as_json(tmp_path: Path) -> None:
    path = tmp_path / "figures.json"
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks", "--quick", "reference", "--json", path],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "python3 -c pass" in done.stdout
    found = json.loads(path.read_text())
    assert found.keys() == {"began_at", "quick", "machine", "figures", "failures"}
    assert found["failures"] == {}
    assert {"metta_jobs", "python", "sqlite", "cores"} <= found["machine"].keys()
    figures = {figure["name"]: figure for figure in found["figures"]}
    assert figures.keys() == {"reference.spawn", "reference.python", "reference.fsync"}
    keys = {"name", "what", "value", "unit", "must", "ok", "note", "reference", "detail"}
    for figure in figures.values():
        assert figure.keys() == keys
        assert figure["value"] > 0
        assert figure["reference"].keys() == {"spawns_per_s", "python_ms", "fsync_ms"}


def test_a_benchmark_that_does_not_exist_is_refused_with_those_that_do() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks", "speed"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert "no benchmark 'speed'" in done.stderr
    assert "throughput" in done.stderr
